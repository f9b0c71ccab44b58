"""The map from device ticks to session time: known truth, real clocks, and whatever hypothesis thinks of."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rig.sync.clock_map import ClockMap

REAL_CLOCKS = Path(__file__).parents[3] / "shared/data/clocks/aeon_camera_harp.csv"


def follow(clock_map: ClockMap, ticks: NDArray[np.int64], arrival_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    stamps = []
    for tick, at_ns in zip(ticks.tolist(), arrival_ns.tolist(), strict=True):
        clock_map.update(tick, at_ns)
        stamps.append(int(clock_map.session_ns(np.array([tick]), at_ns)[0]))
    return np.array(stamps)


@pytest.mark.parametrize("drift_ppm", [0, 100, -200])
@pytest.mark.parametrize("delay", ["usb", "ftdi"])
def test_residual_below_a_millisecond_with_drift_and_jitter(drift_ppm: int, delay: str) -> None:
    rng = np.random.default_rng(0)
    true_s = np.arange(0, 120, 0.01)
    ticks = np.round((true_s * (1 + drift_ppm * 1e-6) + 77) * 1e6).astype(np.int64)
    late_s = rng.exponential(1e-3, true_s.size) if delay == "usb" else rng.uniform(0, 16e-3, true_s.size)
    arrival_ns = np.round(np.maximum.accumulate(true_s + late_s) * 1e9).astype(np.int64)
    clock_map = ClockMap(1e6)
    error_ms = np.abs(follow(clock_map, ticks, arrival_ns) - true_s * 1e9)[1000:] / 1e6
    assert np.percentile(error_ms, 99) < 1.0
    assert clock_map.fit is not None
    assert clock_map.fit.drift_ppm == pytest.approx(drift_ppm, abs=5)
    assert clock_map.restarts == 0


def test_real_camera_and_harp_clocks() -> None:
    if not REAL_CLOCKS.exists():
        pytest.skip("no recorded clocks here")
    seconds, _, camera_ns = np.loadtxt(REAL_CLOCKS, delimiter=",", skiprows=1).T
    camera = np.loadtxt(REAL_CLOCKS, delimiter=",", skiprows=1, usecols=2, dtype=np.int64)
    arrival_ns = np.round((seconds - seconds[0]) * 1e9).astype(np.int64)
    clock_map = ClockMap(1e9)
    stamps = follow(clock_map, camera - camera[0], arrival_ns)
    assert camera_ns.size == stamps.size
    assert np.percentile(np.abs(stamps - arrival_ns)[1000:], 99) < 200_000
    assert clock_map.fit is not None
    assert abs(clock_map.fit.drift_ppm) == pytest.approx(22.7, abs=1)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 200_000), st.integers(0, 30_000_000)), min_size=2, max_size=150),
    st.integers(-200, 200),
)
def test_stamps_never_go_back_and_never_come_after_arrival(
    steps: list[tuple[int, int]], drift_ppm: int
) -> None:
    ticks, true_ns, arrival_ns = 0, 0, 0
    clock_map = ClockMap(1e6)
    last = -1
    for step, late_ns in steps:
        ticks += step
        true_ns += round(step * 1000 * (1 - drift_ppm * 1e-6))
        arrival_ns = max(arrival_ns, true_ns + late_ns)
        clock_map.update(ticks, arrival_ns)
        stamp = int(clock_map.session_ns(np.array([ticks]), arrival_ns)[0])
        assert last <= stamp <= arrival_ns
        last = stamp


def test_a_wrong_tick_is_doubted_and_a_reset_clock_is_followed() -> None:
    clock_map = ClockMap(1e6)
    for k in range(500):
        assert clock_map.update(k * 10_000, k * 10_000_000 + 1_000_000)
    assert not clock_map.update(500 * 10_000 + 60_000_000, 500 * 10_000_000 + 1_000_000)
    assert clock_map.restarts == 0
    for k in range(501, 560):  # the device was reset: its clock begins again
        clock_map.update((k - 501) * 10_000, k * 10_000_000 + 1_000_000)
    assert clock_map.restarts == 1
    stamp = int(clock_map.session_ns(np.array([58 * 10_000]), 600 * 10_000_000)[0])
    assert stamp == pytest.approx(559 * 10_000_000 + 1_000_000, abs=2_000_000)
