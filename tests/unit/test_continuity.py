"""What is missing before a frame, and when silence means something."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from decoders.continuity import Continuity
from rig.config import DecoderConfig
from rig.messages import NOT_ALIGNED, Frame, FrameStream, Gap, PredictionStatus

CAMERA = FrameStream("widefield", 2, 2, "uint16", 50.0, 1e6)
PERIOD_NS = 20_000_000
MS = 1_000_000


def continuity(**settings: float) -> Continuity:
    return Continuity(CAMERA, DecoderConfig(decoder="any", camera="widefield", **settings))  # type: ignore[arg-type]


def frame(index: int, session_ns: int | None = None, late_ns: int = 0, uncertainty_ns: int = 0) -> Frame:
    at_ns = index * PERIOD_NS if session_ns is None else session_ns
    pixels = np.zeros((2, 2), np.uint16)
    return Frame("widefield", index, -1, index * PERIOD_NS + late_ns, pixels, at_ns, uncertainty_ns)


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(0, 500))
def test_a_gap_is_told_exactly_when_more_is_missing_than_allowed(steps: list[int], max_gap_ms: int) -> None:
    follows, index = continuity(max_gap_ms=max_gap_ms), 0
    assert not follows.broken_by(frame(index))  # nothing came before the first: nothing to forget
    for step in steps:
        index += step
        assert follows.broken_by(frame(index)) == ((step - 1) * 20 > max_gap_ms)


@given(st.lists(st.integers(0, 10**10), min_size=2, max_size=20))
def test_late_arrivals_are_no_gap(late_ns: list[int]) -> None:
    follows = continuity()
    assert not any(follows.broken_by(frame(k, late_ns=late)) for k, late in enumerate(late_ns))


def test_a_camera_that_does_not_count_what_it_lost_is_found_out_by_its_clock() -> None:
    follows = continuity(max_gap_ms=100)
    follows.broken_by(frame(0))
    assert follows.broken_by(frame(1, session_ns=121 * MS))
    follows = continuity(max_gap_ms=100)
    follows.broken_by(frame(0, uncertainty_ns=NOT_ALIGNED))  # without a clock the time is the arrival's
    assert not follows.broken_by(frame(1, session_ns=121 * MS, uncertainty_ns=NOT_ALIGNED))


def test_a_stall_is_told_once_and_again_after_the_next_frame() -> None:
    follows = continuity()
    assert follows.stalled(10**12) is None  # a camera that has not begun has not stalled
    for index in (0, 50):
        begin_ns = index * PERIOD_NS
        follows.broken_by(frame(index))
        assert follows.stalled(begin_ns + 99 * MS) is None
        assert follows.wait_s(begin_ns + 99 * MS) == 0.001
        assert follows.stalled(begin_ns + 100 * MS) is PredictionStatus.CAMERA_STALLED
        assert follows.stalled(begin_ns + 200 * MS) is None
        assert follows.wait_s(begin_ns + 200 * MS) is None
        assert begin_ns < follows.stamp_ns < begin_ns + PERIOD_NS


def test_a_camera_that_reports_losses_has_not_stalled() -> None:
    follows = continuity(stall_ms=60)
    follows.broken_by(frame(0))
    follows.take_gap(Gap("widefield", 1, 1, 30 * MS, "buffer overflow"))
    assert follows.stalled(60 * MS) is PredictionStatus.FRAMES_MISSING


def test_a_slow_camera_gets_three_periods() -> None:
    slow = Continuity(FrameStream("s", 2, 2, "uint16", 5.0, 0.0), DecoderConfig(decoder="any", camera="s"))
    slow.broken_by(frame(0))
    assert slow.wait_s(0) == 0.6
