import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from rig.drivers.dialects.line import LineDialectConfig, LineParser
from rig.drivers.treadmill import RunningSpeed, Treadmill

ENCODER_LOGS = sorted((Path(__file__).parents[3] / "shared/data/encoder").glob("*.ssv"))
MM_PER_COUNT = math.pi * 150 / 4096
SETTINGS = {
    "driver": "treadmill",
    "port": "simulated",
    "wheel_diameter_mm": 150,
    "counts_per_revolution": 4096,
}


def speed_of(ticks: NDArray[np.int64], counts: NDArray[np.float64], **settings: float) -> NDArray[np.float64]:
    options = {"mm_per_count": MM_PER_COUNT, "window_s": 0.05, "tick_hz": 1e6} | settings
    return RunningSpeed(**options).update(ticks, counts)  # type: ignore[arg-type]


def run(
    seconds: float, speed_mm_s: float, first_count: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """What an encoder at 100 Hz sends at a constant speed."""
    t_s = np.arange(0, seconds, 0.01)
    return (t_s * 1e6).round().astype(np.int64), first_count + np.floor(t_s * speed_mm_s / MM_PER_COUNT)


@pytest.mark.parametrize("speed_mm_s", [0.0, 12.5, 200.0, -80.0, 1000.0])
def test_a_constant_speed_is_found_to_within_a_count(speed_mm_s: float) -> None:
    ticks, counts = run(2.0, speed_mm_s)
    speed = speed_of(ticks, counts)
    assert np.isnan(speed[:5]).all()
    assert np.abs(speed[5:] - speed_mm_s).max() <= MM_PER_COUNT / 0.05 + 1e-9
    assert np.mean(speed[5:]) == pytest.approx(speed_mm_s, abs=0.5)


def test_a_slow_clock_needs_no_sample_more() -> None:
    ticks, counts = run(1.0, 200.0)
    speed = speed_of((ticks * (1 - 50e-6)).astype(np.int64), counts)
    assert np.flatnonzero(np.isfinite(speed))[0] == 5


def test_it_is_causal() -> None:
    ticks, counts = run(1.0, 200.0)
    changed = counts.copy()
    changed[60:] += 5000
    np.testing.assert_array_equal(speed_of(ticks, counts)[:60], speed_of(ticks, changed)[:60])


def test_a_speed_that_changes_is_followed_with_half_the_windows_lag() -> None:
    t_s = np.arange(0, 2, 0.01)
    position_mm = 100 * t_s**2  # 200 mm/s every second
    ticks = (t_s * 1e6).round().astype(np.int64)
    speed = speed_of(ticks, position_mm / MM_PER_COUNT * 1000 // 1, mm_per_count=MM_PER_COUNT / 1000)
    np.testing.assert_allclose(speed[10:], 200 * (t_s[10:] - 0.025), atol=0.2)


@given(st.lists(st.integers(0, 100), max_size=8), st.integers(0, 2**31))
def test_the_batches_do_not_matter(cuts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    ticks = np.cumsum(rng.integers(1, 30_000, 100))
    ticks[rng.integers(0, 100)] -= 400_000
    counts = np.cumsum(rng.integers(-20, 100, 100)).astype(np.float64)
    counts[rng.integers(0, 100)] = np.nan
    follower = RunningSpeed(MM_PER_COUNT, 0.05, 1e6)
    edges = sorted({0, 100, *cuts})
    parts = [follower.update(ticks[a:b], counts[a:b]) for a, b in pairwise(edges)]
    np.testing.assert_allclose(np.concatenate(parts), speed_of(ticks, counts), rtol=1e-12)


@pytest.mark.parametrize(("bits", "lowest"), [(32, -(2**31)), (16, -(2**15)), (16, 0), (32, 0)])
def test_a_count_that_turns_over_goes_on(bits: int, lowest: int) -> None:
    ticks, counts = run(2.0, 200.0, first_count=lowest + 2**bits - 500)
    wrapped = (counts - lowest) % 2**bits + lowest
    assert wrapped[0] > wrapped[-1]
    np.testing.assert_array_equal(
        speed_of(ticks, wrapped, count_bits=bits), speed_of(ticks, counts, count_bits=53)
    )


def test_lost_samples_do_not_bend_the_speed() -> None:
    ticks, counts = run(2.0, 200.0)
    kept = np.delete(np.arange(200), slice(80, 110))
    speed = speed_of(ticks[kept], counts[kept])
    assert np.abs(speed[6:] - 200).max() <= MM_PER_COUNT / 0.05 + 1e-9


def test_after_the_devices_clock_stepped_back_the_speed_is_unknown_for_a_window() -> None:
    ticks, counts = run(1.0, 200.0)
    ticks[50:] -= 10_000_000
    speed = speed_of(ticks, counts)
    assert np.flatnonzero(np.isnan(speed)).tolist() == [0, 1, 2, 3, 4, 50, 51, 52, 53, 54]


def test_a_count_that_is_no_number_costs_its_own_speed_alone() -> None:
    ticks, counts = run(1.0, 200.0)
    counts[50] = np.nan
    assert np.flatnonzero(np.isnan(speed_of(ticks, counts))).tolist() == [0, 1, 2, 3, 4, 50]


def test_a_glitch_is_not_hidden_and_passes() -> None:
    ticks, counts = run(1.0, 0.0)
    counts[50] -= 300
    speed = speed_of(ticks, counts)
    assert speed[50] < -650
    assert speed[56] == 0


@pytest.mark.parametrize("path", ENCODER_LOGS, ids=lambda path: path.stem)
def test_a_real_encoders_log_is_read_whole(path: Path) -> None:
    """Logs of the International Brain Laboratory: event-driven, microseconds and counts."""
    config = LineDialectConfig(columns=("ticks", "position"), separator=" ")
    raw = path.read_bytes()
    found = LineParser(config, mid_line=False).feed(raw)
    wanted = np.loadtxt(path)
    assert found.junk == 0
    np.testing.assert_array_equal(found.ticks, wanted[:, 0])
    np.testing.assert_array_equal(found.values[:, 0], wanted[:, 1])

    speed = speed_of(found.ticks, found.values[:, 0])
    known = np.flatnonzero(np.isfinite(speed))
    assert known[0] <= 10
    assert len(known) >= len(wanted) - 10
    for k in known[:: len(known) // 50]:  # the definition, the slow way
        before = max(j for j in range(k) if found.ticks[j] <= found.ticks[k] - 49_500)
        distance_mm = (wanted[k, 1] - wanted[before, 1]) * MM_PER_COUNT
        assert speed[k] == pytest.approx(distance_mm / ((wanted[k, 0] - wanted[before, 0]) / 1e6))


def test_real_encoder_logs_are_found_where_they_should_be() -> None:
    if not ENCODER_LOGS:
        pytest.skip("../shared/data/encoder is not here")
    assert len(ENCODER_LOGS) == 2


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"columns": ["ticks", "x"]}, "lack count"),
        ({"columns": ["count"], "tick_hz": 0}, "lack ticks"),
        ({"scale": {"count": 2}}, "scale of count"),
        ({"columns": ["ticks", "count", "running_speed"]}, "column running_speed: it is worked out here"),
        ({"forward": 2}, "1 or -1"),
        ({"wheel_diameter_mm": 0}, "greater than 0"),
    ],
)
def test_settings_that_give_no_speed_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(says)):
        Treadmill.Config.model_validate(SETTINGS | settings)
