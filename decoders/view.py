"""Camera frames as a network sees them: binned as they are, or brought to one standard view of the dorsal cortex.

Heads are never mounted twice alike. With the skull's landmarks in the rig's YAML every animal's cortex is shown in the
same place, at the same size: 11 mm across, which holds the dorsal cortex of a mouse with a margin. Without torch.
"""

import hashlib
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from decoders.normalise import bin_area, bin_factor

if TYPE_CHECKING:
    from decoders.atlas import Placement

FIELD_MM = 11.0
CENTRE_AP_MM = -1.6  # half way between the front of motor and the back of visual cortex
VIEW_PX = 32  # 0.34 mm of cortex each: an area is 2 to 5 of them
_TILES = (
    2 * VIEW_PX
)  # of the camera's frame, each way, for what is shown in it: no finer than the view, and cheap
_SAMPLES = 4  # a pixel of the view, each way
_RUN = np.arange(_SAMPLES) - (_SAMPLES - 1) / 2  # from the middle of a pixel, in samples
_EQUAL = np.full(_SAMPLES * _SAMPLES, 1 / _SAMPLES**2, np.float32)  # their shares, where the camera sees all
_FOUR = {size: np.dtype((np.void, _SAMPLES * size)) for size in (1, 2, 4, 8)}  # of so many bytes each, as one
# Nearest pixels and groups of an unturned brain would all be off in one direction; so they are off in both.
_APART_ROW = np.array([-0.25, 0.25, -0.25, 0.25])  # camera pixels
_APART_GROUP = np.array([-0.375, 0.125, -0.125, 0.375])  # groups of four
_BINNED_PX = 4 * VIEW_PX  # finer frames are binned towards this edge first, so that no light is left out


class FrameView(Protocol):
    """One way to show frames to a network.

    `size_px` is the (h, w) that it shows; views with the same `key` show the same frames alike.
    """

    size_px: tuple[int, int]
    key: str

    def __call__(self, frame: NDArray[np.generic]) -> NDArray[np.float32]:
        """Camera frame (H, W) to the network's (h, w)."""
        ...

    def back(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Image (h, w) in the network's view to equal tiles that cover the camera's frame."""
        ...


class BinnedView:
    """Mean of equal blocks of pixels, which must divide the frame."""

    def __init__(self, height_px: int, width_px: int) -> None:
        self.size_px = (height_px, width_px)
        self.key = f"binned-{height_px}x{width_px}"

    def __call__(self, frame: NDArray[np.generic]) -> NDArray[np.float32]:
        """Camera frame (H, W) to (height_px, width_px)."""
        return bin_area(frame, *self.size_px)

    def back(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the image: it covers the whole frame already."""
        return image


class StandardView:
    """The dorsal cortex in its standard place, 32 x 32 pixels, nose up; 0 where the camera sees nothing.

    A pixel is the mean of sixteen of the camera's: of four rows, four each. A row's four are one of the groups that
    the whole row of the frame is cut into, so they are fetched at once; that is what makes it fast. Neighbouring groups
    are mixed over a pixel's rows, in the share that each is near.

    Parameters
    ----------
    placement
        Where the cortex lies in the camera's frames.
    height_px, width_px
        Size of those frames.
    """

    def __init__(self, placement: "Placement", height_px: int, width_px: int) -> None:
        self._bin = bin_factor(height_px, width_px, _BINNED_PX)
        self._binned = (height_px // self._bin, width_px // self._bin)
        self._width = self._binned[1] // _SAMPLES * _SAMPLES  # in whole groups
        at_mm = ((np.arange(VIEW_PX) + 0.5) / VIEW_PX - 0.5) * FIELD_MM
        middle = placement.to_px(at_mm[None, :], CENTRE_AP_MM - at_mm[:, None])
        column, row = ((px.reshape(-1, 1) + 0.5) / self._bin - 0.5 for px in middle)
        sample_px = FIELD_MM / (VIEW_PX * _SAMPLES) / placement.mm_per_px / self._bin
        row = np.rint(row + sample_px * _RUN + _APART_ROW).astype(np.int64)
        group = np.rint((column + _RUN[0]) / _SAMPLES + _APART_GROUP).astype(np.int64)
        rows, groups = self._binned[0], self._width // _SAMPLES
        inside = (row >= 0) & (row < rows) & (group >= 0) & (group < groups)
        self._index = row.clip(0, rows - 1) * groups + group.clip(0, groups - 1)  # (pixels, 4)
        self._shares = None if inside.all() else _shares(inside)
        self._samples = np.empty((VIEW_PX**2, _SAMPLES**2), np.float32)  # filled anew by every call
        self.size_px = (VIEW_PX, VIEW_PX)
        self.key = "standard-" + hashlib.sha256(self._index.tobytes()).hexdigest()[:12]
        self._pixel_of = self._lookup(placement, height_px, width_px)

    def __call__(self, frame: NDArray[np.generic]) -> NDArray[np.float32]:
        """Camera frame (H, W) to (32, 32)."""
        binned = frame if self._bin == 1 else bin_area(frame, *self._binned)
        groups = np.ascontiguousarray(binned[:, : self._width]).reshape(-1).view(_FOUR[binned.itemsize])
        # no index needs wrapping: of the ways to deal with those that would, it costs least
        self._samples[...] = groups.take(self._index, mode="wrap").view(binned.dtype)
        if self._shares is None:
            seen: NDArray[np.float32] = self._samples.dot(_EQUAL)
        else:
            self._samples *= self._shares
            seen = np.add.reduce(self._samples, 1)
        return seen.reshape(self.size_px)

    def back(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Image (32, 32) to 64 x 64 tiles of the camera's frame, NaN outside of the view."""
        return np.append(image.ravel(), np.float32(np.nan))[self._pixel_of]

    def _lookup(self, placement: "Placement", height_px: int, width_px: int) -> NDArray[np.int64]:
        """Pixel of the view that the middle of each tile lies in; one past the last outside."""
        middle = (np.arange(_TILES) + 0.5) / _TILES
        ml_mm, ap_mm = placement.to_mm_at(middle[None, :] * width_px - 0.5, middle[:, None] * height_px - 0.5)
        column = np.floor((ml_mm / FIELD_MM + 0.5) * VIEW_PX).astype(np.int64)
        row = np.floor(((CENTRE_AP_MM - ap_mm) / FIELD_MM + 0.5) * VIEW_PX).astype(np.int64)
        inside = (column >= 0) & (column < VIEW_PX) & (row >= 0) & (row < VIEW_PX)
        return np.where(inside, row * VIEW_PX + column, VIEW_PX * VIEW_PX)


def _shares(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Which groups the camera sees, (pixels, 4), to what each sample is of its pixel's mean, (pixels, 16)."""
    seen = np.maximum(inside.sum(axis=1, keepdims=True) * _SAMPLES, 1)
    return np.repeat(inside / seen, _SAMPLES, axis=1).astype(np.float32)
