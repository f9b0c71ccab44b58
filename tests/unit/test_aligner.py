"""Session time on messages of every kind."""

import json

import numpy as np

from rig.messages import NOT_ALIGNED, EndOfStream, Event, Frame, Gap, Samples
from rig.sync.aligner import Aligner

PIXELS = np.zeros((2, 2), np.uint16)


def frame(index: int, ticks: int, arrival_ns: int) -> Frame:
    return Frame("cam", index, ticks, arrival_ns, PIXELS)


def test_a_device_without_a_clock_has_its_arrival() -> None:
    (stamped,) = Aligner("cam", 0.0).stamp(frame(0, -1, 5_000))
    assert isinstance(stamped, Frame)
    assert (stamped.session_ns, stamped.uncertainty_ns) == (5_000, NOT_ALIGNED)


def test_samples_of_one_read_are_spread_over_the_time_they_took() -> None:
    aligner = Aligner("mill", 1e6)
    ticks = np.arange(10, dtype=np.int64) * 1000
    (stamped, *_) = aligner.stamp(Samples("mill", 0, 9_500_000, ticks, np.zeros((10, 1))))
    assert isinstance(stamped, Samples)
    assert np.diff(stamped.session_ns).tolist() == [1_000_000] * 9
    assert stamped.session_ns[-1] == 9_500_000


def test_fits_are_told_while_it_runs_and_at_the_end() -> None:
    aligner = Aligner("cam", 1e6)
    told = [m for k in range(400) for m in aligner.stamp(frame(k, k * 33_333, k * 33_333_000 + 400_000))]
    fits = [json.loads(m.text) for m in told if isinstance(m, Event) and m.kind == "clock_fit"]
    assert len(fits) == 2
    last = aligner.stamp(EndOfStream("cam", 14_000_000_000, "stopped"))
    assert [type(m) for m in last] == [Event, EndOfStream]
    assert abs(fits[-1]["residual_ns"]) < 1000


def test_gaps_and_events_keep_their_place() -> None:
    aligner = Aligner("cam", 1e6)
    assert aligner.stamp(Gap("cam", 3, 4, 7_000, "lost"))[0].session_ns == 7_000  # type: ignore[union-attr]
    assert aligner.stamp(Event("cam", "serial_junk", "x", 8_000))[0].session_ns == 8_000  # type: ignore[union-attr]


def test_wrong_stamps_are_flagged_not_repaired() -> None:
    aligner = Aligner("cam", 1e6)
    for k in range(100):
        aligner.stamp(frame(k, k * 10_000, k * 10_000_000 + 1000))
    told = aligner.stamp(frame(100, 100 * 10_000 + 5_000_000, 100 * 10_000_000 + 1000))
    assert isinstance(told[0], Frame)
    assert told[0].device_ticks == 100 * 10_000 + 5_000_000
    assert any(isinstance(m, Event) and m.kind == "clock_suspicious" for m in told)
