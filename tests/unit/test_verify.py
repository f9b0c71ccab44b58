from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pynwb
import pytest
from nwbinspector import Importance, inspect_nwbfile
from pynwb import NWBHDF5IO

from rig.acquisition.states import FinishReason
from rig.errors import RecordingError, SessionFileError
from rig.messages import EndOfStream, Event, Frame, Gap, Message, Output, Prediction, Samples
from rig.recording.reader import SessionReader
from rig.recording.recorder import Recorder
from rig.recording.recover import recover
from rig.recording.verify import verify
from tests.unit.session_example import FRAMES, example_messages, example_session, frame
from tests.unit.test_recorder import never, record, wait_for

Change = Callable[[list[Message]], list[Message]]


def test_a_session_without_loss_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "s.nwb"
    record(path, example_messages())
    report = verify(path)
    assert report.reasons == ()
    assert report.complete
    content = report.as_dict()
    assert content["complete"] is True
    assert content["finish_reason"] == "completed"
    assert content["streams"]["widefield"]["expected"] == FRAMES
    assert content["streams"]["treadmill"] == {
        "expected": 180,
        "recorded": 180,
        "gaps": [],
        "clock_residual_ms": pytest.approx(0.03),
    }
    assert content["streams"]["widefield"]["clock_residual_ms"] == pytest.approx(0.035)
    behavior = content["decoders"]["behavior"]
    assert (behavior["decisions"], behavior["skipped"], behavior["restarts"]) == (FRAMES, 0, 0)
    assert behavior["latency_ms"]["p50"] <= behavior["latency_ms"]["p99"] <= behavior["latency_ms"]["max"]


def test_skipped_frames_of_a_decoder_are_told_and_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "s.nwb"
    messages = [
        replace(m, skipped=2, generation=1) if isinstance(m, Prediction) and m.index == 7 else m
        for m in example_messages()
    ]
    record(path, messages)
    report = verify(path)
    assert report.complete
    assert (report.decoders["behavior"].skipped, report.decoders["behavior"].restarts) == (2, 1)


def lost(stream: str, text: str) -> Event:
    return Event(stream, "device_lost", text, 400_000_000, 400_000_000)


def silent(at_ns: int) -> Event:
    return Event("pupil", "serial_silent", "nothing for 1.0 s", at_ns, at_ns)


@pytest.mark.parametrize(
    ("event", "reasons"),
    [
        (lost("treadmill", "treadmill: unplugged"), ("treadmill: lost after 0.4 s: unplugged",)),
        (lost("outputs", "laser: no answer"), ("outputs: lost after 0.4 s: laser: no answer",)),
        (silent(3_000_000_000), ("pupil: silent after 3.0 s, to the end",)),
        (silent(400_000_000), ()),  # it spoke again
    ],
)
def test_a_device_that_went_away_makes_a_session_incomplete(
    tmp_path: Path, event: Event, reasons: tuple[str, ...]
) -> None:
    path = tmp_path / "s.nwb"
    record(path, [*example_messages(), event])
    report = verify(path)
    assert report.reasons == reasons
    assert report.complete == (not reasons)


def end(stream: str, at_s: float) -> EndOfStream:
    return EndOfStream(stream, round(at_s * 1e9), "stopped")


def without(stream: str) -> list[Message]:
    return [m for m in example_messages() if m.stream != stream]


@pytest.mark.parametrize(
    ("messages", "reasons"),
    [
        ([*example_messages(), end("widefield", 2.9)], ()),  # a stop takes a moment
        (
            [*example_messages(), end("widefield", 3600)],
            ("widefield: no frame after 2.0 s, though the run went on to 3600.0 s",),
        ),
        (
            [*example_messages(), end("treadmill", 9), end("stimulus", 1.5)],
            ("treadmill: no sample after 1.8 s, though the run went on to 9.0 s",),
        ),
        ([*without("widefield"), end("widefield", 3600)], ("widefield: nothing was recorded",)),
        ([*without("widefield"), end("widefield", 0.9)], ()),  # cancelled before the first frame
        (without("widefield"), ()),  # its end is not in the file: nobody knows how long the run was
        ([*without("pupil"), end("pupil", 9)], ("pupil: nothing was recorded",)),
        (
            [*example_messages(), silent(3_000_000_000), end("pupil", 9)],
            ("pupil: silent after 3.0 s, to the end",),
        ),
        (
            [*example_messages(), lost("treadmill", "unplugged"), end("treadmill", 9)],
            ("treadmill: lost after 0.4 s: unplugged",),
        ),
    ],
)
def test_a_stream_that_broke_off_makes_a_session_incomplete(
    tmp_path: Path, messages: list[Message], reasons: tuple[str, ...]
) -> None:
    record(tmp_path / "s.nwb", messages)
    assert verify(tmp_path / "s.nwb").reasons == reasons


def test_the_wait_for_a_late_start_is_no_silence(tmp_path: Path) -> None:
    begun = Event("engine", "run_started", "after the decoders", 60_000_000_000, 60_000_000_000)
    record(tmp_path / "s.nwb", [begun, end("widefield", 60.5)])
    assert verify(tmp_path / "s.nwb").complete


