"""A decoder that does not know is neither running nor resting."""

import math

import numpy as np

from rig.config import RunningConfig
from rig.recording.run_rest import RunRest

S = 1_000_000_000
NAN = math.nan
RULE = RunningConfig(smoothing_ms=0, min_bout_ms=0, threshold_mm_s=0.5)


def intervals(values: list[float], is_speed: bool) -> list[tuple[float, float, str]]:
    """Intervals of a signal with one sample a second, handed over in pieces of two."""
    follows = RunRest(RULE, is_speed)
    times, signal = np.arange(len(values)) * S, np.array(values)
    rows = [r for k in range(0, len(values), 2) for r in follows.follow(times[k : k + 2], signal[k : k + 2])]
    rows += follows.finish(len(values) * S)
    return [(float(r["start_time"][0]), float(r["stop_time"][0]), r["state"][0].decode()) for r in rows]


def test_unknown_stands_from_the_last_known_to_the_next() -> None:
    told = intervals([NAN, 0, 1, 1, NAN, NAN, 1, 1, 0, 0], is_speed=False)
    assert told == [(1, 2, "rest"), (2, 3, "run"), (3, 6, "unknown"), (6, 8, "run"), (8, 9, "rest")]


def test_unknown_at_the_end() -> None:
    assert intervals([0, 0, NAN, NAN], is_speed=False) == [(0, 1, "rest"), (1, 3, "unknown")]


def test_never_known() -> None:
    assert intervals([NAN, NAN], is_speed=False) == [(0, 2, "unknown")]


def test_a_speed_that_is_missing_for_a_sample_ends_no_bout() -> None:
    assert intervals([0, 1, NAN, 1, 0], is_speed=True) == [(0, 1, "rest"), (1, 4, "run")]
