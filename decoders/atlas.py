"""Areas of the dorsal cortex in a camera's frames: an atlas in mm, placed by the skull's landmarks.

Owns where each area lies in a picture; knows nothing of what a decoder makes of it. Two atlases: the coarse
built-in outline of `rig.dorsal_cortex`, and a folder in the layout that wfield reads.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.datasets.behavior import BehaviorRecording
from rig.dorsal_cortex import AREAS, LANDMARKS_MM
from rig.errors import DataError

PROJECTION = "dorsal_cortex_projection.npy"
LABELS = "dorsal_cortex_ccf_labels.json"
_UM_PER_MM = 1000.0
Places = float | NDArray[np.float64] | NDArray[np.signedinteger[Any]]
_BUILT_IN_MM_PER_PX = 0.02
_BUILT_IN_HALF_WIDTH_MM, _BUILT_IN_FRONT_MM, _BUILT_IN_BACK_MM = 5.2, 3.2, -6.0
# areas are ellipses that leave gaps between them; a gap belongs to its nearest area within this
_REACH = 1.5  # in half extents
_LEAST_OVERLAP = 0.5  # of the atlas that has to lie within the frame


@dataclass(frozen=True, slots=True)
class Atlas:
    """Label image of the dorsal cortex seen from above, nose up, left hemisphere left.

    Attributes
    ----------
    labels
        (H, W), 0 outside of cortex; one label for both hemispheres.
    names
        Name of each label, e.g. "FL" (built in) or "SSp-ul" (Allen CCF).
    mm_per_px
        Size of its pixels.
    bregma_px
        (column, row) of bregma; the midline is its column.
    source
        What it is, for reports.
    """

    labels: NDArray[np.int16]
    names: Mapping[int, str]
    mm_per_px: float
    bregma_px: tuple[float, float]
    source: str

    def label_at(self, ml_mm: NDArray[np.float64], ap_mm: NDArray[np.float64]) -> NDArray[np.int16]:
        """Label of places in mm from bregma (ML right positive, AP to the front); 0 outside the image."""
        column = np.rint(self.bregma_px[0] + ml_mm / self.mm_per_px).astype(np.int64)
        row = np.rint(self.bregma_px[1] - ap_mm / self.mm_per_px).astype(np.int64)
        height, width = self.labels.shape
        known = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        found: NDArray[np.int16] = self.labels[row.clip(0, height - 1), column.clip(0, width - 1)]
        return np.where(known, found, 0).astype(np.int16)


@dataclass(frozen=True, slots=True)
class Placement:
    """Similarity from mm (ML right, AP to the front) to frame pixels (column, row).

    As complex numbers, ML - i AP (so that rows grow downwards, as AP falls) is multiplied by `turn` and `shift` is
    added: no reflection, no shear.

    `residual_mm` is the root mean square distance between the landmarks that were clicked and where the
    placement has them: 0 for two landmarks, which any similarity meets.
    """

    turn: complex
    shift: complex
    residual_mm: float

    @property
    def mm_per_px(self) -> float:
        """Size of a frame's pixel on the skull."""
        return 1 / abs(self.turn)

    @property
    def rotation_deg(self) -> float:
        """How far the brain is turned clockwise in the frame."""
        return float(np.degrees(np.angle(self.turn)))

    def to_px(self, ml_mm: Places, ap_mm: Places) -> tuple[Any, Any]:
        """Column and row of places in mm, numbers or arrays."""
        z = self.turn * (ml_mm - 1j * ap_mm) + self.shift
        return z.real, z.imag

    def to_mm(self, height_px: int, width_px: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """ML and AP in mm of every pixel of a frame, each (H, W)."""
        row, column = np.indices((height_px, width_px))
        return self.to_mm_at(column, row)

    def to_mm_at(self, column_px: Places, row_px: Places) -> tuple[Any, Any]:
        """ML and AP in mm of places in the frame, numbers or arrays."""
        z = (column_px + 1j * row_px - self.shift) / self.turn
        return z.real, -z.imag


def place(landmarks_px: Mapping[Any, tuple[float, float]] | None, where: Path | str) -> Placement:
    """Least-squares similarity that brings the atlas onto landmarks, (column, row) in the frame.

    Raises
    ------
    DataError
        For fewer than two landmarks, or coincident ones; `where` is the file that the message names.
    """
    known = dict(landmarks_px or {})
    valid = ", ".join(LANDMARKS_MM)
    if len(known) < 2:
        raise DataError(
            f"{where}: {len(known)} landmarks_px; valid is two or three of {valid}, in the rig's YAML or for"
            " `rig explain` by --landmarks"
        )
    mm = np.array([complex(LANDMARKS_MM[name][0], -LANDMARKS_MM[name][1]) for name in known])
    px = np.array([complex(*known[name]) for name in known])
    if not np.isfinite(px).all() or min(abs(a - b) for i, a in enumerate(px) for b in px[:i]) < 1:
        raise DataError(f"{where}: landmarks_px coincide ({_listed(known)}); valid is more than 1 px apart")
    return _least_squares(mm, px)


def _least_squares(mm: NDArray[np.complex128], px: NDArray[np.complex128]) -> Placement:
    """Procrustes without reflection: in complex numbers, one regression."""
    centred_mm, centred_px = mm - mm.mean(), px - px.mean()
    turn = complex(np.vdot(centred_mm, centred_px) / np.vdot(centred_mm, centred_mm))
    shift = complex(px.mean() - turn * mm.mean())
    residual_px = float(np.sqrt(np.mean(np.abs(turn * mm + shift - px) ** 2)))
    return Placement(turn, shift, residual_px / abs(turn))


def _listed(landmarks_px: Mapping[Any, tuple[float, float]]) -> str:
    return ", ".join(f"{name} {column:g},{row:g}" for name, (column, row) in landmarks_px.items())


def area_masks(recording: BehaviorRecording, atlas: Atlas | None = None) -> dict[str, NDArray[np.bool_]]:
    """Pixels of every area of a recording's frames, placed by its landmarks.

    Parameters
    ----------
    recording
        With two landmarks or three.
    atlas
        From `load_atlas`; the built-in outline when None.

    Returns
    -------
    dict
        "L-FL" to (H, W): forelimb S1 of the left hemisphere. Only areas that have a pixel in the frame.

    Raises
    ------
    DataError
        When landmarks are missing, or most of the atlas falls outside the frame.
    """
    placement = place(recording.landmarks_px, recording.path)
    return placed_masks(atlas or built_in(), placement, recording.size_px, recording.path)


def placed_masks(
    atlas: Atlas, placement: Placement, size_px: tuple[int, int], where: Path | str
) -> dict[str, NDArray[np.bool_]]:
    """Pixels of every area of a frame (H, W) = `size_px`, as `area_masks`."""
    _check_within(atlas, placement, size_px, where)
    ml_mm, ap_mm = placement.to_mm(*size_px)
    labels = atlas.label_at(ml_mm, ap_mm)
    masks = {
        f"{side}-{name}": (labels == label) & here
        for side, here in (("L", ml_mm < 0), ("R", ml_mm >= 0))
        for label, name in atlas.names.items()
    }
    return {name: mask for name, mask in masks.items() if mask.any()}


def _check_within(atlas: Atlas, placement: Placement, size_px: tuple[int, int], where: Path | str) -> None:
    row, column = (index[::8] for index in np.nonzero(atlas.labels))
    ml_mm, ap_mm = (
        (column - atlas.bregma_px[0]) * atlas.mm_per_px,
        (atlas.bregma_px[1] - row) * atlas.mm_per_px,
    )
    z = placement.turn * (ml_mm - 1j * ap_mm) + placement.shift
    height, width = size_px
    inside = float(np.mean((z.real >= 0) & (z.real < width) & (z.imag >= 0) & (z.imag < height)))
    if inside < _LEAST_OVERLAP:
        raise DataError(
            f"{where}: by its landmarks_px {1 - inside:.0%} of the atlas lie outside the frame of "
            f"{width}x{height} px; valid is {1 - _LEAST_OVERLAP:.0%} at most ([column, row], after binning)"
        )


def load_atlas(folder: Path | None = None) -> Atlas:
    """Read an atlas in the layout that wfield reads; the built-in outline when `folder` is None.

    The folder holds `dorsal_cortex_projection.npy`, labels (H, W), and `dorsal_cortex_ccf_labels.json`: label,
    acronym, resolution (um per pixel) and reference (row, column of bregma) of every area.

    Raises
    ------
    DataError
        When a file is missing or not of this kind.
    """
    return built_in() if folder is None else _read_folder(folder)


def _read_folder(folder: Path) -> Atlas:
    labels, areas = _read_projection(folder / PROJECTION), _read_areas(folder / LABELS)
    try:
        names = {int(area["label"]): str(area["acronym"]) for area in areas}
        resolutions = {float(area["resolution"]) for area in areas}
        references = {(float(area["reference"][0]), float(area["reference"][1])) for area in areas}
        (resolution_um,), ((row, column),) = resolutions, references
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"{folder / LABELS}: not wfield's table of areas ({error!r}); valid is a list of objects with acronym, "
            "label, and one resolution (um) and reference (row, column) for all"
        ) from error
    unnamed = sorted(set(np.unique(labels).tolist()) - {0} - set(names))
    if unnamed or not resolution_um > 0:
        raise DataError(
            f"{folder / LABELS}: labels {unnamed} of {PROJECTION} have no name; valid is one each"
        )
    return Atlas(labels, names, resolution_um / _UM_PER_MM, (column, row), str(folder))