def test_a_slow_stream_is_given_three_periods_and_an_event_driven_one_for_ever(tmp_path: Path) -> None:
    session = example_session(tmp_path)
    slow, *_ = session.frames
    _, *others, event_driven = session.samples
    session = replace(
        session,
        frames=(replace(slow, rate_hz=0.1), session.frames[1]),
        samples=(session.samples[0], *others, replace(event_driven, rate_hz=0.0)),
    )
    record(tmp_path / "s.nwb", [*example_messages(), end("widefield", 30), end("stimulus", 30)], session)
    assert verify(tmp_path / "s.nwb").complete


def test_of_a_replay_nothing_is_said_by_its_own_clock(tmp_path: Path) -> None:
    session = replace(example_session(tmp_path), origin="session.nwb")
    record(tmp_path / "s.nwb", [*example_messages(), end("widefield", 3600)], session)
    assert verify(tmp_path / "s.nwb").complete


def test_gaps_are_told_with_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "s.nwb"
    record(path, example_messages(gaps=True))
    report = verify(path)
    assert not report.complete
    assert report.reasons == ("widefield: 3 lost in 1 gaps: 20-22",)
    stream = report.as_dict()["streams"]["widefield"]
    assert (stream["expected"], stream["recorded"], stream["gaps"]) == (FRAMES, FRAMES - 3, [[20, 22]])


def drop_frame(messages: list[Message]) -> list[Message]:
    return [
        m for m in messages if not (isinstance(m, Frame) and m.stream == "widefield" and m.index in (0, 9))
    ]


def repeat_frame(messages: list[Message]) -> list[Message]:
    return [*messages, frame("widefield", FRAMES - 1)]


def lose_recorded(messages: list[Message]) -> list[Message]:
    return [*messages, Gap("widefield", 58, 58, 0, "wrong")]


def lose_the_end(messages: list[Message]) -> list[Message]:
    return [*messages, Gap("widefield", FRAMES, FRAMES + 4, 0, "overflow")]


def step_back(field: str) -> Change:
    def change(messages: list[Message]) -> list[Message]:
        at = next(k for k, m in enumerate(messages) if isinstance(m, Frame) and m.index == 30)
        return [*messages[:at], replace(messages[at], **{field: 5}), *messages[at + 1 :]]  # type: ignore[arg-type]

    return change


def tick_back(messages: list[Message]) -> list[Message]:
    at = next(k for k, m in enumerate(messages) if isinstance(m, Samples) and m.index == 30)
    batch = messages[at]
    assert isinstance(batch, Samples)
    return [*messages[:at], replace(batch, device_ticks=batch.device_ticks[::-1]), *messages[at + 1 :]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop_frame, "widefield: missing without a gap: 0, 9"),
        (repeat_frame, "widefield: recorded twice, or recorded and reported lost: 59"),
        (lose_recorded, "widefield: recorded twice, or recorded and reported lost: 58"),
        (lose_the_end, "widefield: 5 lost in 1 gaps: 60-64"),
        (step_back("arrival_ns"), "widefield: arrival_ns goes backwards 1 times, first after row 29"),
        (step_back("session_ns"), "widefield: session_ns goes backwards 1 times, first after row 29"),
        (step_back("device_ticks"), "widefield: device_ticks goes backwards 1 times, first after row 29"),
        (tick_back, "treadmill: device_ticks goes backwards 2 times, first after row 30"),
    ],
)
def test_what_is_wrong_with_a_stream_is_found(tmp_path: Path, change: Change, reason: str) -> None:
    path = tmp_path / "s.nwb"
    record(path, change(example_messages()))
    report = verify(path)
    assert not report.complete
    assert reason in report.reasons


def test_a_stream_out_of_order_is_found(tmp_path: Path) -> None:
    path = tmp_path / "s.nwb"
    record(
        path, [replace(frame("widefield", k), arrival_ns=9, session_ns=9, device_ticks=-1) for k in (0, 2, 1)]
    )
    assert verify(path).reasons == ("widefield: not in the device's order",)


def test_a_failed_run_is_not_complete_a_cancelled_one_is(tmp_path: Path) -> None:
    record(tmp_path / "failed.nwb", example_messages(), None, FinishReason.FAILED, ["camera lost"])
    assert verify(tmp_path / "failed.nwb").reasons == ("the run failed: camera lost",)
    record(tmp_path / "cancelled.nwb", example_messages(), None, FinishReason.CANCELLED)
    assert verify(tmp_path / "cancelled.nwb").complete


def test_an_unclosed_file_is_not_complete(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "s.nwb", example_session(tmp_path), never)
    try:
        assert verify(tmp_path / "s.nwb").reasons == (
            "the file was never closed; rig recover saves what was flushed",
        )
    finally:
        recorder.finish(FinishReason.COMPLETED, [])


