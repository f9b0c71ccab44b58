"""What movies look like before the encoder is asked: the Gaussian prior of an inversion.

A movie is a mean frame plus independent coefficients of its three-dimensional cosine transform (DCT-II), whose
variances fall with spatial and temporal frequency. Over space they are those of the training movies; over time each
spatial coefficient is a stationary process of first order, which the transform nearly decorrelates. Where a preview
has read the responses, its movie takes the place of the mean frame, and the variances are those of its errors.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct
from torch import Tensor

from decoders.checkpoint import Checkpoint, load_checkpoint
from decoders.reconstruction.amortized import KIND, SETTINGS, read_movie
from decoders.reconstruction.encoder import HEIGHT_PX, WIDTH_PX, Encoder
from rig.errors import CheckpointError

_PARTS = ("movie_mean", "movie_power", "movie_lag1")
_LONGEST_LAG1 = 0.995  # a slower coefficient would leave the first frame as good as unknown

# Fitted to 82 clips of `rig simulate-movies`, to 8 % of the power's logarithm; natural movies fall alike
# (Dong & Atick 1995, doi 10.1088/0954-898X_6_3_003: space and time are not separable, fine structure moves faster).
_GREY = 114.0  # grey levels
_POWER, _FALL, _CORNER = 13.31, 3.026, 0.0389  # variance 13.31 (f^2 + corner^2)^(-fall / 2), f in cycles/px
_MOTION, _RISE = 1.988, 1.633  # minus the logarithm of the correlation over one frame: 1.988 f^1.633, 30 Hz


@dataclass(frozen=True, slots=True)
class MoviePrior:
    """Mean frame, variance and one-frame correlation of the frames' orthonormal DCT coefficients, (36, 64) each.

    The mean is a movie (T, 36, 64) where a preview has read one.
    """

    mean: NDArray[np.float32]
    power: NDArray[np.float32]
    lag1: NDArray[np.float32]

    @classmethod
    def of(cls, encoder: Encoder) -> Self:
        """What the encoder's training movies were like; natural movies where it does not know."""
        known = known_of(encoder)
        return cls(*(known[part] for part in _PARTS)) if known.keys() >= set(_PARTS) else cls.natural()

    @classmethod
    def natural(cls) -> Self:
        """A prior of a few numbers, for encoders that bring none."""
        rows, columns = (np.arange(size) / (2 * size) for size in (HEIGHT_PX, WIDTH_PX))
        frequency = np.hypot(rows[:, None], columns)
        power = _POWER * (frequency**2 + _CORNER**2) ** (-_FALL / 2)
        parts = (np.full(power.shape, _GREY), power, np.exp(-_MOTION * frequency**_RISE))
        return cls(*(part.astype(np.float32) for part in parts))

    @classmethod
    def read(cls, preview: Path | str, responses: NDArray[np.float32]) -> Self:
        """Around what a preview reads from a clip's responses (N, T), as far as it erred on held-out movies.

        Raises
        ------
        CheckpointError
            When the file is no preview, was made before errors were measured, or shows movies of another size.
        DataError
            For another number of neurons.
        """
        known = load_preview(preview)
        return cls.around(read_movie(known, Path(preview), responses), known)

    @classmethod
    def around(cls, movie: NDArray[np.float32], preview: Checkpoint) -> Self:
        """Around a movie (T, 36, 64) that a preview showed, as far as it erred on held-out movies."""
        return cls(movie, preview.arrays["error_power"], preview.arrays["error_lag1"])

    def part(self, frames: slice) -> Self:
        """The prior of a stretch of the clip."""
        return self if self.mean.ndim == 2 else replace(self, mean=self.mean[frames])

    def spread(self, frames: int) -> NDArray[np.float32]:
        """Standard deviations of a movie's coefficients, (frames, 36, 64), grey levels."""
        lag1 = np.clip(self.lag1.astype(np.float64), 0.0, _LONGEST_LAG1)
        angle = np.arange(frames)[:, None, None] * math.pi / frames
        over_time = (1 - lag1**2) / (1 + lag1**2 - 2 * lag1 * np.cos(angle))
        return np.sqrt(self.power * over_time).astype(np.float32)


@dataclass(frozen=True, slots=True)
class MovieSpace:
    """Movies of one length as whitened coefficients z (T, 36, 64): those of a movie from the prior have unit variance.

    `shown` (36, 64) is 1 where the movie is looked for; elsewhere it stays the mean.
    """

    mean: Tensor
    spread: Tensor
    shown: Tensor
    turns: tuple[Tensor, Tensor, Tensor]  # transforms over time, rows and columns

    @classmethod
    def of(cls, prior: MoviePrior, frames: int, shown: NDArray[np.bool_], device: torch.device) -> Self:
        """Prepare the transforms, (frames, frames) the largest."""
        turns = tuple(_cosines(size).to(device) for size in (frames, HEIGHT_PX, WIDTH_PX))
        arrays = (prior.mean, prior.spread(frames), shown.astype(np.float32))
        mean, spread, mask = (torch.from_numpy(array).to(device) for array in arrays)
        return cls(mean, spread, mask, turns)  # type: ignore[arg-type]

    def movie(self, z: Tensor) -> Tensor:
        """Grey levels (T, 36, 64), of any size."""
        over_time, rows, columns = self.turns
        frames = rows.T @ (z * self.spread) @ columns
        return self.mean + self.shown * (over_time.T @ frames.flatten(1)).view_as(frames)

    def gradient(self, of_movie: Tensor) -> Tensor:
        """The gradient for z of something whose gradient for the movie is given."""
        return self.spread * self._turned(self.shown * of_movie)

    def coefficients(self, movie: Tensor) -> Tensor:
        """The z of a movie (T, 36, 64) that is looked for everywhere: `movie` turned round."""
        return self._turned(movie - self.mean) / self.spread

    def _turned(self, frames: Tensor) -> Tensor:
        over_time, rows, columns = self.turns
        by_rate = (over_time @ frames.flatten(1)).view_as(frames)
        return rows @ by_rate @ columns.T


def load_preview(path: Path | str) -> Checkpoint:
    """Read a preview that an inversion can begin at; raises `CheckpointError` as `MoviePrior.read` does."""
    return checked_preview(load_checkpoint(Path(path), KIND, SETTINGS), path)


def checked_preview(preview: Checkpoint, path: Path | str) -> Checkpoint:
    """Give back a preview that an inversion can begin at; raises `CheckpointError` as `MoviePrior.read` does."""
    if not {"error_power", "error_lag1"} <= preview.arrays.keys():
        raise CheckpointError(
            f"{path}: does not tell how far it errs; train it anew with `rig train preview`"
        )
    size = preview.arrays["error_power"].shape
    if size != (HEIGHT_PX, WIDTH_PX):
        raise CheckpointError(f"{path}: shows movies of {size} pixels; valid is {(HEIGHT_PX, WIDTH_PX)}")
    return preview


def known_of(encoder: Encoder) -> Mapping[str, Any]:
    """What an encoder's file tells beside the network: see `decoders.reconstruction.knowledge`."""
    knowledge: Mapping[str, Any] = getattr(encoder, "knowledge", {})
    return knowledge


def _cosines(size: int) -> Tensor:
    """The orthonormal DCT-II as a matrix (coefficients, values)."""
    return torch.from_numpy(dct(np.eye(size), norm="ortho", axis=0).astype(np.float32))
