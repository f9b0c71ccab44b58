"""What can be reconstructed at all: Gaussian noise and drifting gratings over scales of space and time, in silico.

The encoders answer a stimulus, and are asked for it back. After Bauer et al. 2026 (doi 10.7554/eLife.105081): clips of
60 frames of which the last 30 are scored, noise over seven scales of space and of time with its contrast inverse,
gratings of their four spatial and seven temporal frequencies in four directions. The scales of the noise are ours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Kind = Literal["noise", "gratings"]
FRAMES = 60
SCORED_FROM = 30
_SIZE = (36, 64)
_GREY, _CONTRAST = 127.5, 50.0  # mean and standard deviation, grey levels
_RATE_HZ = 30.0

NOISE_PX = (0.5, 1.0, 1.5, 2.5, 4.0, 6.0, 10.0)  # standard deviation of the Gaussian filter
NOISE_FRAMES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
GRATING_CYCLES_PX = (0.5, 0.25, 0.125, 0.062)  # published
GRATING_HZ = (15.0, 7.5, 3.75, 1.875, 0.94, 0.47, 0.0)  # published
DIRECTIONS_DEG = (0.0, 90.0, 180.0, 270.0)


@dataclass(frozen=True, slots=True)
class Grid:
    """Scales of a kind of stimulus: `space` is px of noise or cycles/px, `time` frames of noise or Hz."""

    kind: Kind
    space: Sequence[float]
    time: Sequence[float]

    @property
    def labels(self) -> tuple[str, str]:
        """What the two axes are, with units."""
        if self.kind == "noise":
            return "spatial scale, px (SD of the Gaussian)", "temporal scale, frames (SD of the Gaussian)"
        return "spatial frequency, cycles/px", "temporal frequency, Hz"

    def cells(self) -> Iterator[tuple[int, int]]:
        """Every cell: row of space, column of time."""
        return ((row, column) for row in range(len(self.space)) for column in range(len(self.time)))

    def stimuli(self, cell: tuple[int, int], count: int) -> list[NDArray[np.float32]]:
        """Movies (60, 36, 64) of one cell in grey levels: noise and its inverse in turn, or directions in turn."""
        space, time = self.space[cell[0]], self.time[cell[1]]
        if self.kind == "gratings":
            return [grating(space, time, DIRECTIONS_DEG[k % len(DIRECTIONS_DEG)]) for k in range(count)]
        pairs = [noise(space, time, seed) for seed in range((count + 1) // 2)]
        return [movie for one in pairs for movie in (one, 2 * _GREY - one)][:count]


GRIDS = {
    "noise": Grid("noise", NOISE_PX, NOISE_FRAMES),
    "gratings": Grid("gratings", GRATING_CYCLES_PX, GRATING_HZ),
}


@dataclass(frozen=True, slots=True)
class Surface:
    """Mean correlation of every cell, (space, time), and how many stimuli each is the mean of."""

    grid: Grid
    stimuli: int
    mouse: str
    correlation: NDArray[np.float64] = field(repr=False)

    def as_dict(self) -> dict[str, object]:
        """As JSON; null where a correlation has no value."""
        rows = [[None if np.isnan(v) else float(v) for v in row] for row in self.correlation]
        space, time = self.grid.labels
        return {
            "space": list(self.grid.space),
            "space_is": space,
            "time": list(self.grid.time),
            "time_is": time,
            "mouse": self.mouse,
            "stimuli": self.stimuli,
            "correlation": rows,
        }


def noise(space_px: float, time_frames: float, seed: int) -> NDArray[np.float32]:
    """Gaussian noise filtered in space and time, (60, 36, 64), at the mean grey and one contrast, within 0 to 255."""
    white = np.random.default_rng(seed).standard_normal((FRAMES, *_SIZE))
    filtered = gaussian_filter(white, (time_frames, space_px, space_px), mode="wrap")
    scaled = (filtered - filtered.mean()) / filtered.std() * _CONTRAST + _GREY
    return np.asarray(np.clip(scaled, 0, 255), np.float32)


def grating(cycles_px: float, drift_hz: float, direction_deg: float) -> NDArray[np.float32]:
    """A sinusoidal grating of full contrast that drifts, (60, 36, 64); direction 0 is to the right."""
    t, y, x = np.meshgrid(np.arange(FRAMES) / _RATE_HZ, *map(np.arange, _SIZE), indexing="ij")
    angle = np.deg2rad(direction_deg)
    along = x * np.cos(angle) - y * np.sin(angle)
    phase = (
        2 * np.pi * (cycles_px * along - drift_hz * t) + np.pi / 4
    )  # 0.5 cycles/px is not lost at its zeros
    return np.asarray(_GREY * (1 + np.sin(phase)), np.float32)