def copy_while_written(folder: Path, messages: list[Message]) -> Path:
    """A session file as a crash would leave it: copied while its recorder had it open."""
    path, copy = folder / "live.nwb", folder / "crashed.nwb"
    recorder = Recorder(path, example_session(folder), never)
    for message in messages:
        recorder.put(message)
    wait_for(recorder, path, "two_photon", FRAMES)
    copy.write_bytes(path.read_bytes())
    recorder.finish(FinishReason.COMPLETED, [])
    return copy


def test_recover_gives_back_what_was_flushed(tmp_path: Path) -> None:
    crashed, out = copy_while_written(tmp_path, example_messages(gaps=True)), tmp_path / "out.nwb"
    report = recover(crashed, out)
    assert not report.was_closed
    assert report.as_dict()["streams"]["two_photon"] == {"recovered": FRAMES, "cut": 0}
    assert report.last_ns > 1_900_000_000
    with SessionReader(crashed) as old, SessionReader(out) as new:
        for camera in ("widefield", "two_photon"):
            np.testing.assert_array_equal(new.frames(camera).pixels[:], old.frames(camera).pixels[:])
            np.testing.assert_array_equal(new.frames(camera).session_ns, old.frames(camera).session_ns)
        np.testing.assert_array_equal(new.samples("pupil").values, old.samples("pupil").values)
        assert new.gaps("widefield") == old.gaps("widefield")
        assert new.outputs("laser") == old.outputs("laser")
        assert new.description == old.description
        assert new.finish_reason is FinishReason.FAILED
        assert new.errors == ["recovered from crashed.nwb: its recorder ended without closing it"]
        assert [state for *_, state in new.intervals("treadmill")] == ["rest", "run", "rest"]
        assert [state for *_, state in new.intervals("behavior")] == ["rest", "run", "rest"]
        frames = new.file["acquisition/widefield/data"]
        assert frames.chunks == (1, 12, 17)
        assert frames.id.get_create_plist().get_filter(0)[0] == 32008  # bitshuffle
    assert not verify(out).complete


def test_a_recovered_file_is_valid_nwb_and_the_inspector_has_no_error(tmp_path: Path) -> None:
    out = tmp_path / "out.nwb"
    recover(copy_while_written(tmp_path, [m for m in example_messages() if not isinstance(m, Output)]), out)
    with NWBHDF5IO(out, "r") as io:
        assert pynwb.validate(io=io) == []
        assert io.read().acquisition["widefield"].data.shape[0] == FRAMES
    found = list(inspect_nwbfile(nwbfile_path=out))
    worst = {Importance.CRITICAL, Importance.ERROR, Importance.PYNWB_VALIDATION}
    assert [(m.check_function_name, m.message) for m in found if m.importance in worst] == []


def test_recover_of_a_closed_file_is_a_copy_and_says_so(tmp_path: Path) -> None:
    record(tmp_path / "s.nwb", example_messages())
    report = recover(tmp_path / "s.nwb", tmp_path / "out.nwb")
    assert report.was_closed
    assert verify(tmp_path / "out.nwb").complete
    with SessionReader(tmp_path / "s.nwb") as old, SessionReader(tmp_path / "out.nwb") as new:
        assert old.intervals("treadmill") == new.intervals("treadmill")
        assert new.errors == []


def test_recover_never_overwrites(tmp_path: Path) -> None:
    record(tmp_path / "s.nwb", [Event("engine", "note", "one", 0, 0)])
    (tmp_path / "out.nwb").write_text("precious")
    with pytest.raises(RecordingError, match=r"out\.nwb exists and is never overwritten"):
        recover(tmp_path / "s.nwb", tmp_path / "out.nwb")
    assert (tmp_path / "out.nwb").read_text() == "precious"


def test_recover_into_a_missing_folder_or_from_rubbish_leaves_nothing(tmp_path: Path) -> None:
    record(tmp_path / "s.nwb", [])
    with pytest.raises(RecordingError, match="cannot be recovered into"):
        recover(tmp_path / "s.nwb", tmp_path / "missing" / "out.nwb")
    (tmp_path / "bad.nwb").write_text("rubbish")
    with pytest.raises(SessionFileError, match=r"bad\.nwb is damaged"):
        recover(tmp_path / "bad.nwb", tmp_path / "out.nwb")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.nwb", "s.nwb"]


def test_rows_that_only_some_datasets_have_are_cut_and_told(tmp_path: Path) -> None:
    crashed, out = copy_while_written(tmp_path, example_messages()), tmp_path / "out.nwb"
    whole = tmp_path / "whole.nwb"
    recover(crashed, whole)
    with h5py.File(whole, "r+", libver="latest") as file:
        file["acquisition/widefield/data"].resize(FRAMES + 2, axis=0)
        file["processing/timing/widefield/index"].resize(FRAMES + 1, axis=0)
        file["scratch/finish_reason"][0] = b""
    report = recover(whole, out)
    assert report.streams["widefield"].recovered == FRAMES
    assert report.streams["widefield"].cut == 2
    with h5py.File(out, "r") as file:
        assert len(file["acquisition/widefield/data"]) == FRAMES
        assert len(file["processing/timing/widefield/index"]) == FRAMES
