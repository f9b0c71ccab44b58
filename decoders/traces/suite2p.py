"""Regions of interest as suite2p found them: the folder with ``stat.npy``, ``ops.npy`` and ``iscell.npy``.

suite2p: Pachitariu et al. 2017, doi 10.1101/061507. A cell's trace is the sum of its pixels weighted by `lam`, which
sums to 1; pixels that two cells share are left out, as suite2p does by default. Nothing in the folder is executed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.traces.pickled import read_npy
from rig.errors import DataError
from rig.rois import RoiMasks


@dataclass(frozen=True, slots=True)
class FieldOfView:
    """The cells in a camera's image, and what else is known of it; None where nobody said."""

    cells: RoiMasks
    neuropil: RoiMasks | None = None
    """Pixels of each cell's surround."""
    reference: NDArray[np.float32] | None = None
    """Image (H, W) that frames are registered to."""
    neuropil_share: float | None = None
    """Share of the surround subtracted (`neucoeff`)."""
    tau_s: float | None = None
    """Decay time of the indicator."""


def read_suite2p(folder: Path, *, overlapping: bool = False, all_rois: bool = False) -> FieldOfView:
    """Read the cells of a suite2p folder (``.../suite2p/plane0``).

    Parameters
    ----------
    overlapping
        Keep the pixels that cells share; a cell without any of its own keeps them in any case.
    all_rois
        Also those that ``iscell.npy`` says are no cells.

    Raises
    ------
    DataError
        When a file is missing, damaged, not suite2p's, or would execute code; names file and value.
    """
    options = _options(folder / "ops.npy")
    height_px, width_px = (_size(options, key, folder / "ops.npy") for key in ("Ly", "Lx"))
    path = folder / "stat.npy"
    chosen = _cells_only(folder / "iscell.npy", _found(path), all_rois)
    if not chosen:
        raise DataError(f"{path}: no ROI is a cell by iscell.npy; valid is 1 or more")
    shape = height_px, width_px
    cells = _stacked([_cell(entry, number, path, shape, overlapping) for number, entry in chosen], shape)
    return FieldOfView(
        cells,
        _neuropil(chosen, path, shape),
        _reference(options.get("refImg"), shape, folder / "ops.npy"),
        _number(options, "neucoeff"),
        _number(options, "tau"),
    )


Entry = tuple[int, Mapping[str, Any]]
Mask = tuple[NDArray[np.int64], NDArray[np.float64]]  # pixels and weights


def _options(path: Path) -> Mapping[str, Any]:
    content = read_npy(path)
    options = content.item() if content.shape == () else None
    if not isinstance(options, dict):
        raise DataError(
            f"{path}: an array of shape {content.shape}; valid is suite2p's dictionary of options"
        )
    return options


def _size(options: Mapping[str, Any], key: str, path: Path) -> int:
    value = options.get(key)
    if not isinstance(value, int | float) or not 1 <= value <= 1 << 15 or value != int(value):
        raise DataError(f"{path}: {key} is {value!r}; valid is the size of a frame, 1 or more pixels")
    return int(value)


def _number(options: Mapping[str, Any], key: str) -> float | None:
    value = options.get(key)
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else None


def _found(path: Path) -> list[Mapping[str, Any]]:
    content = read_npy(path)
    entries = list(content) if content.ndim == 1 else []
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(
            f"{path}: an array of shape {content.shape} of {content.dtype}; valid is one dictionary for each ROI"
        )
    return entries


def _cells_only(path: Path, entries: Sequence[Mapping[str, Any]], all_rois: bool) -> list[Entry]:
    """Choose the entries that are cells, with their numbers in the file; all when there is no such file."""
    numbered = list(enumerate(entries))
    if all_rois or not path.exists():
        return numbered
    is_cell = read_npy(path)
    if is_cell.ndim != 2 or len(is_cell) != len(entries) or not np.issubdtype(is_cell.dtype, np.number):
        raise DataError(
            f"{path}: shape {is_cell.shape} of {is_cell.dtype}; valid is ({len(entries)}, 2) numbers"
        )
    return [entry for entry, keep in zip(numbered, is_cell[:, 0] > 0, strict=True) if keep]


