"""Frames to neurons: the mean of each region of interest, from a label image."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rig.errors import DataError

_NEUROPIL_SHARE = 0.7  # of the surround subtracted: Chen et al. 2013, doi 10.1038/nature12354


class RoiTraces:
    """Mean grey level of every ROI in a frame, optionally less the neuropil around it.

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
            traces = traces - _NEUROPIL_SHARE * self._ring(frame)
        return traces.astype(np.float32)


class _MeanPerLabel:
    """Mean over the pixels of each label 1 to `count`; 0 for a label without pixels."""

    def __init__(self, labels: NDArray[np.int64], count: int) -> None:
        self._pixels = np.flatnonzero(labels)
        self._labels = labels.ravel()[self._pixels] - 1
        self._count = count
        self._sizes = np.maximum(np.bincount(self._labels, minlength=count), 1)

    def __call__(self, frame: NDArray[np.generic]) -> NDArray[np.float64]:
        values = frame.ravel()[self._pixels]
        means: NDArray[np.float64] = np.bincount(self._labels, values, self._count) / self._sizes
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
