"""A device's clock on the session's clock: the lower envelope of arrivals. Pure arithmetic, no I/O.

What arrives is late by a delay that is never negative: arrival = offset + rate * ticks + delay. The line that lies
below every arrival and is closest to them is an edge of their lower convex hull, the one above the mean tick
(Moon, Skelly & Towsley, INFOCOM 1999, "Estimation and removal of clock skew from network delay measurements").
A least-squares line would sit above it by the mean delay and follow every hiccup of the host.
"""

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_BLOCK_NS = 500_000_000  # of each block only the earliest arrival is kept: delays vary faster than clocks
_WINDOW_BLOCKS = 240  # two minutes: long against delays, short against the drift of a warming crystal
_MIN_BLOCKS = 8  # a rate from less than four seconds would follow the delays
_MAX_DRIFT = 1e-3  # quartz and ceramic resonators stay well below; 200 ppm must be followed
_EARLY_NS = 20_000_000  # earlier than the envelope by more than this is no delay but a wrong tick
_RESTART_AFTER = 20  # so many wrong ticks in a row: the device's clock was reset


@dataclass(frozen=True, slots=True)
class ClockFit:
    """Session time = `offset_ns` + `ns_per_tick` * (ticks - `origin_ticks`), and how well it fits.

    `residual_ns` is the median height of the blocks' earliest arrivals above the line, `drift_ppm` the device's
    clock against its nominal rate (positive: the device runs fast).
    """

    origin_ticks: int
    offset_ns: int
    ns_per_tick: float
    residual_ns: int
    drift_ppm: float
    blocks: int


class ClockMap:
    """Maps device ticks to session time, updated as data arrive.

    The map is continuous and increasing: a new fit is approached over the next block, never jumped to, and no
    stamp lies after its own arrival.

    Parameters
    ----------
    tick_hz
        Nominal rate of the device's clock.
    """

    def __init__(self, tick_hz: float) -> None:
        self._nominal = 1e9 / tick_hz  # ns per tick
        self.restarts = -1
        self._restart()

    def _restart(self) -> None:
        self.restarts += 1
        self._blocks: deque[tuple[float, float]] = deque(
            maxlen=_WINDOW_BLOCKS
        )  # (ticks, arrival ns), from origin
        self._early: tuple[float, float] | None = None  # earliest arrival of the current block
        self._block_end_ns = 0
        self._suspicious = 0
        self._fit: ClockFit | None = None
        self._segment = (0.0, 0.0, self._nominal)  # (ticks, ns, ns per tick): the line in use

    @property
    def fit(self) -> ClockFit | None:
        """The latest fit, None before the first arrival."""
        return self._fit

    @property
    def uncertainty_ns(self) -> int:
        """How far off a stamp may be: the residual of the fit."""
        return self._fit.residual_ns if self._fit else -1

    def update(self, ticks: int, arrival_ns: int) -> bool:
        """Learn that `ticks` arrived at `arrival_ns`; return False when the tick cannot be right.

        A suspicious tick is left out of the fit. After many in a row the device's clock must have been reset, and
        the map starts anew (`restarts` counts).
        """
        if self._fit is None:
            self._fit = ClockFit(ticks, arrival_ns, self._nominal, 0, 0.0, 0)
            self._segment = (0.0, float(arrival_ns), self._nominal)
            self._block_end_ns = arrival_ns + _BLOCK_NS
        x, y = float(ticks - self._fit.origin_ticks), float(arrival_ns)
        expected_ns = self._line(x)
        if expected_ns - y > _EARLY_NS or y - expected_ns > _BLOCK_NS * _MIN_BLOCKS:
            return self._doubt(ticks, arrival_ns)
        self._suspicious = 0
        self._keep_earliest(x, y)
        if arrival_ns >= self._block_end_ns:
            self._close_block(x, arrival_ns)
        return True

    def session_ns(self, ticks: NDArray[np.int64], arrival_ns: int) -> NDArray[np.int64]:
        """Session time of ticks (n,) that arrived together at `arrival_ns`; never later than that."""
        if self._fit is None:
            return np.full(ticks.shape, arrival_ns, np.int64)
        x0, y0, rate = self._segment
        times = y0 + rate * ((ticks - self._fit.origin_ticks) - x0)
        result: NDArray[np.int64] = np.minimum(np.rint(times), arrival_ns).astype(np.int64)
        return result

    def _line(self, x: float) -> float:
        x0, y0, rate = self._segment
        return y0 + rate * (x - x0)

    def _doubt(self, ticks: int, arrival_ns: int) -> bool:
        self._suspicious += 1
        if self._suspicious < _RESTART_AFTER:
            return False
        self._restart()
        return self.update(ticks, arrival_ns)

    def _keep_earliest(self, x: float, y: float) -> None:
        """Keep the arrival that is lowest against the line in use."""
        if self._early is None or y - self._line(x) < self._early[1] - self._line(self._early[0]):
            self._early = (x, y)

    def _close_block(self, x: float, arrival_ns: int) -> None:
        """Take the block's earliest arrival into the fit, and head for the new line over the next block."""
        earliest = self._early or (x, float(arrival_ns))
        self._blocks.append(earliest)
        self._early = None
        self._block_end_ns = arrival_ns + _BLOCK_NS
        offset, rate = self._envelope()
        self._remember(offset, rate)
        here = self._line(x)
        ahead = _BLOCK_NS / rate
        target = offset + rate * (x + ahead)
        slope = max((target - here) / ahead, rate * 0.5)  # increasing, however far the new line is
        self._segment = (x, here, slope)

    def _envelope(self) -> tuple[float, float]:
        """Offset (ns at the origin) and rate (ns per tick) of the line below all blocks and closest to them."""
        points = np.array(self._blocks)
        x, y = points[:, 0], points[:, 1]
        rate = self._nominal
        if len(points) >= _MIN_BLOCKS:
            (x0, y0), (x1, y1) = _edge_above(x.mean(), _lower_hull(x, y))
            rate = np.clip((y1 - y0) / (x1 - x0), rate * (1 - _MAX_DRIFT), rate * (1 + _MAX_DRIFT))
        elif self._fit is not None and self._fit.blocks:
            rate = self._fit.ns_per_tick
        return float(np.min(y - rate * x)), float(rate)

    def _remember(self, offset: float, rate: float) -> None:
        points = np.array(self._blocks)
        residual = float(np.median(points[:, 1] - (offset + rate * points[:, 0])))
        origin = self._fit.origin_ticks if self._fit else 0
        drift_ppm = (self._nominal / rate - 1) * 1e6
        self._fit = ClockFit(origin, round(offset), rate, round(residual), drift_ppm, len(points))


def _lower_hull(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Lower convex hull of points ordered by x (Andrew's monotone chain)."""
    hull: list[tuple[float, float]] = []
    for point in zip(x.tolist(), y.tolist(), strict=True):
        while len(hull) > 1 and _turns_right(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def _turns_right(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) <= 0


def _edge_above(
    at: float, hull: list[tuple[float, float]]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the hull's edge over `at`: of all lines below the points, its sum of distances is least."""
    edges = pairwise(hull)
    return next((edge for edge in edges if edge[1][0] >= at), (hull[-2], hull[-1]))
