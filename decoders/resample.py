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
        self._before: int | None = None  # period of the frame passed on before the last
        self._period: int | None = None

    def __call__(self, frame: Frame) -> NDArray[np.float32] | None:
        """Pixels at the trained size, or None for a frame within a period that has had its frame."""
        period = int(frame.index * self._periods_per_frame + 1e-9)
        if period == self._period:
            return None
        self._before, self._period = self._period, period
        return self.view(frame.pixels)

    @property
    def missed(self) -> int:
        """Trained frame periods between the last two frames passed on, of which no frame came."""
        if self._before is None or self._period is None:
            return 0
        return max(self._period - self._before - 1, 0)
