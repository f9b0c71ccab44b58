"""Movie reconstruction, our recipe: the most probable movie, given the responses and what movies are like.

A movie is written in coefficients that are independent and of unit variance for natural movies
(`decoders.reconstruction.movie_prior`), and the responses' noise in deviations that are independent, too
(`decoders.reconstruction.response_noise`). Both make the problem round, so that a few tens of steps of Adam
(Kingma & Ba 2015, arXiv 1412.6980) over the whole clip find it, where gradient descent on pixels needs a thousand.
It begins at the mean frame or, better, at what a preview has read, and is averaged along the camera's motion at the
end (`decoders.reconstruction.camera_motion`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decoders.reconstruction.camera_motion import average_along_motion
from decoders.reconstruction.dwiseneuro_encoder import DwiseNeuroEncoder
from decoders.reconstruction.encoder import HEIGHT_PX, WIDTH_PX, Encoder, as_batch
from decoders.reconstruction.inversion_state import InversionState
from decoders.reconstruction.movie_prior import MoviePrior, MovieSpace
from decoders.reconstruction.problem import InversionOptions, InversionProblem
from decoders.reconstruction.progress import Advance, show_progress
from decoders.reconstruction.response_noise import ResponseNoise
from rig.errors import DataError

SMALLEST = 1e-8  # added to the root of the second moment, as Kingma & Ba
_TOGETHER = 4  # tiles on a GPU; 6 GB at the published size of DwiseNeuro
_SETTLING = 6  # frames that a deviation of the responses is predicted from


@dataclass(frozen=True, slots=True)
class FastRecipe:
    """The numbers of our recipe; chosen on clips of the training tier, see docs/reconstruction.md.

    `step` is in standard deviations of the prior, and falls as half a cosine. `trust` multiplies the likelihood,
    `trust_again` where the prior is of a reading: it was made from the same responses, whose noise would count twice.
    Both `averaged` times as much where the movie is averaged, which takes out noise that a closer fit lets in.
    `common` is the share of the responses' noise that all neurons have in common. A clip of more than `stretch`
    frames is worked out in stretches that overlap by `overlap` frames, so that memory does not grow with it. Along the
    camera's motion the movie is averaged over windows of `motion` frames (standard deviations), one after the other.
    """

    iterations: int = 30
    step: float = 0.3
    momentum: float = 0.9
    second_momentum: float = 0.95
    trust: float = 1.0
    trust_again: float = 0.35
    averaged: float = 4.0
    common: float = 0.03
    stretch: int = 300
    overlap: int = 60
    motion: tuple[float, ...] = (8.0, 16.0, 16.0)

    def rate(self, iteration: int) -> float:
        """Step size of an iteration, with Adam's correction of the first moment."""
        cosine = 0.5 * (1 + math.cos(math.pi * iteration / self.iterations))
        return self.step * cosine / (1 - self.momentum ** (iteration + 1))


def invert_fast(
    encoders: Sequence[Encoder],
    problem: InversionProblem,
    options: InversionOptions,
    recipe: FastRecipe | None = None,
) -> NDArray[np.float32]:
    """Reconstruct a movie with every model and average, (T, 36, 64) in grey levels 0 to 255.

    Raises
    ------
    DataError
        When the loss is not finite, or the state in `options.folder` is of another reconstruction.
    """
    recipe = recipe or FastRecipe()
    recipe = replace(recipe, iterations=options.iterations or recipe.iterations)
    if problem.prior is not None:
        recipe = replace(recipe, trust=recipe.trust_again)
    if not options.motion:
        recipe = replace(recipe, motion=())
    if recipe.motion:
        recipe = replace(recipe, trust=recipe.averaged * recipe.trust)
    parts = stretches(problem.frames, recipe.stretch, recipe.overlap, max(e.shortest for e in encoders))
    movie = np.zeros((problem.frames, HEIGHT_PX, WIDTH_PX), np.float32)
    states: list[InversionState | None] = []
    with show_progress(len(encoders) * len(parts) * recipe.iterations, shown=options.progress) as advance:
        for at, encoder in enumerate(encoders):
            for part, weight in parts:
                piece = _cut(problem, part)
                state = InversionState.of(options, f"fast-{at}-{part.start}", piece, repr(recipe))
                model = _Model.of(encoder, piece, recipe, options.windows_at_once)
                found = model.solve(state, advance)
                movie[part] += weight[:, None, None] * found / len(encoders)
                states.append(state)
    for kept in states:
        if kept:
            kept.remove()
    return movie


