"""A decoder's importance map as colours over a camera image. No Qt."""

import numpy as np
from numpy.typing import NDArray

_STOPS = np.array([0.0, 0.5, 1.0])
_COLOURS = np.array(
    [(213, 94, 0), (230, 159, 0), (240, 228, 66)], float
)  # Okabe and Ito: vermilion to yellow
_MOST_OPAQUE = 190.0


def full_scale(drops: NDArray[np.float32]) -> float:
    """Drop in probability that the brightest colour stands for: the map's largest, in round steps.

    At least 0.02, so that noise does not look like a finding.
    """
    largest = float(np.nanmax(drops)) if np.isfinite(drops).any() else 0.0
    return next((level for level in (0.02, 0.05, 0.1, 0.2, 0.5) if largest <= level), 1.0)


def colours(drops: NDArray[np.float32], scale: float) -> NDArray[np.uint8]:
    """Colours (rows, columns, 4), red, green, blue, opacity; nothing where the drop is 0, negative or not known.

    Brighter and less transparent mean more: the order is seen without telling colours apart.
    """
    level = np.clip(np.nan_to_num(drops, nan=0.0) / scale, 0.0, 1.0)
    channels = [np.interp(level, _STOPS, colour) for colour in _COLOURS.T]
    return np.stack([*channels, _MOST_OPAQUE * np.sqrt(level)], axis=-1).astype(np.uint8)


def legend(width_px: int, height_px: int) -> NDArray[np.uint8]:
    """The colours from nothing (left) to the full scale (right), (height, width, 4)."""
    return colours(np.tile(np.linspace(0, 1, width_px, dtype=np.float32), (height_px, 1)), 1.0)
