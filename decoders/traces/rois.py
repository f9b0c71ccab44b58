"""Frames to neurons: weighted means over regions of interest, and over the neuropil around them.

All of an image's regions are one sparse matrix, so that thousands of them cost one product a frame.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rig.errors import DataError
from rig.rois import RoiMasks

NEUROPIL_SHARE = 0.7  # of the surround subtracted: Chen et al. 2013, doi 10.1038/nature12354
_SURROUND_PX = 350  # pixels of a surround: suite2p's `min_neuropil_pixels`
_CLEAR_PX = 2  # how far they stay from any cell: suite2p's `inner_neuropil_radius`
_TILE_PX = 4  # neuropil is smooth: means of small tiles serve, at about an eighth of the reading


def label_masks(labels: NDArray[np.integer]) -> RoiMasks:
    """Regions of a label image (H, W), every pixel of a region with the same weight; raises `DataError`."""
    check_labels(labels)
    flat = labels.ravel().astype(np.int64)
    pixel = np.flatnonzero(flat)
    pixel = pixel[np.argsort(flat[pixel], kind="stable")]
    roi = flat[pixel] - 1
    height_px, width_px = labels.shape
    return RoiMasks(height_px, width_px, roi, pixel, 1.0 / np.bincount(roi)[roi])


class WeightedMeans:
    """Weighted mean of every region in a frame: (H, W) to (N,)."""

    def __init__(self, masks: RoiMasks) -> None:
        size = masks.height_px * masks.width_px
        self._matrix = _matrix(masks.roi, masks.pixel, masks.weight, (masks.count, size))

    def __call__(self, frame: NDArray[np.float32]) -> NDArray[np.float32]:
        """Means in one frame."""
        means: NDArray[np.float32] = self._matrix @ frame.ravel()
        return means


class TiledSurround:
    """Mean of the neuropil around every region: the tiles without cells nearest to its centre, (H, W) to (N,).

    Pixels of cells, and those within 2 pixels of one where enough others are left, take no part. Tiles are taken
    from the nearest outwards until they hold 350 pixels.
    """

    def __init__(self, cells: RoiMasks) -> None:
        free = _free_pixels(cells.inside)
        tile, count = _tiles(free)
        pixels = np.flatnonzero(free)
        sums = np.argsort(tile[pixels], kind="stable")
        ones = np.ones(len(pixels))
        self._tile_sums = _matrix(tile[pixels][sums], pixels[sums], ones, (len(count), free.size))
        roi, chosen = _nearest_tiles(cells.centres_px(), count, -(-cells.width_px // _TILE_PX))
        share = 1.0 / np.bincount(roi, count[chosen])[roi]
        self._matrix = _matrix(roi, chosen, share, (cells.count, len(count)))

    def __call__(self, frame: NDArray[np.float32]) -> NDArray[np.float32]:
        """Means in one frame."""
        means: NDArray[np.float32] = self._matrix @ (self._tile_sums @ frame.ravel())
        return means


def _matrix(
    row: NDArray[np.int64], column: NDArray[np.int64], value: NDArray[np.float64], shape: tuple[int, int]
) -> Any:
    """Sparse matrix from entries in the order of their rows; small types, as a product is limited by reading it."""
    from scipy.sparse import csr_array

    starts = np.searchsorted(row, np.arange(shape[0] + 1))
    return csr_array((value.astype(np.float32), column.astype(np.int32), starts.astype(np.int32)), shape)


def _free_pixels(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels (H, W) clear of all cells; in a crowded image, those in none."""
    from scipy.ndimage import binary_dilation

    near: NDArray[np.bool_] = binary_dilation(inside, iterations=_CLEAR_PX)
    crowded = (~near).mean() < 0.1
    free = ~inside if crowded else ~near
    if free.sum() < _SURROUND_PX:
        raise DataError(
            f"{int(free.sum())} pixels are outside all ROIs; valid is {_SURROUND_PX} or more, or a neuropil share of 0"
        )
    return free


