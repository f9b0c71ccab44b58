"""When an animal counts as running."""

import numpy as np

from rig.bouts import Bout, BoutDetector, find_bouts, in_bouts

MS = 1_000_000


def test_short_bouts_are_not_reported_and_the_last_is_ended() -> None:
    time_ns = np.arange(100, dtype=np.int64) * 10 * MS
    speed = np.zeros(100)
    speed[10:12], speed[40:70], speed[90:] = 30, 30, 30
    found = find_bouts(time_ns, speed, 10.0, 0, 100 * MS)
    assert found == [Bout(400 * MS, 700 * MS)]
    assert find_bouts(time_ns, speed, 10.0, 0, 50 * MS)[-1] == Bout(900 * MS, 990 * MS)
    assert in_bouts(np.array([399, 400, 699, 700]) * MS, found).tolist() == [False, True, True, False]


def test_smoothing_passes_over_chatter_and_nan() -> None:
    detector = BoutDetector(10.0, 100 * MS, 0)
    for k in range(50):
        detector.update(k * 10 * MS, 40.0 if k % 2 else np.nan)
    assert detector.active
    detector = BoutDetector(10.0, 100 * MS, 0)
    active = []
    for k in range(50):
        detector.update(k * 10 * MS, 30.0 if k == 25 else 0.0)
        active.append(detector.active)
    assert not any(active)
