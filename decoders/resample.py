"""Camera frames to the size and rate that a decoder was trained on."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.checkpoint import Checkpoint
from decoders.view import BinnedView, FrameView
from rig.messages import Frame, FrameStream


class FrameResampler:
    """Frames in the view that the network was trained on; of a faster camera, only the first of every period.

    What it does follows from the frames' indices alone, so a replay does the same.

    Raises
    ------
    CheckpointError
        When the camera's frames do not fit the checkpoint; `path` is the checkpoint's.
    """

    def __init__(
        self, checkpoint: Checkpoint, path: Path, source: FrameStream, view: FrameView | None = None
    ) -> None:
        checkpoint.check_fits(path, source, any_size=view is not None)
        self.view = view or BinnedView(checkpoint.height_px, checkpoint.width_px)
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
        return self.view(frame.pixels)
