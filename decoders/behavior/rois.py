"""Traces of regions of interest of a recording: its own, those of an atlas, or those of a plain grid.

Ajioka et al. 2024 (doi 10.1371/journal.pcbi.1011074) used 50 areas, 1-25 of one hemisphere and 26-50 their mirror
images. Without areas, a grid of as many squares in the same order stands in for them.
"""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.atlas import area_masks, built_in
from decoders.datasets.behavior import BehaviorRecording
from decoders.datasets.cache import cached

GRID = 5  # squares along an edge of a hemisphere: 25 a side, as many as the published areas
_FEWEST_LANDMARKS = 2  # that place an atlas
_CHUNK_FRAMES = 512  # read at once: 33 MB of float32 at 128x128


def roi_traces(recording: BehaviorRecording, cache: Path | None) -> NDArray[np.float32]:
    """Mean grey level of every ROI at every frame, (T, R).

    Zero for an area outside of the frame. The traces that the data set brings are returned as they are. Otherwise
    the frames are streamed once and the result kept in the folder `cache`; without one it is made again each time.
    """
    if recording.roi_traces is not None:
        return recording.roi_traces
    weights = np.stack([mask.ravel() / max(mask.sum(), 1) for mask in roi_masks(recording).values()], axis=1)
    weights = weights.astype(np.float32)  # (H*W, R)
    digest = hashlib.sha256(weights.tobytes()).hexdigest()[:16]
    arrays = cached(cache, recording, f"rois-{digest}", lambda: {"traces": _means(recording, weights)})
    return arrays["traces"].astype(np.float32, copy=False)


def roi_names(recording: BehaviorRecording) -> tuple[str, ...]:
    """Names of the columns of `roi_traces`; numbers from 1 for traces that the data set brings."""
    if recording.roi_traces is not None:
        return tuple(str(roi + 1) for roi in range(recording.roi_traces.shape[1]))
    return tuple(roi_masks(recording))


def roi_masks(recording: BehaviorRecording) -> dict[str, NDArray[np.bool_]]:
    """Pixels of every ROI of a recording that brings no traces, (H, W) each.

    With landmarks: the areas of the built-in atlas, left hemisphere first; one outside of the frame has no pixel.
    Without: a grid.
    """
    if len(recording.landmarks_px or {}) < _FEWEST_LANDMARKS:
        return grid_masks(*recording.size_px)
    placed, nowhere = area_masks(recording), np.zeros(recording.size_px, np.bool_)
    names = [f"{side}-{name}" for side in "LR" for name in built_in().names.values()]
    return {name: placed.get(name, nowhere) for name in names}


def grid_masks(height_px: int, width_px: int) -> dict[str, NDArray[np.bool_]]:
    """50 rectangles of about one size: 25 of the left half row by row, then their mirror images, (H, W) each."""
    half = width_px // 2
    rows, columns = _cuts(height_px), _cuts(half)
    masks = {}
    for row in range(GRID):
        for column in range(GRID):
            mask = np.zeros((height_px, width_px), np.bool_)
            mask[rows[row] : rows[row + 1], columns[column] : columns[column + 1]] = True
            masks[f"L-{row}{column}"] = mask
    return masks | {name.replace("L", "R"): mask[:, ::-1] for name, mask in masks.items()}


def _cuts(length_px: int) -> NDArray[np.int64]:
    return np.linspace(0, length_px, GRID + 1).round().astype(np.int64)


def _means(recording: BehaviorRecording, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Frames (T, H, W) times weights (H*W, R) to (T, R), some frames at a time."""
    traces = np.empty((len(recording), weights.shape[1]), np.float32)
    for start in range(0, len(recording), _CHUNK_FRAMES):
        frames = np.asarray(recording.frames[start : start + _CHUNK_FRAMES])
        traces[start : start + len(frames)] = frames.reshape(len(frames), -1).astype(np.float32) @ weights
    return traces