def stretches(
    frames: int, longest: int, overlap: int, shortest: int = 1
) -> list[tuple[slice, NDArray[np.float32]]]:
    """Cut a clip into stretches of equal length that overlap, with weights over their frames that sum to 1 everywhere.

    None is shorter than `shortest`; where two overlap, one fades into the other.
    """
    longest = max(longest, shortest + overlap)
    count = 1 if frames <= longest else math.ceil((frames - overlap) / (longest - overlap))
    starts = np.linspace(0, frames - min(frames, longest), count).astype(int)
    parts = [slice(int(start), int(start) + min(frames, longest)) for start in starts]
    ramps = np.zeros((count, frames), np.float32)
    for row, part in zip(ramps, parts, strict=True):
        at = np.arange(part.start, part.stop)
        rise = at - part.start + 1 if part.start else np.full(at.shape, overlap)
        fall = part.stop - at if part.stop < frames else np.full(at.shape, overlap)
        row[part] = np.minimum(overlap, np.minimum(rise, fall))
    ramps /= ramps.sum(axis=0)
    return [(part, row[part]) for part, row in zip(parts, ramps, strict=True)]


@dataclass(frozen=True, slots=True)
class _Model:
    """An encoder and one stretch of a clip: behaviour (1, 2, T) each, the noise of its responses, and its movies."""

    encoder: Encoder
    problem: InversionProblem
    recipe: FastRecipe
    behavior: Tensor
    pupil_center: Tensor
    noise: ResponseNoise
    space: MovieSpace
    tile: int  # frames that the encoder is given at once
    together: int  # tiles in memory together

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        problem: InversionProblem,
        recipe: FastRecipe,
        windows_at_once: int | None = None,
    ) -> "_Model":
        behavior, pupil_center = as_batch(problem.behavior), as_batch(problem.pupil_center)
        first = slice(0, encoder.shortest)
        black = torch.zeros(1, encoder.shortest, HEIGHT_PX, WIDTH_PX)
        device = encoder.assemble(black, behavior[..., first], pupil_center[..., first]).device
        together = windows_at_once or (1 if device.type == "cpu" else _TOGETHER)
        tile, encoder = _tiled(encoder, problem.frames, together)
        order = min(_SETTLING, tile // 4)
        noise = ResponseNoise.of(encoder, problem.mouse, problem.responses, device, recipe.common, order)
        prior = problem.prior or MoviePrior.of(encoder)
        space = MovieSpace.of(prior, problem.frames, problem.updated((HEIGHT_PX, WIDTH_PX)), device)
        return cls(encoder, problem, recipe, behavior, pupil_center, noise, space, tile, together)

    def solve(self, state: InversionState | None, advance: Advance) -> NDArray[np.float32]:
        """Find the most probable movie, (T, 36, 64), grey levels 0 to 255."""
        z = torch.zeros_like(self.space.spread)
        moments = torch.zeros(2, *z.shape, device=z.device)  # of the gradient and its square
        probe = self._probe() if state else np.zeros(0, np.float32)
        made = state.restore(z, moments, probe) if state else 0
        advance(math.nan, made)
        for iteration in range(made, self.recipe.iterations):
            gradient, loss = self._gradient(z, iteration)
            if not math.isfinite(loss):
                raise DataError(
                    f"the loss became {loss} at iteration {iteration}; check responses and behavior"
                )
            self._step(z, moments, gradient, iteration)
            if state:
                state.keep(z, moments, probe, iteration + 1, self.recipe.iterations)
            advance(loss, 1)
        movie = average_along_motion(self.space.movie(z), self.recipe.motion, self.space.shown)
        return movie.clamp(0, 255).cpu().numpy()

    def _step(self, z: Tensor, moments: Tensor, gradient: Tensor, iteration: int) -> None:
        """One step of Adam, in place."""
        recipe = self.recipe
        moments[0].lerp_(gradient, 1 - recipe.momentum)
        moments[1].lerp_(gradient.square(), 1 - recipe.second_momentum)
        size = (moments[1] / (1 - recipe.second_momentum ** (iteration + 1))).sqrt()
        z.sub_(recipe.rate(iteration) * moments[0] / (size + SMALLEST))

    def _gradient(self, z: Tensor, iteration: int) -> tuple[Tensor, float]:
        """Gradient for the coefficients, and the loss: misfit and prior, per coefficient."""
        movie = self.space.movie(z)
        of_movie, misfit = torch.zeros_like(movie), 0.0
        times_seen = torch.zeros(len(movie), 1, 1, device=movie.device)
        starts = tile_starts(self.problem.frames, self.tile, iteration)
        for at in range(0, len(starts), self.together):
            tiles = [slice(start, start + self.tile) for start in starts[at : at + self.together]]
            gradients, loss = self._fit(movie, tiles)
            misfit += loss
            for frames, gradient in zip(tiles, gradients, strict=True):
                of_movie[frames] += gradient
                times_seen[frames] += 1
        trust = self.recipe.trust
        loss_per_coefficient = (trust * misfit + 0.5 * float(z.square().sum())) / z.numel()
        return trust * self.space.gradient(of_movie / times_seen) + z, loss_per_coefficient

    def _fit(self, movie: Tensor, tiles: list[slice]) -> tuple[Tensor, float]:
        """How badly the movie explains the responses in some tiles, and the gradient, (tiles, tile, 36, 64)."""
        seen = torch.stack([movie[frames] for frames in tiles]).requires_grad_()
        answers = self._answer(seen, tiles)
        loss = torch.stack(
            [self.noise.misfit(one, frames) for one, frames in zip(answers, tiles, strict=True)]
        ).sum()
        return torch.autograd.grad(loss, seen)[0], float(loss.detach())

    def _answer(self, movies: Tensor, tiles: list[slice]) -> Tensor:
        behavior, pupil_center = (
            torch.cat([signal[..., frames] for frames in tiles])
            for signal in (self.behavior, self.pupil_center)
        )
        return self.encoder.respond(self.encoder.assemble(movies, behavior, pupil_center), self.problem.mouse)

    def _probe(self) -> NDArray[np.float32]:
        """What the encoder answers to noise, (N, tile): tells whether a kept state is of this encoder."""
        noise = (
            np.random.default_rng(0).uniform(0, 255, (1, self.tile, HEIGHT_PX, WIDTH_PX)).astype(np.float32)
        )
        with torch.no_grad():
            return self._answer(torch.from_numpy(noise), [slice(0, self.tile)])[0].float().cpu().numpy()


def tile_starts(frames: int, tile: int, iteration: int) -> list[int]:
    """First frames of the tiles of a stretch; elsewhere at every iteration, so that no frame is always at an edge."""
    if tile >= frames:
        return [0]
    shift = iteration * (5 * tile // 13) % tile
    return sorted({0, *range(shift, frames - tile + 1, tile), frames - tile})


def _tiled(encoder: Encoder, frames: int, together: int) -> tuple[int, Encoder]:
    """Frames of a tile, and the encoder for tiles.

    DwiseNeuro answers by windows, one at every start position: a tile has as few positions as give every frame one.
    Other encoders are given the whole stretch.
    """
    if not isinstance(encoder, DwiseNeuroEncoder):
        return frames, encoder
    tile = encoder.shortest + encoder.step - 1
    return min(tile, frames), replace(encoder, windows_at_once=together * encoder.step, kept=True)


def _cut(problem: InversionProblem, part: slice) -> InversionProblem:
    arrays = (problem.responses, problem.behavior, problem.pupil_center)
    responses, behavior, pupil_center = (array[:, part] for array in arrays)
    prior = None if problem.prior is None else problem.prior.part(part)
    return replace(problem, responses=responses, behavior=behavior, pupil_center=pupil_center, prior=prior)
