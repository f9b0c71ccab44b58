"""Causal normalisation of images: what a frame shows beside its own past. The same code offline and live.

The published decoder (Ajioka et al. 2024, doi 10.1371/journal.pcbi.1011074) subtracts each pixel's mean over the
whole session and divides by one standard deviation of the whole stack, which no live decoder can know. Here both are
running statistics, so no later frame takes part.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SMALLEST_STD = 1e-6  # a camera with its cap on must not divide by zero


@dataclass(frozen=True, slots=True)
class NormaliserConfig:
    """Time constants of the running statistics, seconds, at the frame rate they are used with.

    Without the common mode, what brightens or dims all pixels alike (lamp, focus, blood, arousal) is taken out of
    every frame: the mean over its pixels is subtracted.
    """

    mean_s: float
    std_s: float
    rate_hz: float
    common_mode: bool = True


class RunningNormaliser:
    """Subtracts a running mean of every pixel and divides by one running standard deviation of all pixels.

    Both are exponential with their time constant once that much time has passed, and plain averages of all frames
    before. The present frame counts. A frame's result depends on it and earlier frames alone, bit for bit, however
    the frames are handed over.
    """

    def __init__(self, height_px: int, width_px: int, config: NormaliserConfig) -> None:
        self._mean = np.zeros((height_px, width_px), np.float32)
        self._variance = 0.0
        self._common_mode = config.common_mode
        self._slowest = (
            _forgetting(config.mean_s, config.rate_hz),
            _forgetting(config.std_s, config.rate_hz),
        )
        self.seen = 0

    def step(self, frame: NDArray[np.generic]) -> NDArray[np.float32]:
        """Take one frame (H, W) of any dtype and return it normalised, (H, W)."""
        self.seen += 1
        mean_share, variance_share = (max(share, 1.0 / self.seen) for share in self._slowest)
        deviation = frame.astype(np.float32) - self._mean
        self._mean += np.float32(mean_share) * deviation
        deviation *= np.float32(1.0 - mean_share)  # now the distance to the mean that includes this frame
        if not self._common_mode:
            deviation -= deviation.mean()
        self._variance += variance_share * (float(np.square(deviation).mean()) - self._variance)
        deviation *= np.float32(1.0 / max(math.sqrt(self._variance), _SMALLEST_STD))
        return deviation

    def movie(self, frames: Iterable[NDArray[np.generic]]) -> NDArray[np.float32]:
        """Normalise frames in order, (T, H, W)."""
        return np.stack([self.step(frame) for frame in frames])


def bin_area(frame: NDArray[np.generic], height_px: int, width_px: int) -> NDArray[np.float32]:
    """Mean of equal blocks of pixels: (H, W) to (height_px, width_px), which must divide H and W."""
    rows, columns = frame.shape[0] // height_px, frame.shape[1] // width_px
    if frame.shape != (rows * height_px, columns * width_px):
        raise ValueError(f"frames of {frame.shape} pixels cannot be binned to ({height_px}, {width_px})")
    bands = frame.reshape(height_px, rows, -1).sum(axis=1, dtype=np.float32)
    sums = np.zeros((height_px, width_px), np.float32)
    for column in range(columns):
        sums += bands[:, column::columns]
    return sums * np.float32(1.0 / (rows * columns))


def _forgetting(time_constant_s: float, rate_hz: float) -> float:
    """Share of a new frame in an exponential mean with this time constant."""
    return 1.0 - math.exp(-1.0 / (time_constant_s * rate_hz))
