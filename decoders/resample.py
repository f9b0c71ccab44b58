"""Camera frames to the size and rate that a decoder was trained on."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.checkpoint import Checkpoint
from decoders.normalise import bin_area
from rig.messages import Frame, FrameStream


class FrameResampler:
    """Bins frames and, of a faster camera, passes on the first one of every period of the trained rate.

    What it does follows from the frames' indices alone, so a replay does the same.

    Raises
    ------
    CheckpointError
        When the camera's frames do not fit the checkpoint; `path` is the checkpoint's.
    """

    def __init__(self, checkpoint: Checkpoint, path: Path, source: FrameStream) -> None:
        checkpoint.check_fits(path, source)
        self._size = (checkpoint.height_px, checkpoint.width_px)
        self._periods_per_frame = min(1.0, checkpoint.rate_hz / source.rate_hz)
        self._period: int | None = None
        self.missed = 0
        """Trained frame periods between the last two frames passed on, of which no frame came."""

    def __call__(self, frame: Frame) -> NDArray[np.float32] | None:
        """Pixels at the trained size, or None for a frame within a period that has had its frame."""
        period = int(frame.index * self._periods_per_frame + 1e-9)
        last, self._period = self._period, period
        if last == period:
            return None
        self.missed = 0 if last is None else max(period - last - 1, 0)
        return bin_area(frame.pixels, *self._size)
