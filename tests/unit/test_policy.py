"""Threshold, hysteresis, hold, refractory time, longest time on, duty."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rig.closed_loop.policy import Policy, PolicySettings

MS = 1_000_000
PLAIN = PolicySettings(0.7, 0.4, 0, 0, 10_000 * MS, 1.0, 60_000 * MS)


def run(settings: PolicySettings, values: list[float], step_ms: int = 33) -> list[tuple[int, bool]]:
    policy = Policy(settings)
    changes = []
    for k, value in enumerate(values):
        if policy.step(k * step_ms * MS, value) is not None:
            changes.append((k, policy.on))
    return changes


def test_hysteresis() -> None:
    assert run(PLAIN, [0.5, 0.69, 0.7, 0.5, 0.41, 0.39, 0.5, 0.7]) == [(2, True), (5, False), (7, True)]


def test_hold_ignores_a_flicker() -> None:
    held = replace(PLAIN, hold_ns=100 * MS)
    assert run(held, [0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9, 0.9]) == [(7, True)]


def test_refractory_time_after_off() -> None:
    resting = replace(PLAIN, refractory_ns=100 * MS)
    assert run(resting, [0.9, 0.1, 0.9, 0.9, 0.9, 0.9, 0.9]) == [(0, True), (1, False), (5, True)]


def test_longest_time_on_and_then_the_value_must_fall_first() -> None:
    short = replace(PLAIN, max_on_ns=60 * MS)
    assert run(short, [0.9, 0.9, 0.9, 0.9, 0.9, 0.1, 0.9]) == [(0, True), (2, False), (6, True)]


def test_nan_never_switches_on_and_lets_go() -> None:
    assert run(PLAIN, [np.nan, 0.9, np.nan]) == [(1, True), (2, False)]


@given(st.lists(st.floats(0, 1), min_size=10, max_size=300), st.floats(0.05, 0.9))
def test_duty_is_never_exceeded_by_more_than_a_step(values: list[float], duty: float) -> None:
    settings = replace(PLAIN, max_duty=duty, duty_window_ns=1000 * MS)
    policy = Policy(settings)
    on = []
    for k, value in enumerate(values):
        on.append(policy.on)
        policy.step(k * 10 * MS, value)
        window = on[-100:]
        assert sum(window) * 10 <= duty * 1000 + 20
