"""Causal normalisation of images: what a frame shows beside its own past. The same code offline and live.

The published decoder (Ajioka et al. 2024, doi 10.1371/journal.pcbi.1011074) subtracts each pixel's mean over the
whole session and divides by one standard deviation of the whole stack, which no live decoder can know. Here both are
running statistics, so no later frame takes part.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

_SMALLEST_STD = 1e-6  # a camera with its cap on must not divide by zero
_ONE_THREAD = 1 << 17  # multiplications; BLAS shares more among threads, which then spin on the rig's cores


@dataclass(frozen=True, slots=True)
class NormaliserConfig:
    """Time constants of the running statistics, seconds, at the frame rate they are used with.

    Without the common mode, what brightens or dims all pixels alike (lamp, focus, blood, arousal) is taken out of
    every frame: the mean over its pixels is subtracted. `expected_std` is where the standard deviation begins, as a
    share of the first frame's brightness; 0: with the first frames, which is too little when an animal rests at first.
    """

    mean_s: float
    std_s: float
    rate_hz: float
    common_mode: bool = True
    expected_std: float = 0.0


class RunningNormaliser:
    """Subtracts a running mean of every pixel and divides by one running standard deviation of all pixels.

    Both are exponential with their time constant once that much time has passed, and plain averages of all frames
    before (the standard deviation only without an expected one). The present frame counts. A frame's result depends
    on it and earlier frames alone, bit for bit, however the frames are handed over.
    """

    def __init__(self, height_px: int, width_px: int, config: NormaliserConfig) -> None:
        self._size_px = (height_px, width_px)
        self._mean = np.zeros(height_px * width_px, np.float32)
        self._equal = np.full(self._mean.size, 1.0 / self._mean.size, np.float32)
        self._variance = 0.0
        self._common_mode, self._expected_std = config.common_mode, config.expected_std
        self._slowest = (
            _forgetting(config.mean_s, config.rate_hz),
            _forgetting(config.std_s, config.rate_hz),
        )
        self.seen = 0

    def step(self, frame: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take one frame (H, W) and return it normalised, (H, W)."""
        self.seen += 1
        newest = 1.0 / self.seen
        mean_share = max(self._slowest[0], newest)
        variance_share = self._slowest[1] if self._expected_std else max(self._slowest[1], newest)
        if self._expected_std and self.seen == 1:
            self._variance = (self._expected_std * float(frame.mean())) ** 2
        # of so few numbers numpy's calls are the cost: no more of them than it takes
        deviation: NDArray[np.float32] = frame.reshape(-1) - self._mean
        self._mean += mean_share * deviation
        if not self._common_mode:
            deviation -= deviation.dot(self._equal)
        kept = 1.0 - mean_share  # of the deviation is the distance to the mean that includes this frame
        variance = kept * kept * float(deviation.dot(deviation)) / deviation.size
        self._variance += variance_share * (variance - self._variance)
        deviation *= kept / max(math.sqrt(self._variance), _SMALLEST_STD)
        return deviation.reshape(self._size_px)

    def movie(self, frames: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Normalise frames in order, (T, H, W)."""
        return np.stack([self.step(frame) for frame in frames])


def bin_area(frame: NDArray[np.generic], height_px: int, width_px: int) -> NDArray[np.float32]:
    """Mean of equal blocks of pixels: (H, W) to (height_px, width_px), which must divide H and W."""
    rows, columns = frame.shape[0] // height_px, frame.shape[1] // width_px
    if frame.shape != (rows * height_px, columns * width_px):
        raise ValueError(f"frames of {frame.shape} pixels cannot be binned to ({height_px}, {width_px})")
    bands = np.add.reduce(frame.reshape(height_px, rows, -1), 1, np.float32)
    if bands.size * width_px <= _ONE_THREAD:
        binned: NDArray[np.float32] = bands.dot(_column_means(width_px, columns, rows * columns))
        return binned
    sums: NDArray[np.float32] = np.einsum("hwc->hw", bands.reshape(height_px, width_px, columns))
    return sums * np.float32(1.0 / (rows * columns))


def bin_factor(height_px: int, width_px: int, edge_px: int) -> int:
    """Largest whole number that divides both edges and leaves `edge_px` of the shorter one, or more; else 1."""
    largest = max(1, min(height_px, width_px) // edge_px)
    return next(f for f in range(largest, 0, -1) if height_px % f == 0 and width_px % f == 0)


@cache
def _column_means(width_px: int, columns: int, block_px: int) -> NDArray[np.float32]:
    """Matrix (width_px * columns, width_px) that adds up columns and divides by a block's pixels."""
    return np.repeat(np.eye(width_px, dtype=np.float32), columns, axis=0) * np.float32(1.0 / block_px)


def _forgetting(time_constant_s: float, rate_hz: float) -> float:
    """Share of a new frame in an exponential mean with this time constant."""
    return 1.0 - math.exp(-1.0 / (time_constant_s * rate_hz))
