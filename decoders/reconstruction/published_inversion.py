"""Movie reconstruction as published: gradient descent on the pixels through an encoder, window by window.

Bauer, Margrie, Clopath, eLife 14: RP105081 (2026), doi 10.7554/eLife.105081, for natural movies. An ensemble
reconstructs once a model, and the movies are averaged. No smoothing is applied; the authors smooth afterwards.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decoders.reconstruction.dwiseneuro_encoder import DwiseNeuroEncoder
from decoders.reconstruction.encoder import HEIGHT_PX, WIDTH_PX, Encoder, as_batch, middle
from decoders.reconstruction.inversion_state import InversionState
from decoders.reconstruction.problem import InversionOptions, InversionProblem
from decoders.reconstruction.progress import Advance, show_progress
from rig.errors import DataError

_SMALLEST_NORM = 1e-6  # added to the norm of a gradient; published
_SMALLEST_RATE = 1e-8  # added within the logarithm of the Poisson loss; published

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class PublishedRecipe:
    """The numbers of the published recipe, in grey levels and frames.

    `models`: an ensemble's movies are averaged, or the gradients within one reconstruction. Windows are independent,
    so `windows_at_once` of them (None: 1 on a CPU; on a GPU 4, of a light encoder 40) are computed together, which
    changes nothing but time and memory, about 3 GB each at the published size of the network. With `batched` off,
    every window and every start position of the network is a forward pass of its own, as published.
    """

    iterations: int = 1000
    learning_rate: float = 1000.0
    warm_up: int = 10
    momentum: float = 0.9
    second_momentum: float = 0.999  # only its bias correction is left of Adam's second moment
    window: int = 32
    stride: int = 8
    start: float = 127.5
    largest_gradient: float = 1.0
    loss: Literal["poisson", "squared"] = "poisson"
    models: Literal["movies", "gradients"] = "movies"
    batched: bool = True
    windows_at_once: int | None = None

    def rate(self, iteration: int) -> float:
        """Grey levels per unit of the moment, with Adam's bias corrections, that of the first moment twice."""
        first, second = (1 - beta ** (iteration + 1) for beta in (self.momentum, self.second_momentum))
        warm = min(1.0, iteration / self.warm_up) if self.warm_up else 1.0
        return self.learning_rate * warm * math.sqrt(second) / first**2


def invert_published(
    encoders: Sequence[Encoder],
    problem: InversionProblem,
    options: InversionOptions,
    recipe: PublishedRecipe | None = None,
) -> NDArray[np.float32]:
    """Reconstruct a movie with every model and average, (T, 36, 64) in grey levels 0 to 255.

    Raises
    ------
    DataError
        When the loss is not finite, or the state in `options.folder` is of another reconstruction.
    """
    recipe = recipe or PublishedRecipe()
    iterations, together = (
        options.iterations or recipe.iterations,
        options.windows_at_once or recipe.windows_at_once,
    )
    recipe = replace(recipe, iterations=iterations, windows_at_once=together)
    groups = [list(encoders)] if recipe.models == "gradients" else [[encoder] for encoder in encoders]
    identity = repr(replace(recipe, batched=True, windows_at_once=None))  # these two do not change the movie
    states = [InversionState.of(options, f"model-{at}", problem, identity) for at in range(len(groups))]
    with show_progress(len(groups) * recipe.iterations, shown=options.progress) as advance:
        planes = [
            reconstruct(group, problem, recipe, state, advance)
            for group, state in zip(groups, states, strict=True)
        ]
    for state in states:
        if state:
            state.remove()
    movies = np.stack([middle(plane) for plane in planes])
    return np.asarray(movies.mean(axis=0), np.float32)


def reconstruct(
    encoders: Sequence[Encoder],
    problem: InversionProblem,
    recipe: PublishedRecipe,
    state: InversionState | None = None,
    advance: Advance | None = None,
) -> NDArray[np.float32]:
    """One reconstruction by the mean gradient of some models: the whole planes (T, h, w), padding included.

    `advance` is told the loss and how many iterations were made; see `invert_published`.
    """
    parts = [_Model.of(encoder, problem, recipe) for encoder in encoders]
    size = encoders[0].input_size
    if any(encoder.input_size != size for encoder in encoders):
        raise DataError("gradients of models with planes of different sizes cannot be averaged")
    device = parts[0].planes.device
    movie = torch.full((problem.frames, *size), recipe.start, device=device)
    moment = torch.zeros_like(movie)
    updated = torch.from_numpy(problem.updated(size)).to(device)
    probe = parts[0].probe()
    made = state.restore(movie, moment, probe) if state else 0
    first = max(1, made)  # iteration 0 changes nothing, as published
    if advance:
        advance(math.nan, first)
    for iteration in range(first, recipe.iterations):
        gradient, loss = _gradient(parts, movie)
        if not math.isfinite(loss):
            raise DataError(f"the loss became {loss} at iteration {iteration}; check responses and behavior")
        gradient = (gradient * updated).clamp_(-recipe.largest_gradient, recipe.largest_gradient)
        moment.lerp_(gradient, 1 - recipe.momentum)
        movie.sub_(moment, alpha=recipe.rate(iteration)).clamp_(0, 255)
        if state:
            state.keep(movie, moment, probe, iteration + 1, recipe.iterations)
        if advance:
            advance(loss, 1)
    return movie.cpu().numpy()


