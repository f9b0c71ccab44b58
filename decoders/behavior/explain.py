"""Which cortex a run/rest model uses: how much its AUC falls when pixels are taken away.

The perturbation of Ajioka et al. 2024 (doi 10.1371/journal.pcbi.1011074): pixels are set to zero after normalisation
in the whole recording, the model answers anew, and the score is the AUC without a mask less that with it. Owns the
masks' names and the running of them; shapes are `decoders.occlusion`'s, statistics `decoders.behavior.ranking`'s.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from decoders.atlas import Atlas, Placement, place, placed_masks
from decoders.behavior.predictor import Predictor
from decoders.behavior.resampling import BLOCK_S, Samples, block_weights, blocked_auc
from decoders.datasets.behavior import BehaviorRecording
from decoders.occlusion import (
    PUBLISHED_FRAME_PX,
    PUBLISHED_SIZE_PX,
    PUBLISHED_STRIDE_PX,
    Shape,
    border_masks,
    disc,
    occlusion_grid,
)
from rig.errors import DataError

Group = Literal["grid", "areas", "sides", "circles", "border"]
Masks = dict[Group, dict[str, NDArray[np.bool_]]]
CIRCLE_RADIUS_MM = 0.45  # forelimb S1's own half width: one size for all areas


@dataclass(frozen=True, slots=True)
class MaskOptions:
    """Which pixels are taken away.

    `size_px` and `stride_px` of the grid; None is the published 32 and 16 px of a frame of 128, scaled to the frame.
    `areas`: each area of both hemispheres together. `sides`: each area of one hemisphere. `controls`: the frame's
    border, and circles of one size on every area, since a larger area falls by more for its size alone.
    """

    size_px: int | None = None
    stride_px: int | None = None
    shape: Shape = "square"
    areas: bool = True
    sides: bool = True
    controls: bool = True

    def grid_px(self, size_px: tuple[int, int]) -> tuple[int, int]:
        """Size and stride of the grid's masks in a frame (H, W) = `size_px`."""
        scale = min(size_px) / PUBLISHED_FRAME_PX
        size = self.size_px or max(1, round(PUBLISHED_SIZE_PX * scale))
        return size, self.stride_px or max(1, min(size, round(PUBLISHED_STRIDE_PX * scale)))


@dataclass(frozen=True, slots=True)
class Model:
    """A fitted model, and the mouse it was kept from; None: any mouse."""

    name: str
    predictor: Predictor
    test_mouse: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One model on one recording: its AUC, and by how much each mask lowers it, with bootstrap replicates.

    `mm2` is the size of each area in the frame, both hemispheres together.
    """

    model: str
    mouse: str
    session: str
    auc: Samples
    drops: Mapping[Group, Mapping[str, Samples]]
    mm2: Mapping[str, float]


def cell_name(row: int, column: int) -> str:
    """Name of a mask of the grid."""
    return f"{row},{column}"


def masks_of(recording: BehaviorRecording, options: MaskOptions, atlas: Atlas) -> Masks:
    """Every mask that `options` ask for, by group and name.

    Raises
    ------
    DataError
        For masks that do not fit the frame, or areas of a recording whose landmarks do not place the atlas.
    """
    size, stride = options.grid_px(recording.size_px)
    grid = occlusion_grid(*recording.size_px, size, stride, options.shape)
    masks: Masks = {"grid": {cell_name(cell.row, cell.column): cell.mask for cell in grid}}
    if options.controls:
        border = border_masks(*recording.size_px, size)
        masks["border"] = {str(k): mask for k, mask in enumerate(border)}
    if options.areas:
        masks |= _anatomical(recording, options, atlas)
    return masks


def _anatomical(recording: BehaviorRecording, options: MaskOptions, atlas: Atlas) -> Masks:
    placement = place(recording.landmarks_px, recording.path)
    sides = placed_masks(atlas, placement, recording.size_px, recording.path)
    masks: Masks = {"areas": both_sides(sides)}
    if options.sides:
        masks["sides"] = sides
    if options.controls:
        masks["circles"] = both_sides(
            {name: _circle(mask, CIRCLE_RADIUS_MM / placement.mm_per_px) for name, mask in sides.items()}
        )
    return masks


def both_sides(sides: Mapping[str, NDArray[np.bool_]]) -> dict[str, NDArray[np.bool_]]:
    """Join "L-FL" and "R-FL" to "FL", and so on."""
    joined: dict[str, NDArray[np.bool_]] = {}
    for name, mask in sides.items():
        area = area_of(name)
        joined[area] = joined[area] | mask if area in joined else mask
    return joined


def area_of(side: str) -> str:
    """Give the area of "L-FL": "FL"."""
    return side.split("-", 1)[1]


def _circle(mask: NDArray[np.bool_], radius_px: float) -> NDArray[np.bool_]:
    row, column = np.nonzero(mask)
    height, width = mask.shape
    return disc(height, width, (float(column.mean()), float(row.mean())), radius_px)


def perturb(
    model: Model, recording: BehaviorRecording, masks: Masks, progress: Callable[[int], None] = lambda _: None
) -> Run:
    """Take each mask's pixels away and see how far the model's AUC falls.

    Parameters
    ----------
    model
        Answers once without a mask and once with each.
    recording
        With running and rest.
    masks
        From `masks_of`.
    progress
        Called with 1 after every mask.

    Raises
    ------
    DataError
        When the frames that the model answers hold no running or no rest, or a mask changes which it answers.
    """
    base = model.predictor.predict(recording)
    known = ~np.isnan(base)
    running = recording.running[known]
    if not running.any() or running.all():
        what = "rest" if running.any() else "running"
        raise DataError(f"{recording.path}: no {what} in the frames that {model.name} answers, so no AUC")
    block = (np.flatnonzero(known) / (BLOCK_S * recording.rate_hz)).astype(np.int64)
    block -= block[0]
    # seeded by the session: models of one session see the same blocks, so their intervals can be compared
    weights = block_weights(int(block[-1]) + 1, crc32(recording.session.encode()))
    auc = blocked_auc(base[known], running, block, weights)

    def drop(mask: NDArray[np.bool_]) -> Samples:
        answers = model.predictor.predict(recording, occluded=mask)
        if not np.array_equal(np.isnan(answers), ~known):
            raise DataError(f"{recording.path}: {model.name} answers other frames with a mask than without")
        progress(1)
        return auc - blocked_auc(answers[known], running, block, weights)

    drops: dict[Group, dict[str, Samples]] = {
        group: {name: drop(mask) for name, mask in named.items()} for group, named in masks.items()
    }
    return Run(model.name, recording.mouse, recording.session, auc, drops, _sizes_mm2(recording, masks))


def _sizes_mm2(recording: BehaviorRecording, masks: Masks) -> dict[str, float]:
    if "areas" not in masks:
        return {}
    placement: Placement = place(recording.landmarks_px, recording.path)
    return {name: float(mask.sum()) * placement.mm_per_px**2 for name, mask in masks["areas"].items()}
