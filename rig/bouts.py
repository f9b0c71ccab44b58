"""Bouts: when an animal counts as running, from a speed that is smoothed, thresholded and cleaned of short bouts.

The same rule serves the live window, the recorded intervals and the labels that decoders are trained on.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Bout:
    """An interval of session time, `start_ns` included, `stop_ns` excluded."""

    start_ns: int
    stop_ns: int


class BoutDetector:
    """Follows one signal sample by sample: is it in a bout now, and which bouts are over.

    The signal's mean over the last `smoothing_ns` is compared with `threshold`; bouts shorter than `min_bout_ns`
    are not reported (`active` still shows them: nothing that looks ahead can be live). NaN samples are passed over.
    """

    def __init__(self, threshold: float, smoothing_ns: int, min_bout_ns: int) -> None:
        self._threshold = threshold
        self._smoothing_ns = smoothing_ns
        self._min_bout_ns = min_bout_ns
        self._recent: deque[tuple[int, float]] = deque()
        self._sum = 0.0
        self._since_ns: int | None = None
        self._last_ns = 0

    @property
    def active(self) -> bool:
        """Whether the smoothed signal is at or above the threshold now."""
        return self._since_ns is not None

    def update(self, session_ns: int, value: float) -> Bout | None:
        """Take one sample; return the bout that it ended, if it ended one."""
        if np.isnan(value):
            return None
        self._last_ns = session_ns
        if self._smooth(session_ns, value) >= self._threshold:
            self._since_ns = session_ns if self._since_ns is None else self._since_ns
            return None
        return self._end(session_ns)

    def finish(self) -> Bout | None:
        """End the signal; return the bout that was still going on, if any."""
        return self._end(self._last_ns)

    def _smooth(self, session_ns: int, value: float) -> float:
        self._recent.append((session_ns, value))
        self._sum += value
        while session_ns - self._recent[0][0] > self._smoothing_ns:
            self._sum -= self._recent.popleft()[1]
        return self._sum / len(self._recent)

    def _end(self, session_ns: int) -> Bout | None:
        since_ns, self._since_ns = self._since_ns, None
        if since_ns is None or session_ns - since_ns < self._min_bout_ns:
            return None
        return Bout(since_ns, session_ns)


def find_bouts(
    session_ns: NDArray[np.int64],
    values: NDArray[np.float64],
    threshold: float,
    smoothing_ns: int,
    min_bout_ns: int,
) -> list[Bout]:
    """Bouts of a whole recording, by the live rule; `session_ns` and `values` are (n,)."""
    detector = BoutDetector(threshold, smoothing_ns, min_bout_ns)
    ended = [detector.update(int(t), float(v)) for t, v in zip(session_ns, values, strict=True)]
    return [bout for bout in (*ended, detector.finish()) if bout is not None]


def in_bouts(at_ns: NDArray[np.int64], bouts: list[Bout]) -> NDArray[np.bool_]:
    """Whether each time lies in one of the (ordered, disjoint) bouts."""
    edges = np.array([edge for bout in bouts for edge in (bout.start_ns, bout.stop_ns)], np.int64)
    inside: NDArray[np.bool_] = np.searchsorted(edges, at_ns, side="right") % 2 == 1
    return inside