def _read_projection(path: Path) -> NDArray[np.int16]:
    valid = "valid is a label image (H, W) of whole numbers, as wfield's"
    try:
        image = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {valid}") from error
    if not isinstance(image, np.ndarray) or image.ndim != 2 or image.dtype.kind not in "iu":
        raise DataError(f"{path}: holds no label image; {valid}")
    # wfield's other tables give the right hemisphere negative labels
    return np.abs(image).astype(np.int16)


def _read_areas(path: Path) -> list[dict[str, Any]]:
    try:
        areas = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); valid is wfield's table of areas, JSON"
        ) from error
    if not isinstance(areas, list) or not areas:
        raise DataError(f"{path}: holds no list of areas; valid is wfield's table of areas")
    return areas


@lru_cache(maxsize=1)
def built_in() -> Atlas:
    """Draw the coarse outline of `rig.dorsal_cortex`: every pixel to its nearest ellipse."""
    mm = _BUILT_IN_MM_PER_PX
    half, front = round(_BUILT_IN_HALF_WIDTH_MM / mm), round(_BUILT_IN_FRONT_MM / mm)
    rows = front - round(_BUILT_IN_BACK_MM / mm)
    row, column = np.indices((rows + 1, 2 * half + 1))
    ml_mm, ap_mm = np.abs(column - half) * mm, (front - row) * mm
    distance = np.stack(
        [np.hypot((ml_mm - a.ml_mm) / a.half_ml_mm, (ap_mm - a.ap_mm) / a.half_ap_mm) for a in AREAS]
    )
    labels = np.where(distance.min(axis=0) <= _REACH, distance.argmin(axis=0) + 1, 0).astype(np.int16)
    names = {k + 1: area.name for k, area in enumerate(AREAS)}
    return Atlas(labels, names, mm, (float(half), float(front)), "built-in outline")
