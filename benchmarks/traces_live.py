"""Frames to neurons: 512 x 512 at 30 Hz with 8,000 ROIs, each step's time beside the frame time and a plain loop.

Simulated frames (photon noise on a fixed texture that shakes) and round cells of 21 pixels in random places, which
overlap as random places do. The plain side reads the same ROIs one by one by NumPy indexing, as offline scripts do.
One thread; both sides alternate in one process. Milliseconds, by the clock on the wall and of the processor alone: on a
busy machine the first holds what others did meanwhile.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks import arguments, tell
from decoders.traces.deconvolution import CausalDeconvolution
from decoders.traces.motion import RigidMotion
from decoders.traces.pipeline import LiveTraces, TraceSettings
from decoders.traces.rois import TiledSurround, WeightedMeans
from rig.rois import RoiMasks

_RATE_HZ = 30.0
_MARGIN_PX = 16
_RADIUS_PX = 2.5
_SURROUND_PX = 350
_FRAMES = 32  # distinct ones


def cells(count: int, side_px: int) -> RoiMasks:
    """Draw round cells in random places."""
    rng = np.random.default_rng(0)
    reach = int(_RADIUS_PX)
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside = down**2 + right**2 <= _RADIUS_PX**2
    offsets = down[inside] * side_px + right[inside]
    row, column = rng.integers(reach, side_px - reach, (2, count))
    pixels = np.sort((row * side_px + column)[:, None] + offsets, axis=1)
    roi = np.repeat(np.arange(count), len(offsets))
    return RoiMasks(side_px, side_px, roi, pixels.ravel(), np.full(pixels.size, 1.0 / len(offsets)))


def own_surrounds(masks: RoiMasks) -> RoiMasks:
    """Draw a mask of 350 free pixels around each cell, as suite2p stores them."""
    side_px, free = masks.width_px, ~masks.inside
    pixels = []
    for row, column in masks.centres_px().astype(int):
        top, left = np.clip((row - 25, column - 25), 0, side_px - 50)
        place = np.argwhere(free[top : top + 50, left : left + 50])
        near = place[np.argsort(np.abs(place - 25).max(axis=1), kind="stable")[:_SURROUND_PX]] + (top, left)
        pixels.append(np.sort(near @ (side_px, 1)))
    roi = np.repeat(np.arange(len(pixels)), [len(each) for each in pixels])
    return RoiMasks(side_px, side_px, roi, np.concatenate(pixels), 1.0 / np.bincount(roi)[roi])


def shaking_frames(side_px: int) -> tuple[NDArray[np.float32], list[NDArray[np.uint16]]]:
    """Reference and frames that moved by up to 6 pixels."""
    rng = np.random.default_rng(1)
    texture = gaussian_filter(rng.random((side_px + 2 * _MARGIN_PX,) * 2, np.float32), 1.5)
    field = 60.0 * (texture - texture.min()) / np.ptp(texture)
    images = []
    for _ in range(_FRAMES):
        top, left = _MARGIN_PX + rng.integers(-6, 7, 2)
        images.append(rng.poisson(field[top : top + side_px, left : left + side_px]).astype(np.uint16))
    return field[_MARGIN_PX:-_MARGIN_PX, _MARGIN_PX:-_MARGIN_PX], images


def timed(times: list[tuple[float, float]], work: Callable[[Any], Any], given: Any) -> Any:
    """Do it and note how long it took, ms: on the wall, and of the processor."""
    wall, processor = time.perf_counter_ns(), time.thread_time_ns()
    made = work(given)
    times.append(((time.perf_counter_ns() - wall) / 1e6, (time.thread_time_ns() - processor) / 1e6))
    return made


def one_by_one(rois: list[NDArray[np.int64]], frame: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Mean of each ROI by indexing."""
    flat = frame.ravel()
    return np.array([flat[pixels].mean() for pixels in rois])


def spread(times: list[tuple[float, float]]) -> dict[str, float]:
    """Median and 99th percentile, the first tenth left out."""
    wall, processor = np.percentile(times[len(times) // 10 :], [50, 99], axis=0).T.round(3).tolist()
    return {"p50": wall[0], "p99": wall[1], "processor_p50": processor[0], "processor_p99": processor[1]}


def main() -> None:
    """Time whole steps, their parts, and the plain loop."""
    asked = arguments(__doc__, frames=200, rois=8000, side_px=512)
    masks = cells(asked.rois, asked.side_px)
    reference, images = shaking_frames(asked.side_px)
    settings = TraceSettings(_RATE_HZ)
    whole = LiveTraces(masks, settings, reference=reference)
    motion, means = RigidMotion(reference, settings.max_shift_px), WeightedMeans(masks)
    surround, stored = TiledSurround(masks), WeightedMeans(own_surrounds(masks))
    deconvolution = CausalDeconvolution(settings.tau_s, _RATE_HZ)
    rois = np.split(masks.pixel, np.flatnonzero(np.diff(masks.roi)) + 1)
    names = (
        "whole",
        "motion",
        "traces",
        "neuropil",
        "dff",
        "deconvolution",
        "neuropil_suite2p_masks",
        "plain",
    )
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for k in range(asked.frames):
        image = images[k % _FRAMES]
        timed(times["whole"], whole.step, image)
        placed = timed(times["motion"], motion, image).frame
        raw = timed(times["traces"], means, placed)
        timed(times["neuropil"], surround, placed)
        timed(times["neuropil_suite2p_masks"], stored, placed)
        dff = timed(times["dff"], whole.responses.step, raw)
        timed(times["deconvolution"], deconvolution.step, dff)
        if k % 10 == 0:
            timed(times["plain"], lambda frame: one_by_one(rois, frame), image)
    report: dict[str, Any] = {name: spread(each) for name, each in times.items()}
    tell(
        asked,
        {
            "data": f"simulated: {asked.side_px} x {asked.side_px} uint16, {asked.rois} ROIs of {len(rois[0])} pixels",
            "frames": asked.frames,
            "frame_time_ms": round(1e3 / _RATE_HZ, 1),
            "ms": report,
            "share_of_frame_time": {k: round(v * _RATE_HZ / 1e3, 3) for k, v in report["whole"].items()},
            "plain_loop_to_traces": round(
                report["plain"]["processor_p50"] / report["traces"]["processor_p50"], 1
            ),
        },
    )


if __name__ == "__main__":
    main()
