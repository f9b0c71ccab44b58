"""The last seconds of one signal, by time, and how a plot shows them. No Qt."""

import math

import numpy as np
from numpy.typing import NDArray

_SMALLEST = 1024
_BINS = 600  # about as many as a plot has columns of pixels


class Trace:
    """The last `window_ns` of one signal; older samples are forgotten. NaN breaks the line."""

    def __init__(self, window_ns: int) -> None:
        self.window_ns = window_ns
        self._ns = np.empty(_SMALLEST, np.int64)
        self._values = np.empty(_SMALLEST)
        self._start = self._stop = 0

    @property
    def session_ns(self) -> NDArray[np.int64]:
        """Times of what is remembered, (n,)."""
        return self._ns[self._start : self._stop]

    @property
    def values(self) -> NDArray[np.float64]:
        """What is remembered, (n,)."""
        return self._values[self._start : self._stop]

    @property
    def latest(self) -> float:
        """Last value, NaN before the first."""
        return float(self._values[self._stop - 1]) if self._stop > self._start else math.nan

    def append(self, session_ns: NDArray[np.int64], values: NDArray[np.floating]) -> None:
        """Take a batch of samples in order, both (n,)."""
        if not len(session_ns):
            return
        if self._stop + len(session_ns) > len(self._ns):
            self._make_room(len(session_ns))
        stop = self._stop + len(session_ns)
        self._ns[self._stop : stop], self._values[self._stop : stop] = session_ns, values
        self._stop = stop
        self._start += int(np.searchsorted(self.session_ns, session_ns[-1] - self.window_ns))

    def break_line(self, session_ns: int) -> None:
        """Mark data as missing from here on."""
        self.append(np.array([session_ns]), np.array([math.nan]))

    def curve(self, now_ns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Seconds relative to now (negative: past) and values, thinned to what a screen can show."""
        times, values = thin(self.session_ns, self.values, max(1, self.window_ns // _BINS))
        return (times - now_ns) / 1e9, values

    def _make_room(self, count: int) -> None:
        kept_ns, kept = self.session_ns.copy(), self.values.copy()
        size = max(_SMALLEST, 4 * (len(kept) + count))
        self._ns, self._values = np.empty(size, np.int64), np.empty(size)
        self._start, self._stop = 0, len(kept)
        self._ns[: self._stop], self._values[: self._stop] = kept_ns, kept


def thin(
    session_ns: NDArray[np.int64], values: NDArray[np.float64], bin_ns: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Keep minimum and maximum of every time bin: no extreme and no gap is hidden.

    Bins are fixed in session time, so a scrolling curve does not flicker. Short traces come back as they are.
    """
    edges = np.flatnonzero(np.diff(session_ns // bin_ns, prepend=np.iinfo(np.int64).min))
    if len(session_ns) <= 2 * len(edges):
        return session_ns, values
    extremes = (np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges))
    return np.repeat(session_ns[edges], 2), np.stack(extremes, axis=1).ravel()


def steady_range(
    low: float, high: float, current: tuple[float, float] | None, least_span: float = 0.0
) -> tuple[float, float]:
    """Axis range for values from `low` to `high`: round numbers, and the current one as long as it serves.

    The range grows at once when values leave it, and shrinks only when they fill less than a third of it.
    """
    high = max(high, low + least_span, low + 0.05 * abs(low), low + 1e-6)
    if current and current[0] <= low and high <= current[1] and 3 * (high - low) > current[1] - current[0]:
        return current
    step = _round_step((high - low) / 4)
    # a quotient can be rounded past its end, of a tiny number even to 0
    return min(low, math.floor(low / step) * step), max(high, math.ceil(high / step) * step)


def _round_step(step: float) -> float:
    """Smallest of 1, 2, 5 times a power of ten that is at least `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * (1 - 1e-9))
