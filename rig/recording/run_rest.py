"""One signal as a seamless row of run and rest, by the configured rule. Pure."""

from math import isnan
from typing import Any

from numpy.typing import NDArray

from rig.bouts import Bout, BoutDetector
from rig.config import RunningConfig
from rig.recording.rows import Rows, bout_rows

DECODED_THRESHOLD = 0.5
"""A decoder says run at or above this probability."""

_NS_PER_MS = 1_000_000


class RunRest:
    """Follows a speed (`is_speed`: threshold and smoothing as configured) or a decoder's probability.

    Bouts shorter than the configured one count as rest in both. A decoder's NaN is neither: unknown, from the last
    time it knew to the next; before it first knew, nothing is said.
    """

    def __init__(self, running: RunningConfig | None, is_speed: bool) -> None:
        running = running or RunningConfig()
        min_bout_ns = round(running.min_bout_ms * _NS_PER_MS)
        smoothing_ns = round(running.smoothing_ms * _NS_PER_MS) if is_speed else 0
        threshold = running.threshold_mm_s if is_speed else DECODED_THRESHOLD
        self._is_speed = is_speed
        self._unknown_to_ns: int | None = None
        self._detector = BoutDetector(threshold, smoothing_ns, min_bout_ns)
        self._written_to_ns: int | None = None
        self._last_ns = 0

    def follow(self, session_ns: NDArray[Any], values: NDArray[Any]) -> list[Rows]:
        """Take samples (n,) at these times (n,), ns; return the rows of what they ended."""
        ended: list[Rows] = []
        for at_ns, value in zip(session_ns.tolist(), values.tolist(), strict=True):
            if isnan(value) and (self._written_to_ns is None or not self._is_speed):
                ended += self._lose(at_ns)
                continue
            ended += self._know(at_ns)
            ended += self._bout(self._detector.update(at_ns, value))
        return ended

    def finish(self, now_ns: int) -> list[Rows]:
        """Return the rows of what was still going on; unknown up to now when there never was a sample."""
        if self._written_to_ns is None:
            return [bout_rows(0, now_ns, "unknown")]
        if self._unknown_to_ns is not None:
            return self._unknown(self._unknown_to_ns)
        return self._so_far()

    def _know(self, at_ns: int) -> list[Rows]:
        """Begin at the first sample, and again at the first one that is known again."""
        rows = [] if self._unknown_to_ns is None else self._unknown(at_ns)
        self._written_to_ns = at_ns if self._written_to_ns is None else self._written_to_ns
        self._last_ns = at_ns
        return rows

    def _lose(self, at_ns: int) -> list[Rows]:
        """Close what is known; before anything is, there is nothing to close."""
        if self._written_to_ns is None:
            return []
        rows = self._so_far() if self._unknown_to_ns is None else []
        self._written_to_ns, self._unknown_to_ns = self._last_ns, at_ns
        return rows

    def _unknown(self, stop_ns: int) -> list[Rows]:
        start_ns, self._written_to_ns, self._unknown_to_ns = self._last_ns, stop_ns, None
        return [bout_rows(start_ns, stop_ns, "unknown")]

    def _so_far(self) -> list[Rows]:
        """The bout that is still going on, and rest up to the last sample."""
        last = self._bout(self._detector.finish())
        return [*last, *self._rest_to(self._last_ns)]

    def _bout(self, bout: Bout | None) -> list[Rows]:
        """Rest since the last bout, and the bout."""
        if bout is None:
            return []
        rest = self._rest_to(bout.start_ns)
        self._written_to_ns = bout.stop_ns
        return [*rest, bout_rows(bout.start_ns, bout.stop_ns, "run")]

    def _rest_to(self, stop_ns: int) -> list[Rows]:
        start_ns = stop_ns if self._written_to_ns is None else self._written_to_ns
        return [bout_rows(start_ns, stop_ns, "rest")] if stop_ns > start_ns else []
