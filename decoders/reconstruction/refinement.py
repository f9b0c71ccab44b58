"""The preview's last two seconds, made more probable by a few steps of the inversion while the decoder is idle.

The movie that the preview showed is where it begins, and what the prior is centred on; steps are those of
`decoders.reconstruction.fast_inversion`, on coefficients that the preview's usual errors make alike, and each is cut
into pieces short enough for the time between two frames. When the window moves on, what was found so far moves with
it. Imports torch: only the process of a preview that is to refine does.
"""

import copy
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from decoders.checkpoint import Checkpoint
from decoders.reconstruction.encoder import HEIGHT_PX, WIDTH_PX, load_encoder, mouse_index
from decoders.reconstruction.fast_inversion import SMALLEST, FastRecipe
from decoders.reconstruction.light_encoder import CONTRAST, GREY, LightEncoder, Readout
from decoders.reconstruction.movie_prior import MoviePrior, MovieSpace, checked_preview
from decoders.reconstruction.response_noise import ResponseNoise
from decoders.windows import RecentFeatures
from rig.errors import CheckpointError

_FRAMES = 60  # of the window
_SETTLING_FRAMES = 20  # by which a refined picture is later than the preview's: so long it has been refined
_STEP = 0.05  # standard deviations of the preview's errors; larger ones gain less, as the window moves on
_RECIPE = FastRecipe()
_NEURONS, _FILTERED, _MAPPED = (
    50,
    20,
    4,
)  # in one piece: neurons, frames through the filters, frames through the core
_PER_NEURON = ("offset", "log_width", "weight", "bias", "log_scale", "gain", "shift", "place", "response_std")

Floats = NDArray[np.float32]


