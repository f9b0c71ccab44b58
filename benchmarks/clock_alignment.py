"""Error of session time against known truth: the lower envelope of arrivals, beside least squares."""

import numpy as np
from numpy.typing import NDArray

from benchmarks import arguments, tell
from rig.sync.clock_map import ClockMap

_WINDOW = 12_000  # samples: the two minutes that the clock map looks back on


def envelope(ticks: NDArray[np.int64], arrival_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Stamps as the engine gives them, sample by sample."""
    clock_map = ClockMap(1e6)
    stamps = np.empty(ticks.size)
    for k, (tick, at_ns) in enumerate(zip(ticks.tolist(), arrival_ns.tolist(), strict=True)):
        clock_map.update(tick, at_ns)
        stamps[k] = clock_map.session_ns(np.array([tick]), at_ns)[0]
    return stamps


def least_squares(ticks: NDArray[np.int64], arrival_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Stamps from a straight line through the last two minutes, fitted anew every 100 samples."""
    stamps = arrival_ns.astype(np.float64)
    for start in range(200, ticks.size, 100):
        past = slice(max(0, start - _WINDOW), start)
        x0, y0 = ticks[past].mean(), arrival_ns[past].mean()
        rate = np.cov(ticks[past] - x0, arrival_ns[past] - y0)[0, 1] / np.var(ticks[past] - x0, ddof=1)
        now = slice(start, start + 100)
        stamps[now] = y0 + rate * (ticks[now] - x0)
    return stamps


def main() -> None:
    """Ten minutes at 100 Hz, drift 100 ppm, delays of an FTDI converter up to 16 ms."""
    asked = arguments(__doc__, seconds=600.0, seed=0)
    rng = np.random.default_rng(asked.seed)
    true_s = np.arange(0, asked.seconds, 0.01)
    ticks = np.round((true_s * (1 + 100e-6) + 77) * 1e6).astype(np.int64)
    delay_s = rng.uniform(0, 16e-3, true_s.size)
    arrival_ns = np.round(np.maximum.accumulate(true_s + delay_s) * 1e9).astype(np.int64)
    late = slice(1000, None)  # after the first ten seconds
    errors = {
        name: np.abs(stamps - true_s * 1e9)[late] / 1e6
        for name, stamps in {
            "envelope": envelope(ticks, arrival_ns),
            "least_squares": least_squares(ticks, arrival_ns),
            "arrival": arrival_ns,
        }.items()
    }
    p99 = {name: round(float(np.percentile(error, 99)), 4) for name, error in errors.items()}
    tell(
        asked,
        {
            "data": "synthetic clock: 100 ppm drift, delays uniform over 0 to 16 ms, 100 Hz",
            "error_ms_p99": p99,
            "error_ms_median": {name: round(float(np.median(error)), 4) for name, error in errors.items()},
            "ratio_least_squares_to_envelope": round(p99["least_squares"] / p99["envelope"], 1),
        },
    )


if __name__ == "__main__":
    main()
