"""Models trained anew on parts of the cortex: what each part knows by itself, and what is lost without the limbs.

After the subsets of regions in Ajioka et al. 2024 (doi 10.1371/journal.pcbi.1011074), leaving one animal out. A model
on ROI traces gets the part's ROIs alone; a model on images gets frames in which all else is one constant, which
normalisation makes zero.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.atlas import Atlas, area_masks
from decoders.behavior.metrics import area_under_curve
from decoders.behavior.parts import ALL, PUBLISHED_AUC, part_mask, part_names, part_rois
from decoders.behavior.predictor import FitOptions, fit
from decoders.behavior.ranking import as_json
from decoders.behavior.resampling import interval_over_mice
from decoders.behavior.rois import roi_names
from decoders.behavior.schemes import Blocks, folds
from decoders.datasets.behavior import BehaviorRecording, FrameSource
from rig.errors import DataError


def retrain(
    model: str,
    recordings: Sequence[BehaviorRecording],
    parts: Sequence[str],
    options: FitOptions,
    atlas: Atlas,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Train `model` on each part, every mouse left out in turn, and score it on that mouse.

    Parameters
    ----------
    model
        One of `decoders.behavior.predictor.MODELS`; those on ROI traces get the part's ROIs.
    recordings
        Of two mice or more.
    parts
        From `part_names`.
    options
        How to fit.
    atlas
        For models on images.
    progress
        Called with 1 after every fit.

    Returns
    -------
    dict
        As JSON: part to `auc` (mean over mice with its interval), `mice` (AUC each) and `published_auc`.

    Raises
    ------
    DataError
        For an unknown part, or recordings whose ROIs or areas have no such names.
    """
    if unknown := [part for part in parts if part not in part_names()]:
        raise DataError(f"no part {unknown[0]!r}; valid: {', '.join(part_names())}")
    found: dict[str, Any] = {}
    for part in parts:
        aucs = _left_out(model, *_restricted(model, recordings, part, options, atlas), progress)
        found[part] = {
            "auc": as_json(
                interval_over_mice([np.array([auc]) for auc in aucs.values() if np.isfinite(auc)])
            ),
            "mice": {mouse: round(auc, 5) if np.isfinite(auc) else None for mouse, auc in aucs.items()},
            "published_auc": PUBLISHED_AUC[part],
        }
    return found


def _left_out(
    model: str, recordings: Sequence[BehaviorRecording], options: FitOptions, progress: Callable[[int], None]
) -> dict[str, float]:
    """AUC of every mouse by the model of all others; NaN without both running and rest."""
    aucs = {}
    for fold in folds(recordings, "leave-one-animal-out", model, Blocks()):
        predictor = fit(model, fold.training, fold.validation, options)
        answers = np.concatenate([predictor.predict(excerpt.recording) for excerpt in fold.test])
        running = np.concatenate([excerpt.running for excerpt in fold.test])
        known = ~np.isnan(answers)
        aucs[fold.test_mouse] = area_under_curve(answers[known], running[known])
        progress(1)
    return aucs


def _restricted(
    model: str, recordings: Sequence[BehaviorRecording], part: str, options: FitOptions, atlas: Atlas
) -> tuple[Sequence[BehaviorRecording], FitOptions]:
    """Recordings and options that show a model nothing but the part."""
    if part == ALL:
        return recordings, options
    if model.startswith("roi-"):
        rois = part_rois(roi_names(recordings[0]), part)
        if not rois:
            raise DataError(
                f"{recordings[0].path}: none of its ROIs belongs to {part}; valid are the published 50, or landmarks_px"
            )
        return recordings, replace(options, settings={**(options.settings or {}), "rois": rois})
    return [_seen(recording, part, atlas) for recording in recordings], options


def _seen(recording: BehaviorRecording, part: str, atlas: Atlas) -> BehaviorRecording:
    """Return the recording with nothing but the part in its frames."""
    seen = part_mask(area_masks(recording, atlas), part)
    if seen is None:
        raise DataError(f"{recording.path}: no area of {part} lies in its frames")
    # traces that came with the data know the whole cortex: models that want some make them from the frames
    return replace(recording, frames=_Within(recording.frames, seen), roi_traces=None)


class _Within:
    """Frames (T, H, W) with zero outside of a mask; read from the disk when asked for, as those they are made of."""

    def __init__(self, frames: FrameSource, seen: NDArray[np.bool_]) -> None:
        self._frames, self._seen = frames, seen

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, H, W)."""
        return self._frames.shape

    def __getitem__(self, frames: slice, /) -> NDArray[np.generic]:
        """Frames of a contiguous slice, (n, H, W)."""
        read = self._frames[frames]
        return read * self._seen.astype(read.dtype)