def window_starts(frames: int, window: int, stride: int) -> list[int]:
    """First frames of the windows; the last one is aligned to the end."""
    starts = list(range(0, frames - window + 1, stride))
    return starts if starts[-1] == frames - window else [*starts, frames - window]


@dataclass(frozen=True, slots=True)
class _Model:
    """An encoder and one clip: `planes` (5, T, h, w) hold the behaviour; `targets`, `known` are (N, T)."""

    encoder: Encoder
    mouse: int
    planes: Tensor
    targets: Tensor
    known: Tensor
    windows: list[Tensor]  # frames of the windows that are computed together, (n, window) each
    loss: Loss

    @classmethod
    def of(cls, encoder: Encoder, problem: InversionProblem, recipe: PublishedRecipe) -> "_Model":
        black = torch.zeros(1, problem.frames, HEIGHT_PX, WIDTH_PX)
        with torch.no_grad():
            planes = encoder.assemble(black, as_batch(problem.behavior), as_batch(problem.pupil_center))[0]
        targets = torch.from_numpy(problem.responses).to(planes.device)
        window = min(recipe.window, problem.frames)
        starts = torch.tensor(window_starts(problem.frames, window, recipe.stride), device=planes.device)
        frames = starts[:, None] + torch.arange(window, device=planes.device)
        together = _together(recipe, encoder, planes.device)
        loss = _poisson if recipe.loss == "poisson" else _squared
        known = ~targets.isnan()
        windows = list(torch.split(frames, together))
        encoder = _prepared(encoder, recipe, together * window)
        return cls(encoder, problem.mouse, planes, targets.nan_to_num(), known, windows, loss)

    def gradient(self, movie: Tensor) -> tuple[Tensor, float]:
        """Mean over the windows of each one's gradient at unit norm, (T, h, w), and the mean loss."""
        total = torch.zeros_like(movie)
        count = movie.new_zeros(len(movie))
        losses = torch.cat([self._add(frames, movie, total, count) for frames in self.windows])
        return total / count.clamp(min=1)[:, None, None], float(losses.mean())

    def _add(self, frames: Tensor, movie: Tensor, total: Tensor, count: Tensor) -> Tensor:
        """Add the gradients of some windows; return the losses of those with a known response."""
        inputs = self._inputs(frames, movie).requires_grad_()
        answers = self.encoder.respond(inputs, self.mouse)  # (n, N, window)
        targets, known = (values[:, frames].transpose(0, 1) for values in (self.targets, self.known))
        counts = known.sum((1, 2))
        losses = (self.loss(answers, targets) * known).sum((1, 2)) / counts.clamp(min=1)
        (gradients,) = torch.autograd.grad(losses.sum(), inputs)
        norms = gradients.flatten(1).norm(dim=1) + _SMALLEST_NORM  # over all five channels, as published
        counted = (counts > 0).to(movie)
        total.index_add_(0, frames.flatten(), (gradients[:, 0] / norms[:, None, None, None]).flatten(0, 1))
        count.index_add_(0, frames.flatten(), counted[:, None].expand(frames.shape).flatten())
        return losses.detach()[counts > 0]

    def _inputs(self, frames: Tensor, movie: Tensor) -> Tensor:
        inputs = self.planes[:, frames].transpose(0, 1).contiguous()  # (n, 5, window, h, w)
        inputs[:, 0] = movie[frames]
        return inputs

    def probe(self) -> NDArray[np.float32]:
        """What the encoder answers to noise, (N, window): tells whether a kept state is of this encoder."""
        noise = np.random.default_rng(0).uniform(0, 255, self.planes.shape[1:]).astype(np.float32)
        with torch.no_grad():
            inputs = self._inputs(self.windows[0][:1], torch.from_numpy(noise).to(self.planes))
            answer = self.encoder.respond(inputs, self.mouse)
        return answer[0].float().cpu().numpy()


def _gradient(parts: Sequence[_Model], movie: Tensor) -> tuple[Tensor, float]:
    gradients, losses = zip(*(part.gradient(movie) for part in parts), strict=True)
    return sum(gradients[1:], gradients[0]) / len(parts), sum(losses) / len(parts)


def _together(recipe: PublishedRecipe, encoder: Encoder, device: torch.device) -> int:
    """How many windows make a batch: on a CPU the smallest tensors are the fastest."""
    if not recipe.batched:
        return 1
    if recipe.windows_at_once or device.type == "cpu":
        return recipe.windows_at_once or 1
    return 40 if encoder.kind == "light" else 4  # of a small network a GPU waits for every launch


def _prepared(encoder: Encoder, recipe: PublishedRecipe, most: int) -> Encoder:
    """An encoder that computes nothing twice, since the recipe bounds the memory: `most` start positions at once."""
    if not isinstance(encoder, DwiseNeuroEncoder):
        return encoder
    return replace(encoder, windows_at_once=most if recipe.batched else 1, kept=True)


def _poisson(answers: Tensor, targets: Tensor) -> Tensor:
    return answers - targets * torch.log(answers + _SMALLEST_RATE)


def _squared(answers: Tensor, targets: Tensor) -> Tensor:
    return (answers - targets).square()