def _tiles(free: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tile of every pixel of the flat image, and how many free pixels each tile has."""
    height_px, width_px = free.shape
    across = -(-width_px // _TILE_PX)
    row, column = np.divmod(np.arange(free.size), width_px)
    tile = row // _TILE_PX * across + column // _TILE_PX
    return tile, np.bincount(tile, free.ravel(), -(-height_px // _TILE_PX) * across).astype(np.int64)


def _nearest_tiles(
    centres_px: NDArray[np.float64], count: NDArray[np.int64], across: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Regions and tiles, as pairs: for each region the nearest tiles that hold enough free pixels together."""
    from scipy.spatial import cKDTree

    usable = np.flatnonzero(count)
    place = (np.stack(np.divmod(usable, across), axis=1) + 0.5) * _TILE_PX - 0.5
    tree, asked = cKDTree(place), min(2 * _SURROUND_PX // _TILE_PX**2, len(usable))
    while True:
        nearest = usable[tree.query(centres_px, k=asked)[1].reshape(len(centres_px), asked)]
        held = np.cumsum(count[nearest], axis=1)
        if held[:, -1].min() >= _SURROUND_PX or asked == len(usable):
            break
        asked = min(2 * asked, len(usable))
    keep = held - count[nearest] < _SURROUND_PX
    return np.nonzero(keep)[0], nearest[keep]


class RoiTraces:
    """Mean grey level of every ROI of a label image, optionally less the neuropil in a ring around it.

    Parameters
    ----------
    labels
        Label image (H, W): 0 outside, 1 to N for the pixels of each ROI.
    neuropil_px
        Width of the ring around an ROI whose mean is subtracted (0.7 of it); 0: no subtraction.

    Raises
    ------
    DataError
        When the label image is empty, not of whole numbers, or a label has no pixel.
    """

    def __init__(self, labels: NDArray[np.integer], neuropil_px: int = 0) -> None:
        check_labels(labels)
        self.labels = labels.astype(np.int64)
        self.count = int(labels.max())
        self._inside = _MeanPerLabel(self.labels, self.count)
        self._ring = (
            _MeanPerLabel(neuropil_rings(self.labels, neuropil_px), self.count) if neuropil_px else None
        )

    def __call__(self, frame: NDArray[np.generic]) -> NDArray[np.float32]:
        """Trace values of one frame: (H, W) to (N,)."""
        traces = self._inside(frame)
        if self._ring is not None:
            traces = traces - NEUROPIL_SHARE * self._ring(frame)
        return traces.astype(np.float32)


class _MeanPerLabel:
    """Mean over the pixels of each label 1 to `count`; 0 for a label without pixels.

    In double precision, unlike `WeightedMeans`: trained decoders hold the results to the bit.
    """

    def __init__(self, labels: NDArray[np.int64], count: int) -> None:
        from scipy.sparse import csr_array

        pixels = np.flatnonzero(labels)
        pixels = pixels[np.argsort(labels.ravel()[pixels], kind="stable")]
        rows = labels.ravel()[pixels] - 1
        starts = np.searchsorted(rows, np.arange(count + 1))
        self._sums = csr_array((np.ones(len(pixels)), pixels, starts), (count, labels.size))
        self._sizes = np.maximum(np.diff(starts), 1)

    def __call__(self, frame: NDArray[np.generic]) -> NDArray[np.float64]:
        means: NDArray[np.float64] = (self._sums @ frame.ravel().astype(np.float64)) / self._sizes
        return means


def neuropil_rings(labels: NDArray[np.int64], width_px: int) -> NDArray[np.int64]:
    """Label image of the pixels within `width_px` of an ROI and in none, each with its nearest ROI's label."""
    from scipy.ndimage import distance_transform_edt

    distance_px, (row, column) = distance_transform_edt(labels == 0, return_indices=True)
    near = (distance_px > 0) & (distance_px <= width_px)
    rings: NDArray[np.int64] = np.where(near, labels[row, column], 0)
    return rings


def read_label_image(path: Path) -> NDArray[np.integer]:
    """Read a label image (H, W) from a ``.npy`` file; raises `DataError`."""
    try:
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a label image: {error}; valid is a .npy of (H, W) integers") from error
    if not isinstance(labels, np.ndarray):
        raise DataError(
            f"{path}: not a label image: holds several arrays; valid is a .npy of (H, W) integers"
        )
    check_labels(labels, str(path))
    return labels


def check_labels(labels: NDArray[np.generic], name: str = "label image") -> None:
    """Raise `DataError` unless this is an (H, W) image of integers whose labels 1 to N all have pixels."""
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{name}: shape {labels.shape} of {labels.dtype}; valid is (H, W) integers")
    found = np.unique(labels)
    if found[0] < 0 or found[-1] < 1 or len(found[found > 0]) != found[-1]:
        has = f"labels {found[0]} to {found[-1]}, {len(found)} different ones"
        raise DataError(f"{name}: {has}; valid are 0 and 1 to N, none left out")
