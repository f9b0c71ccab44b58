"""Whether frames are missing from what a decoder sees: before a frame, or now.

Before a frame is told from the frames alone (index, and the camera's own clock where it has one), so that a replay
tells the same. Now is told by the host's clock: a camera that has stalled sends nothing to tell it from.
"""

from rig.config import DecoderConfig
from rig.messages import NOT_ALIGNED, Frame, FrameStream, Gap, PredictionStatus

_NS = 1_000_000_000
_STALL_PERIODS = 3
_SHORTEST_STALL_MS = 100.0  # less is a busy host, not a camera that has stalled


class Continuity:
    """Follows one camera's frames as one decoder sees them."""

    def __init__(self, camera: FrameStream, config: DecoderConfig) -> None:
        self._period_ns = round(_NS / camera.rate_hz)
        self._max_gap_ns = round(config.max_gap_ms * 1e6)
        default_ms = max(_STALL_PERIODS * 1e3 / camera.rate_hz, _SHORTEST_STALL_MS)
        self._stall_ns = round((config.stall_ms or default_ms) * 1e6)
        self._last: Frame | None = None
        self._told = False
        self._lost = False  # the camera has told of lost frames since the last one

    @property
    def stamp_ns(self) -> int:
        """Session time just after the last frame: half a period, so that the next one is later."""
        return 0 if self._last is None else self._last.session_ns + self._period_ns // 2

    def broken_by(self, frame: Frame) -> bool:
        """Take the next frame; whether more than `max_gap_ms` is missing between it and the one before."""
        last, self._last = self._last, frame
        self._told = self._lost = False
        return last is not None and self._missing_ns(last, frame) > self._max_gap_ns

    def take_gap(self, gap: Gap) -> None:
        """Take note that the camera is there, but has lost frames."""
        self._lost = True

    def wait_s(self, now_ns: int) -> float | None:
        """Seconds until no frame means that something is wrong; None when that was said, or before the first."""
        if self._last is None or self._told:
            return None
        return max(0.0, (self._last.arrival_ns + self._stall_ns - now_ns) / _NS)

    def stalled(self, now_ns: int) -> PredictionStatus | None:
        """What to say when no frame has come for `stall_ms`, once; None when there is nothing to say."""
        if self.wait_s(now_ns) != 0.0:
            return None
        self._told = True
        return PredictionStatus.FRAMES_MISSING if self._lost else PredictionStatus.CAMERA_STALLED

    def _missing_ns(self, last: Frame, frame: Frame) -> int:
        """Time of the frames between two, by their indices, or by the camera's clock if that says more.

        Arrivals say nothing: a busy host delays them, and no frame is missing.
        """
        by_index = (frame.index - last.index - 1) * self._period_ns
        if NOT_ALIGNED in (last.uncertainty_ns, frame.uncertainty_ns):
            return by_index
        return max(by_index, frame.session_ns - last.session_ns - self._period_ns)
