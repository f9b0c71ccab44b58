"""A decoded scalar against the truth: what a decision plot shows. No Qt."""

import math

import numpy as np
from numpy.typing import NDArray

from gui.traces import Trace
from rig.bouts import Bout, BoutDetector, in_bouts
from rig.config import RunningConfig
from rig.messages import Prediction, PredictionStatus

_NS_PER_MS = 1_000_000


class RunningTruth:
    """Follows the running speed: the bouts of the last `window_ns`, by the rule that labels recordings."""

    def __init__(self, config: RunningConfig, window_ns: int) -> None:
        smoothing_ns, min_bout_ns = (
            round(ms * _NS_PER_MS) for ms in (config.smoothing_ms, config.min_bout_ms)
        )
        self._detector = BoutDetector(config.threshold_mm_s, smoothing_ns, min_bout_ns)
        self._window_ns = window_ns
        self._ended: list[Bout] = []
        self._since_ns: int | None = None
        self.newest_ns = -1

    @property
    def running(self) -> bool:
        """Whether the animal runs now."""
        return self._since_ns is not None

    @property
    def bouts(self) -> list[Bout]:
        """Bouts in the window, ordered; the last one may be going on, up to the newest sample."""
        going_on = [] if self._since_ns is None else [Bout(self._since_ns, self.newest_ns)]
        return self._ended + going_on

    def take(self, session_ns: NDArray[np.int64], speed_mm_s: NDArray[np.float64]) -> None:
        """Take running speed, both (n,)."""
        for at_ns, speed in zip(session_ns.tolist(), speed_mm_s.tolist(), strict=True):
            self._step(at_ns, speed)
        self._ended = [bout for bout in self._ended if bout.stop_ns > self.newest_ns - self._window_ns]

    def _step(self, at_ns: int, speed_mm_s: float) -> None:
        self.newest_ns = at_ns
        ended = self._detector.update(at_ns, speed_mm_s)
        if ended is not None:
            self._ended.append(ended)
        if not self._detector.active:
            self._since_ns = None
        elif self._since_ns is None:
            self._since_ns = at_ns


class Decision:
    """One decoder's scalar over the last `window_ns`."""

    def __init__(self, window_ns: int, truth: RunningTruth | None) -> None:
        self.trace = Trace(window_ns)
        self.truth = truth
        self.status: int = PredictionStatus.WARMING_UP
        self._generation = 0

    def take(self, prediction: Prediction) -> None:
        """Take one answer; a restarted decoder starts a new line."""
        at_ns = prediction.frame_session_ns
        if prediction.generation != self._generation:
            self._generation = prediction.generation
            self.trace.break_line(at_ns)
        self.status = prediction.status
        self.trace.append(np.array([at_ns]), np.asarray(prediction.values, np.float64).reshape(1))

    def agreement(self) -> float:
        """Share of answers on the same side of one half as the truth; NaN with nothing to compare."""
        if self.truth is None:
            return math.nan
        known = np.isfinite(self.trace.values) & (self.trace.session_ns <= self.truth.newest_ns)
        if not known.any():
            return math.nan
        decoded = self.trace.values[known] >= 0.5
        return float(np.mean(decoded == in_bouts(self.trace.session_ns[known], self.truth.bouts)))


def truth_steps(bouts: list[Bout], now_ns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bouts as the outline of boxes from 0 to 1, seconds relative to now: one filled curve."""
    edges = np.array([(b.start_ns, b.start_ns, b.stop_ns, b.stop_ns) for b in bouts], np.float64).ravel()
    return (edges - now_ns) / 1e9, np.tile([0.0, 1.0, 1.0, 0.0], len(bouts))
