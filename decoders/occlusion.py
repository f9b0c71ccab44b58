"""Which pixels a perturbation takes away: squares and circles over the frame, and its border as a control.

Owns the shapes only; what a model makes of them is `decoders.behavior.explain`, live `decoders.behavior.importance`.
Light to import.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rig.errors import DataError

Shape = Literal["square", "circle"]

# Ajioka et al. 2024 on frames of 128 x 128 px: 7 x 7 positions
PUBLISHED_FRAME_PX = 128
PUBLISHED_SIZE_PX = 32
PUBLISHED_STRIDE_PX = 16


@dataclass(frozen=True, slots=True)
class Occlusion:
    """One mask (H, W), true where pixels are taken away, and its place in the grid of all masks."""

    mask: NDArray[np.bool_]
    row: int
    column: int


def occlusion_grid(
    height_px: int, width_px: int, size_px: int, stride_px: int, shape: Shape = "square"
) -> list[Occlusion]:
    """Masks of one size over the whole frame, row by row.

    The last row and column touch the frame's edge, so no pixel is left out, even where the stride does not divide
    the frame.

    Parameters
    ----------
    height_px, width_px
        The frame's.
    size_px
        Edge of the square, or diameter of the circle.
    stride_px
        From one mask to the next; at most `size_px`.
    shape
        Squares, or the published variant, circles.

    Raises
    ------
    DataError
        When a mask is larger than the frame, or masks would leave gaps between them.
    """
    _check(height_px, width_px, size_px, stride_px)
    top, left = starts(height_px, size_px, stride_px), starts(width_px, size_px, stride_px)
    patch = _patch(size_px, shape)
    return [
        Occlusion(_placed(patch, (height_px, width_px), start, first), row, column)
        for row, start in enumerate(top)
        for column, first in enumerate(left)
    ]


def starts(length_px: int, size_px: int, stride_px: int) -> list[int]:
    """First pixel of each mask along one edge of the frame."""
    last = length_px - size_px
    found = list(range(0, last + 1, stride_px))
    return found if found[-1] == last else [*found, last]


def disc(height_px: int, width_px: int, centre: tuple[float, float], radius_px: float) -> NDArray[np.bool_]:
    """Pixels whose centres lie within `radius_px` of `centre` (column, row), (H, W)."""
    row, column = np.ogrid[:height_px, :width_px]
    inside: NDArray[np.bool_] = (column - centre[0]) ** 2 + (row - centre[1]) ** 2 <= radius_px**2
    return inside


def _check(height_px: int, width_px: int, size_px: int, stride_px: int) -> None:
    if not 1 <= size_px <= min(height_px, width_px):
        raise DataError(f"masks of {size_px} px; valid is 1 to {min(height_px, width_px)}, the frame's edge")
    if not 1 <= stride_px <= size_px:
        raise DataError(f"a stride of {stride_px} px; valid is 1 to {size_px}, the masks' size")


def _patch(size_px: int, shape: Shape) -> NDArray[np.bool_]:
    if shape == "square":
        return np.ones((size_px, size_px), np.bool_)
    middle = (size_px - 1) / 2
    return disc(size_px, size_px, (middle, middle), size_px / 2)


def _placed(patch: NDArray[np.bool_], frame: tuple[int, int], top: int, left: int) -> NDArray[np.bool_]:
    mask = np.zeros(frame, np.bool_)
    mask[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
    return mask


def border_masks(height_px: int, width_px: int, size_px: int) -> list[NDArray[np.bool_]]:
    """Masks along the frame's edges, where there is little cortex: the published control, 15 for 128 px and 32 px.

    The four corners together; then pairs of strips at the top and bottom, each `size_px` long and half as thick; then
    such pairs at the left and right edge. A strip every half `size_px`.

    Returns
    -------
    list of (H, W)
        True where pixels are taken away.
    """
    thick = max(1, size_px // 2)
    _check(height_px, width_px, size_px, thick)
    rows, columns = _ends(height_px, thick), _ends(width_px, thick)
    corners = rows[:, None] & columns[None, :]
    level = [
        rows[:, None] & _stretch(width_px, at, size_px)[None, :] for at in starts(width_px, size_px, thick)
    ]
    upright = [
        _stretch(height_px, at, size_px)[:, None] & columns[None, :]
        for at in starts(height_px, size_px, thick)
    ]
    return [corners, *level, *upright]


def _ends(length_px: int, thick_px: int) -> NDArray[np.bool_]:
    at = np.arange(length_px)
    ends: NDArray[np.bool_] = (at < thick_px) | (at >= length_px - thick_px)
    return ends


def _stretch(length_px: int, first: int, size_px: int) -> NDArray[np.bool_]:
    at = np.arange(length_px)
    stretch: NDArray[np.bool_] = (at >= first) & (at < first + size_px)
    return stretch
