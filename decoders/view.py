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
_EQUAL = np.full(_SAMPLES * _SAMPLES, 1 / _SAMPLES**2, np.float32)  # their shares, where the camera sees all
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
        at_mm = ((np.arange(VIEW_PX * _SAMPLES) + 0.5) / (VIEW_PX * _SAMPLES) - 0.5) * FIELD_MM
        column, row = placement.to_px(at_mm[None, :], CENTRE_AP_MM - at_mm[:, None])
        column, row = (
            np.rint((px + 0.5) / self._bin - 0.5 + apart).astype(np.int64)
            for px, apart in zip((column, row), _apart(), strict=True)
        )
        height, width = self._binned
        inside = _by_pixel((column >= 0) & (column < width) & (row >= 0) & (row < height))
        index = _by_pixel(row.clip(0, height - 1) * width + column.clip(0, width - 1))
        self._index = np.ascontiguousarray(index.T)  # (samples, pixels): what is added up lies side by side
        self._shares = None if inside.all() else _shares(inside)
        self.size_px = (VIEW_PX, VIEW_PX)
        self.key = "standard-" + hashlib.sha256(self._index.tobytes()).hexdigest()[:12]
        self._pixel_of = self._lookup(placement, height_px, width_px)

    def __call__(self, frame: NDArray[np.generic]) -> NDArray[np.float32]:
        """Camera frame (H, W) to (32, 32)."""
        binned = frame if self._bin == 1 else bin_area(frame, *self._binned)
        # no index needs wrapping: of the ways to deal with those that would, it costs least
        samples = binned.astype(np.float32, copy=False).take(self._index, mode="wrap")
        if self._shares is None:
            seen: NDArray[np.float32] = _EQUAL.dot(samples)
        else:
            samples *= self._shares
            seen = np.add.reduce(samples, 0)
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


def _apart() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A quarter of a pixel either way, from sample to sample, right and down: (1, samples), (samples, 1).

    Each sample takes the camera's nearest pixel. On a brain that is not turned, and half a pixel off, all would be off
    in the same direction; so they are off in both.
    """
    either_way = np.where(np.arange(VIEW_PX * _SAMPLES) % 2, 0.25, -0.25)
    return either_way[None, :], either_way[:, None]


def _shares(inside: NDArray[np.generic]) -> NDArray[np.float32]:
    """Which samples the camera sees, (pixels, samples), to what each is of its pixel's mean, (samples, pixels)."""
    seen = np.maximum(inside.sum(axis=1), 1)
    return np.ascontiguousarray(inside.T / seen, np.float32)


def _by_pixel(samples: NDArray[np.generic]) -> NDArray[np.generic]:
    """Samples of the whole view to (pixels, samples of each)."""
    blocks = samples.reshape(VIEW_PX, _SAMPLES, VIEW_PX, _SAMPLES).swapaxes(1, 2)
    return blocks.reshape(VIEW_PX * VIEW_PX, _SAMPLES * _SAMPLES)
