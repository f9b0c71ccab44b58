"""Which cortex a run/rest model uses: how much its AUC and its evidence fall when pixels are taken away.

The perturbation of Ajioka et al. 2024 (doi 10.1371/journal.pcbi.1011074): pixels are set to zero after normalisation
in the whole recording, the model answers anew, and the score is the AUC without a mask less that with it. A decoder
near its ceiling keeps its AUC whichever area is masked, as others stand in; so the same is measured of its evidence,
the mean log odds in favour of the truth, which has no ceiling. Owns the masks' names, the running of them and the two
measures; shapes are `decoders.occlusion`'s, statistics `decoders.behavior.ranking`'s.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from decoders.atlas import Atlas, Placement, place, placed_masks
from decoders.behavior.parts import PARTS, area_of, part_mask
from decoders.behavior.predictor import Predictor
from decoders.behavior.resampling import BLOCK_S, Samples, block_weights, blocked_auc, blocked_mean
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

Group = Literal["grid", "areas", "parts", "sides", "circles", "border"]
Masks = dict[Group, dict[str, NDArray[np.bool_]]]
Measure = Literal["auc", "evidence"]
_Statistic = Callable[[NDArray[np.float32]], Samples]
LEAST_PROBABILITY = 1e-6  # and at most 1 less this: one frame of full certainty must not outweigh a recording
CIRCLE_RADIUS_MM = 0.45  # forelimb S1's own half width: one size for all areas


@dataclass(frozen=True, slots=True)
class MaskOptions:
    """Which pixels are taken away.

    `size_px` and `stride_px` of the grid; None is the published 32 and 16 px of a frame of 128, scaled to the frame.
    `areas`: each area of both hemispheres together, and each part of the cortex. `sides`: each area of one hemisphere.
    `controls`: the frame's border, and circles of one size on every area, since a larger area falls by more for its
    size alone.
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
class Measured:
    """One measure without a mask (AUC, or mean log odds), and by how much each mask lowers it."""

    unmasked: Samples
    drops: Mapping[Group, Mapping[str, Samples]]


@dataclass(frozen=True, slots=True)
class Run:
    """One model on one recording: both measures, with bootstrap replicates.

    `mm2` is the size of each area and part in the frame, both hemispheres together.
    """

    model: str
    mouse: str
    session: str
    measured: Mapping[Measure, Measured]
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
    masks: Masks = {"areas": both_sides(sides), "parts": parts_of(sides)}
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


def parts_of(sides: Mapping[str, NDArray[np.bool_]]) -> dict[str, NDArray[np.bool_]]:
    """Join areas to the parts of the cortex that were published as one; only parts that lie in the frame."""
    masks = {part: part_mask(sides, part) for part in PARTS}
    return {part: mask for part, mask in masks.items() if mask is not None}


def _circle(mask: NDArray[np.bool_], radius_px: float) -> NDArray[np.bool_]:
    row, column = np.nonzero(mask)
    height, width = mask.shape
    return disc(height, width, (float(column.mean()), float(row.mean())), radius_px)


def perturb(
    model: Model, recording: BehaviorRecording, masks: Masks, progress: Callable[[int], None] = lambda _: None
) -> Run:
    """Take each mask's pixels away and see how far the model's AUC and evidence fall.

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
    statistics = _statistics(recording, known)
    unmasked = {measure: statistic(base[known]) for measure, statistic in statistics.items()}
    drops: dict[Measure, dict[Group, dict[str, Samples]]] = {
        measure: {group: {} for group in masks} for measure in statistics
    }
    for group, name, mask in ((group, *one) for group, named in masks.items() for one in named.items()):
        answers = model.predictor.predict(recording, occluded=mask)
        if not np.array_equal(np.isnan(answers), ~known):
            raise DataError(f"{recording.path}: {model.name} answers other frames with a mask than without")
        for measure, statistic in statistics.items():
            drops[measure][group][name] = unmasked[measure] - statistic(answers[known])
        progress(1)
    measured = {measure: Measured(unmasked[measure], drops[measure]) for measure in statistics}
    return Run(model.name, recording.mouse, recording.session, measured, _sizes_mm2(recording, masks))


def _statistics(recording: BehaviorRecording, known: NDArray[np.bool_]) -> dict[Measure, _Statistic]:
    """Both measures of answers at the `known` frames (T,), on the same resampled blocks of time."""
    running = recording.running[known]
    block = (np.flatnonzero(known) / (BLOCK_S * recording.rate_hz)).astype(np.int64)
    block -= block[0]
    # seeded by the session: models of one session see the same blocks, so their intervals can be compared
    weights = block_weights(int(block[-1]) + 1, crc32(recording.session.encode()))
    return {
        "auc": lambda answers: blocked_auc(answers, running, block, weights),
        "evidence": lambda answers: blocked_mean(evidence(answers, running), block, weights),
    }


def evidence(probability: NDArray[np.floating], running: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Log odds in favour of the truth at every frame, (T,): above zero where the answer is right.

    Parameters
    ----------
    probability
        (T,), of running; clipped to `LEAST_PROBABILITY` and 1 less that. No NaN.
    running
        (T,), the truth.
    """
    clipped = np.clip(probability.astype(np.float64), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    odds: NDArray[np.float64] = np.log(clipped) - np.log1p(-clipped)
    return np.where(running, odds, -odds)


def _sizes_mm2(recording: BehaviorRecording, masks: Masks) -> dict[str, float]:
    if "areas" not in masks:
        return {}
    placement: Placement = place(recording.landmarks_px, recording.path)
    placed = masks["areas"] | masks["parts"]
    return {name: float(mask.sum()) * placement.mm_per_px**2 for name, mask in placed.items()}