def _cell(
    entry: Mapping[str, Any], number: int, path: Path, shape: tuple[int, int], overlapping: bool
) -> Mask:
    row, column, weight = (_values(entry, key, number, path) for key in ("ypix", "xpix", "lam"))
    if not len(row) == len(column) == len(weight) > 0:
        sizes = f"{len(row)} ypix, {len(column)} xpix, {len(weight)} lam"
        raise DataError(f"{path}: ROI {number} has {sizes}; valid is one of each for each pixel")
    pixel = _pixels(row, column, number, path, shape)
    keep = _own(entry.get("overlap"), len(row)) & (weight > 0) if not overlapping else weight > 0
    keep = keep if keep.any() else weight > 0
    if not np.isfinite(weight).all() or not keep.any():
        raise DataError(f"{path}: ROI {number} has no finite lam above 0; valid are its pixels' weights")
    return pixel[keep], weight[keep] / weight[keep].sum()


def _values(entry: Mapping[str, Any], key: str, number: int, path: Path) -> NDArray[np.float64]:
    values = entry.get(key)
    if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype.kind not in "iuf":
        raise DataError(f"{path}: ROI {number} has no list of numbers {key}; valid is one for each pixel")
    return values.astype(np.float64)


def _pixels(
    row: NDArray[np.float64], column: NDArray[np.float64], number: int, path: Path, shape: tuple[int, int]
) -> NDArray[np.int64]:
    for name, place, size in (("ypix", row, shape[0]), ("xpix", column, shape[1])):
        outside = ~((place >= 0) & (place < size))
        if outside.any():
            raise DataError(
                f"{path}: ROI {number} has {name} {place[outside][0]:g}; valid is 0 to {size - 1}, inside the frame"
            )
    return row.astype(np.int64) * shape[1] + column.astype(np.int64)


def _own(overlap: object, count: int) -> NDArray[np.bool_]:
    """Which pixels are this cell's alone; all where suite2p does not say."""
    if isinstance(overlap, np.ndarray) and overlap.shape == (count,):
        return ~overlap.astype(bool)
    return np.ones(count, bool)


def _neuropil(chosen: Sequence[Entry], path: Path, shape: tuple[int, int]) -> RoiMasks | None:
    """Surrounds, if every cell has one."""
    masks = [entry.get("neuropil_mask") for _, entry in chosen]
    if not all(isinstance(mask, np.ndarray) and mask.size for mask in masks):
        return None
    return _stacked(
        [_surround(mask, number, path, shape) for (number, _), mask in zip(chosen, masks, strict=True)], shape
    )


def _surround(mask: Any, number: int, path: Path, shape: tuple[int, int]) -> Mask:
    """Take one cell's surround, given as places in the flattened frame."""
    size = shape[0] * shape[1]
    if mask.ndim != 1 or mask.dtype.kind not in "iu" or mask.min() < 0 or mask.max() >= size:
        raise DataError(f"{path}: neuropil_mask of ROI {number} leaves the frame; valid is 0 to {size - 1}")
    return mask.astype(np.int64), np.full(len(mask), 1.0 / len(mask))


def _reference(image: object, shape: tuple[int, int], path: Path) -> NDArray[np.float32] | None:
    if image is None:
        return None
    if not isinstance(image, np.ndarray) or image.dtype.kind not in "iuf" or image.shape != shape:
        found = getattr(image, "shape", type(image).__name__)
        raise DataError(f"{path}: refImg has shape {found}; valid is {shape}, that of a frame")
    return image.astype(np.float32)


def _stacked(masks: Sequence[Mask], shape: tuple[int, int]) -> RoiMasks:
    roi = np.repeat(np.arange(len(masks)), [len(pixel) for pixel, _ in masks])
    pixel, weight = (np.concatenate(parts) for parts in zip(*masks, strict=True))
    return RoiMasks(*shape, roi, pixel, weight)