class Refinement:
    """Refines what a preview shows; see `decoders.protocols.Explaining`.

    The animal's behaviour is not known to a live decoder: it is taken to be what it was on average in the encoder's
    training.

    Parameters
    ----------
    encoder
        Of the preview's neurons, as its mouse `mouse`.
    preview
        Its file's content, which tells how far it errs, and how late it is.
    """

    def __init__(self, encoder: LightEncoder, mouse: int, preview: Checkpoint, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        network = encoder.network
        readout = network.readout(mouse)
        lag_frames: int = preview.settings["lag_frames"]
        self.lag_frames = lag_frames + _SETTLING_FRAMES
        self._encoder, self._mouse, self._core = encoder, mouse, network.core
        self._shown_frames = _FRAMES - lag_frames  # of the window, those that the preview has read by now
        neurons = len(readout.bias)
        self._readouts = [_part(readout, slice(k, k + _NEURONS)) for k in range(0, neurons, _NEURONS)]
        usual = readout.signal_mean[None, :, None].expand(1, -1, _FRAMES)
        self._history = network.history(usual, mouse)
        everywhere = np.ones((HEIGHT_PX, WIDTH_PX), np.bool_)
        black = np.zeros((_FRAMES, HEIGHT_PX, WIDTH_PX), np.float32)
        prior = MoviePrior.around(black, preview)
        self._space = MovieSpace.of(prior, _FRAMES, everywhere, torch.device("cpu"))
        self._neurons = neurons
        self.forget()
        self._warm_up()

    def forget(self) -> None:
        """Begin with an empty window."""
        self._responses = RecentFeatures(_FRAMES, self._neurons)
        self._preview = RecentFeatures(self._shown_frames, HEIGHT_PX * WIDTH_PX)
        self._correction = np.zeros((_FRAMES, HEIGHT_PX, WIDTH_PX), np.float32)  # of what the preview showed
        self._found: Floats | None = None
        self._power: Tensor | None = None
        self._since = 0  # moments since the step that is being made began, or the last one did
        self._pieces: Iterator[None] | None = None

    def follow(self, responses: Floats, shown: Floats, missed: int = 0) -> None:
        """Take one moment's responses (N,) and what the preview showed (36, 64).

        Of each of `missed` moments before this one no response is known.
        """
        for _ in range(min(missed, _FRAMES)):
            self._push(np.full_like(responses, np.nan), shown)
        self._push(responses, shown)

    def _push(self, responses: Floats, shown: Floats) -> None:
        self._window = self._responses.push(responses)
        self._seen = self._preview.push(shown.ravel())
        self._since += 1

    @property
    def has_work(self) -> bool:
        """Whether a step is being made, or can begin: one at most for each moment."""
        return self._pieces is not None or (self._responses.full and self._since > 0)

    def work(self) -> Floats | None:
        """Do one piece; when the step is done, the picture (36, 64) shown `lag_frames` before the newest moment."""
        if self._pieces is None:
            self._pieces = self._step()
        with suppress(StopIteration):
            next(self._pieces)
            return None
        self._pieces = None
        return next(iter(self.pictures), None)  # none when the step took so long that the window has moved on

    @property
    def pictures(self) -> Floats:
        """What the last step found, from the frame shown `lag_frames` before the newest moment on: (frames, 36, 64)."""
        if self._found is None:
            return np.empty((0, HEIGHT_PX, WIDTH_PX), np.float32)
        return self._found[_FRAMES - 1 - self.lag_frames + self._since : self._shown_frames]

    def _warm_up(self) -> None:
        """Make a step of nothing: the first one allocates, which no frame must wait for."""
        grey = np.full((HEIGHT_PX, WIDTH_PX), GREY, np.float32)
        for _ in range(_FRAMES):
            self.follow(np.zeros(self._neurons, np.float32), grey)
        self.work()
        while self._pieces is not None:
            self.work()
        self.forget()

    def _step(self) -> Iterator[None]:
        """One step; a pause is where a frame may be decoded."""
        shown, correction = self._shown(), self._moved_on()
        responses, self._since = self._window.T.copy(), 0
        responses[:, : self._encoder.shortest - 1] = np.nan  # they also tell of frames before the window
        z = self._space.coefficients(torch.from_numpy(correction))
        movie = torch.from_numpy(shown + correction)
        noise = ResponseNoise.of(self._encoder, self._mouse, responses, movie.device, _RECIPE.common)
        yield
        of_movie = torch.zeros_like(movie)
        yield from self._differentiate(movie, noise, of_movie)
        gradient = _RECIPE.trust_again * self._space.gradient(of_movie) + z
        square = gradient.square()
        self._power = (
            square if self._power is None else torch.lerp(square, self._power, _RECIPE.second_momentum)
        )
        # with the mean, what the responses hardly tell of does not move as far as the rest
        z = z - _STEP * gradient / ((self._power + self._power.mean()).sqrt() + SMALLEST)
        yield
        self._correction = self._space.movie(z).numpy()
        self._found = (shown + self._correction).clip(0, 255)

    def _shown(self) -> Floats:
        """The window's movie (frames, 36, 64) as the preview showed it."""
        movie = np.empty((_FRAMES, HEIGHT_PX, WIDTH_PX), np.float32)
        movie[: self._shown_frames] = self._seen.reshape(-1, HEIGHT_PX, WIDTH_PX)
        movie[self._shown_frames :] = movie[self._shown_frames - 1]  # not read yet
        return movie

    def _moved_on(self) -> Floats:
        """What the last step found wrong with the frames of the window as it is now; nothing with new ones."""
        known = max(_FRAMES - self._since, 0)
        return np.concatenate([self._correction[self._since :], np.zeros_like(self._correction[known:])])

    def _differentiate(self, movie: Tensor, noise: ResponseNoise, of_movie: Tensor) -> Iterator[None]:
        """Fill in the gradient of the misfit, stage by stage and each in parts: forth, then back."""
        video = _leaf((movie[None] - GREY) / CONTRAST)
        filtered = []
        for k in range(0, _FRAMES, _FILTERED):
            filtered.append(self._core.filtered(video[:, k : k + _FILTERED]))
            yield
        before = self._core.config.taps - 1
        seen = _leaf(nn.functional.pad(torch.cat(filtered, 2), (0, 0, before, 0)))
        mapped = []
        for k in range(0, _FRAMES, _MAPPED):
            mapped.append(self._core.mapped(seen[:, :, k : k + _MAPPED + before]))
            yield
        maps = _leaf(torch.cat(mapped, 1))
        answered = []
        for readout in self._readouts:
            answered.append(readout(maps, self._history) * readout.response_std[:, None])
            yield
        answers = _leaf(torch.cat(answered, 1))
        noise.misfit(answers[0]).backward()  # type: ignore[no-untyped-call]
        yield from _back(answered, _gradient(answers), 1)
        yield from _back(mapped, _gradient(maps), 1)
        yield from _back(filtered, _gradient(seen)[:, :, before:], 2)
        of_movie.copy_(_gradient(video)[0] / CONTRAST)


def load_refinement(path: Path, preview: Checkpoint, preview_path: Path, threads: int) -> Refinement:
    """Make the refinement of a preview with an encoder's file.

    Raises
    ------
    CheckpointError
        When the file is no light encoder, or does not know the preview's neurons, or the preview not how far it errs.
    """
    checked_preview(preview, preview_path)
    encoder = load_encoder(path)
    if not isinstance(encoder, LightEncoder):
        raise CheckpointError(f"{path}: a {encoder.kind!r} encoder; valid to refine a preview is 'light'")
    mouse = mouse_index(encoder, preview.provenance.get("mouse", ""), preview.settings["neurons"], path)
    return Refinement(encoder, mouse, preview, threads)


def _leaf(values: Tensor) -> Tensor:
    """What a stage begins with: its gradient is gathered, and goes no further back by itself."""
    return values.detach().requires_grad_()


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def _back(parts: list[Tensor], gradient: Tensor, axis: int) -> Iterator[None]:
    """Take a gradient back through a stage, part by part."""
    begin = 0
    for part in parts:
        torch.autograd.backward(part, gradient.narrow(axis, begin, part.shape[axis]))
        begin += part.shape[axis]
        yield


def _part(readout: Readout, chosen: slice) -> Readout:
    """A readout of some of the neurons."""
    part = copy.deepcopy(readout)
    for name in _PER_NEURON:
        values = getattr(readout, name)[chosen].detach().clone()
        is_weight = isinstance(getattr(readout, name), nn.Parameter)
        setattr(part, name, nn.Parameter(values, requires_grad=False) if is_weight else values)
    return part
