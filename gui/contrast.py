"""From camera frames to what a screen can show: binning and contrast. No Qt."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]  # any number type that cameras have, (H, W)
_PERCENTILES = (0.5, 99.8)
_SAMPLED_PX = 128  # percentiles of about 128 x 128 pixels are exact enough, and cheap
_FOLLOW = 0.06  # per update; at 30 Hz the levels follow within about half a second


def bin_frame(pixels: Image, largest_px: int) -> Image:
    """Mean of square blocks, as few as make the longer edge at most `largest_px`; dtype stays.

    Up to one block of pixels is cut off at the right and lower edges. Frames that fit come back as they are.
    """
    factor = -(-max(pixels.shape) // largest_px)
    if factor == 1:
        return pixels
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    total = np.float32 if np.issubdtype(pixels.dtype, np.floating) else np.uint32
    rows = np.zeros((height, width * factor), total)  # slices add faster than reshape-and-sum
    for k in range(factor):
        rows += pixels[k : height * factor : factor, : width * factor]
    blocks = np.zeros((height, width), total)
    for k in range(factor):
        blocks += rows[:, k::factor]
    binned: Image = (blocks / factor**2).astype(pixels.dtype)
    return binned


class Contrast:
    """Grey levels of one camera: they follow percentiles of its frames, or stay where a person put them."""

    def __init__(self) -> None:
        self.automatic = True
        self._levels: tuple[float, float] | None = None

    @property
    def levels(self) -> tuple[float, float]:
        """Values shown black and white; white is above black."""
        low, high = self._levels or (0.0, 1.0)
        return low, max(high, low + 1e-6 * max(1.0, abs(low)))

    def update(self, image: Image) -> None:
        """Follow a new image, if automatic."""
        if not self.automatic:
            return
        step = max(1, max(image.shape) // _SAMPLED_PX)
        low, high = (float(v) for v in np.percentile(image[::step, ::step], _PERCENTILES))
        if self._levels is None:
            self._levels = low, high
            return
        old_low, old_high = self._levels
        self._levels = old_low + _FOLLOW * (low - old_low), old_high + _FOLLOW * (high - old_high)

    def fix(self, low: float, high: float) -> None:
        """Put the levels where a person wants them; a white not above black is moved just above it."""
        self.automatic = False
        self._levels = low, high

    def follow(self) -> None:
        """Be automatic again, from the next image on."""
        self.automatic = True
        self._levels = None
