"""A speed on its own clock, brought to the frames: what any clocks give."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.datasets.behavior import LabelRule
from decoders.datasets.speed import speed_trace
from rig.errors import DataError

PATH = Path("x.nwb")
MS = 1_000_000
times = st.lists(st.integers(0, 900 * MS), min_size=1, max_size=40).map(sorted)


@st.composite
def traces(draw):
    at_ns = np.array(draw(times), np.int64)
    speeds = draw(st.lists(st.floats(-50, 500), min_size=len(at_ns), max_size=len(at_ns)))
    return at_ns, np.array(speeds)


@given(traces(), times)
def test_the_speed_at_a_frame_is_the_last_that_was_known(trace, frames):
    at_ns, speeds = trace
    found = speed_trace(at_ns, speeds, np.array(frames), PATH).at(np.array(frames))
    for frame_ns, speed in zip(frames, found, strict=True):
        known = speeds[at_ns <= frame_ns]
        assert speed == (known[-1] if len(known) else speeds[0])


@given(traces(), times, st.integers(0, 39))
def test_nothing_after_a_frame_changes_its_speed(trace, frames, k):
    at_ns, speeds = trace
    frames = np.array(frames)
    k = min(k, len(frames) - 1)
    changed = np.where((at_ns > frames[k]) & (at_ns > at_ns[0]), speeds + 7.0, speeds)
    before, after = (speed_trace(at_ns, values, frames, PATH).at(frames) for values in (speeds, changed))
    assert before[k] == after[k]


@given(traces(), times, st.integers(-(10**9), 10**9))
def test_labels_do_not_depend_on_where_a_clock_starts(trace, frames, shift_ns):
    at_ns, speeds = trace
    frames = np.array(frames)
    rule = LabelRule(threshold_mm_s=20.0, smoothing_s=0.05, min_bout_s=0.02)
    here = speed_trace(at_ns, speeds, frames, PATH).running(frames, rule)
    there = speed_trace(at_ns + shift_ns, speeds, frames + shift_ns, PATH).running(frames + shift_ns, rule)
    np.testing.assert_array_equal(here, there)


@given(traces(), times)
def test_unsmoothed_labels_are_the_threshold(trace, frames):
    at_ns, speeds = trace
    at_ns = np.unique(at_ns)
    speeds, frames = speeds[: len(at_ns)], np.array(frames)
    found = speed_trace(at_ns, speeds, frames, PATH)
    labels = found.running(frames, LabelRule(20.0, 0.0, 0.0))
    begun = frames >= at_ns[0]
    np.testing.assert_array_equal(labels[begun], found.at(frames)[begun] >= 20.0)
    assert not labels[~begun].any()


@given(st.integers(1, 60), st.integers(0, 59))
def test_a_regular_speed_that_runs_to_the_end_is_labelled_to_the_end(count, begins):
    speed = np.where(np.arange(count) >= begins, 50.0, 0.0)
    labels = LabelRule(10.0, 0.0, 0.0).label(speed, 30.0)
    np.testing.assert_array_equal(labels, speed > 10.0)


def test_a_long_hole_is_said(caplog):
    at_ns = np.array([0, 500, 2600, 2700]) * MS
    speed_trace(at_ns, np.ones(4), at_ns, PATH)
    assert "x.nwb: no speed for 2.10 s; the last one is taken to last" in caplog.text


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused_but_at_the_beginning(bad):
    at_ns = np.arange(10) * 10 * MS
    first = speed_trace(at_ns, np.r_[[np.nan] * 3, np.ones(7)], at_ns, PATH)
    assert len(first.mm_s) == 7
    with pytest.raises(
        DataError, match=r"NaN or infinite at 1 of 7 samples, first 0\.04 s after the first number"
    ):
        speed_trace(at_ns, np.r_[[np.nan] * 3, np.ones(4), bad, 1.0, 1.0], at_ns, PATH)
