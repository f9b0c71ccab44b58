"""Regions of interest in an image: which pixels belong to which, and how much they count."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RoiMasks:
    """N regions of an image as (P,) entries, in the order of `roi`: region, place in the flat image, weight.

    Every region has at least one pixel. Regions may overlap. A region's weights sum to 1.
    """

    height_px: int
    width_px: int
    roi: NDArray[np.int64]
    pixel: NDArray[np.int64]
    weight: NDArray[np.float64]

    @property
    def count(self) -> int:
        """Number of regions."""
        return int(self.roi[-1]) + 1 if len(self.roi) else 0

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which pixels (H, W) belong to any region."""
        inside = np.zeros(self.height_px * self.width_px, bool)
        inside[self.pixel] = True
        return inside.reshape(self.height_px, self.width_px)

    def centres_px(self) -> NDArray[np.float64]:
        """Weighted centres (N, 2), row and column."""
        place = np.stack(np.divmod(self.pixel, self.width_px), axis=1)
        sums = [np.bincount(self.roi, self.weight * place[:, k], self.count) for k in (0, 1)]
        return np.stack(sums, axis=1)
