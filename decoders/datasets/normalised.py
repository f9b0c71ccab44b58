"""Frames of a whole recording as a causal model sees them: binned and normalised by the live code."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.datasets.behavior import BehaviorRecording
from decoders.datasets.cache import cached_frames
from decoders.normalise import NormaliserConfig, RunningNormaliser
from decoders.view import FrameView

_READ_FRAMES = 256  # at once: 8 MB of uint16 at 128x128


def normalised(
    recording: BehaviorRecording, cache: Path | None, view: FrameView, config: NormaliserConfig
) -> NDArray[np.float16]:
    """Return a recording's frames in a view and normalised, (T, h, w), mapped from the disk.

    Half precision: of values about 1, the error is 0.0005. Kept in the folder `cache`, so that a training reads them
    as it needs them; without one they are made anew.
    """
    statistics = f"{config.mean_s:g}-{config.std_s:g}-{config.common_mode:d}-{config.expected_std:g}"
    name = f"normalised-{view.key}-{statistics}"
    shape = (len(recording), *view.size_px)
    return cached_frames(
        cache, recording, name, shape, lambda: _batches(recording, view, config, 0, len(recording))
    )


def begun_at(
    recording: BehaviorRecording, view: FrameView, config: NormaliserConfig, start: int, stop: int
) -> NDArray[np.float16]:
    """Frames `start` to `stop` (excluded) as they would look had the recording begun with the first of them."""
    return np.concatenate(list(_batches(recording, view, config, start, stop)))


def _batches(
    recording: BehaviorRecording, view: FrameView, config: NormaliserConfig, first: int, stop: int
) -> Iterator[NDArray[np.float16]]:
    running = RunningNormaliser(*view.size_px, config)
    for start in range(first, stop, _READ_FRAMES):
        read = recording.frames[start : min(start + _READ_FRAMES, stop)]
        batch = np.empty((len(read), *view.size_px), np.float16)
        for k, frame in enumerate(read):
            batch[k] = running.step(view(frame))
        yield batch
