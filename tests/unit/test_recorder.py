import multiprocessing
import resource
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pynwb
import pytest
from nwbinspector import Importance, inspect_nwbfile
from pynwb import NWBHDF5IO

from rig.acquisition.states import FinishReason
from rig.description import SessionDescription
from rig.errors import RecorderOverflow, RecordingError
from rig.messages import Event, Frame, FrameStream, Message, Output
from rig.recording import layout
from rig.recording.message_queue import MessageQueue, message_bytes
from rig.recording.reader import SessionReader
from rig.recording.recorder import Recorder
from tests.unit.session_example import FRAMES, answer, example_messages, example_session, frame, samples


def never(error: Exception) -> None:
    """A recorder that must not fail."""
    raise AssertionError(error)


def record(
    path: Path,
    messages: Sequence[Message],
    session: SessionDescription | None = None,
    reason: FinishReason = FinishReason.COMPLETED,
    errors: Sequence[str] = (),
) -> None:
    recorder = Recorder(path, session or example_session(path.parent), never)
    for message in messages:
        recorder.put(message)
    recorder.finish(reason, errors)


def is_valid(file: h5py.File) -> bool:
    with NWBHDF5IO(file=file, mode="r") as io:
        assert pynwb.validate(io=io) == []
        io.read()
    return True


def test_a_closed_file_is_valid_nwb_and_the_inspector_has_no_error(tmp_path: Path) -> None:
    record(tmp_path / "s.nwb", example_messages())
    assert is_valid(h5py.File(tmp_path / "s.nwb", "r"))
    found = list(inspect_nwbfile(nwbfile_path=tmp_path / "s.nwb"))
    worst = {Importance.CRITICAL, Importance.ERROR, Importance.PYNWB_VALIDATION}
    assert [(m.check_function_name, m.message) for m in found if m.importance in worst] == []


def test_what_pynwb_reads_is_what_was_sent(tmp_path: Path) -> None:
    record(tmp_path / "s.nwb", example_messages())
    with NWBHDF5IO(tmp_path / "s.nwb", "r") as io:
        nwb = io.read()
        images = nwb.acquisition["widefield"]
        np.testing.assert_array_equal(images.data[7], frame("widefield", 7).pixels)
        assert images.timestamps[1] == pytest.approx(1 / 30)
        assert images.imaging_plane.excitation_lambda == 470.0
        assert type(nwb.acquisition["two_photon"]).__name__ == "TwoPhotonSeries"
        behavior = nwb.processing["behavior"]
        speed = behavior["treadmill"]["running_speed"]
        assert speed.unit == "m/s"
        assert speed.data[3 * 20] == pytest.approx(0.1)
        assert speed.timestamps[3] == pytest.approx(0.03)
        assert behavior["pupil"]["position"].data[0].tolist() == pytest.approx([0.0003, 0.0007])
        assert nwb.stimulus["stimulus"].data[:3].tolist() == [-1, 41, 42]
        assert nwb.stimulus_template["movies"].data.shape == (80, 36, 64)
        assert nwb.processing["decoding"]["reconstruction"].data.shape == (FRAMES, 3, 4)
        table = nwb.processing["timing"]["behavior"].to_dataframe()
        assert list(table.columns)[:4] == ["sequence", "index", "generation", "source_index"]
        assert table["inference_end_ns"][2] - table["inference_start_ns"][2] == 2_000_000
        assert nwb.intervals["run_rest"].to_dataframe()["state"].tolist() == [b"rest", b"run", b"rest"]
        assert nwb.subject.subject_id == "example-1"
        assert nwb.session_start_time.isoformat() == "2026-11-20T12:00:00+00:00"
        assert len(nwb.scratch["configuration_sha256"].data) == 64


@pytest.mark.parametrize(
    ("dtype", "compression"),
    [
        ("uint8", "bitshuffle-lz4"),
        ("int16", "bitshuffle-lz4"),
        ("float32", "bitshuffle-lz4"),
        ("uint16", "none"),
    ],
)
def test_every_pixel_type_comes_back(tmp_path: Path, dtype: str, compression: str) -> None:
    session = example_session(tmp_path, f", compression: {compression}", dtype)
    sent = [frame("widefield", k, dtype) for k in range(5)]
    record(tmp_path / "s.nwb", sent, session)
    with SessionReader(tmp_path / "s.nwb") as reader:
        pixels = reader.frames("widefield").pixels
        assert pixels.dtype == dtype
        np.testing.assert_array_equal(pixels[:], np.stack([f.pixels for f in sent]))


def test_compressed_frames_that_are_not_contiguous(tmp_path: Path) -> None:
    whole = np.arange(4 * 12 * 17, dtype=np.uint16).reshape(24, 34)
    sent = replace(frame("widefield", 0), pixels=whole[::2, ::2])
    record(tmp_path / "s.nwb", [sent])
    with SessionReader(tmp_path / "s.nwb") as reader:
        np.testing.assert_array_equal(reader.frames("widefield").pixels[0], whole[::2, ::2])


def wait_for(recorder: Recorder, path: Path, camera: str, count: int) -> None:
    """Wait until a reader sees so many frames."""
    pause = threading.Event()
    while True:
        with SessionReader(path) as reader:
            if len(reader.frames(camera).index) >= count:
                return
        pause.wait(0.02)


def test_a_file_being_written_is_valid_and_shows_what_was_flushed(tmp_path: Path) -> None:
    path = tmp_path / "s.nwb"
    recorder = Recorder(path, example_session(tmp_path), never)
    with h5py.File(path, "r", swmr=True) as file:
        assert is_valid(file)
    for message in example_messages():
        recorder.put(message)
    wait_for(recorder, path, "two_photon", FRAMES)
    with SessionReader(path) as reader:
        assert reader.finish_reason is None
        assert is_valid(reader.file)
    recorder.finish(FinishReason.CANCELLED, [])
    with SessionReader(path) as reader:
        assert reader.finish_reason is FinishReason.CANCELLED


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "s.nwb"
    path.write_text("precious")
    with pytest.raises(RecordingError, match=r"s\.nwb exists and is never overwritten"):
        Recorder(path, example_session(tmp_path), never)
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_an_impossible_folder_leaves_nothing(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match=f"{folder}"):
        Recorder(tmp_path / folder / "s.nwb", example_session(tmp_path), never)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_failed_creation_leaves_nothing(tmp_path: Path) -> None:
    session = example_session(tmp_path)
    impossible = replace(session, frames=(FrameStream("widefield", 4, 4, "complex256", 30.0, 0.0),))
    with pytest.raises(RecordingError, match=r"s\.nwb cannot be created: widefield"):
        Recorder(tmp_path / "s.nwb", impossible, never)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_too_full_from_the_start_leaves_nothing(tmp_path: Path) -> None:
    free_gb = shutil.disk_usage(tmp_path).free / 1e9
    session = example_session(tmp_path)
    recording = session.config.recording.model_copy(update={"min_free_gb": free_gb + 1000})
    config = session.config.model_copy(update={"recording": recording})
    with pytest.raises(RecordingError, match=r"GB left, less than recording\.min_free_gb"):
        Recorder(tmp_path / "s.nwb", replace(session, config=config), never)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_runs_full_stops_the_run_and_the_file_stays_whole(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    session = example_session(tmp_path)
    recording = session.config.recording.model_copy(update={"min_free_gb": (free - 30_000_000) / 1e9})
    config = session.config.model_copy(update={"recording": recording})
    failures: list[Exception] = []
    failed = threading.Event()

    def on_failure(error: Exception) -> None:
        failures.append(error)
        failed.set()

    recorder = Recorder(tmp_path / "s.nwb", replace(session, config=config), on_failure)
    (tmp_path / "other").write_bytes(np.random.default_rng(0).bytes(60_000_000))
    assert failed.wait(30)
    recorder.put(frame("widefield", 0))
    recorder.finish(FinishReason.FAILED, [str(failures[0])])
    assert len(failures) == 1
    assert isinstance(failures[0], RecordingError)
    with SessionReader(tmp_path / "s.nwb") as reader:
        assert reader.finish_reason is FinishReason.FAILED
        assert "recording.min_free_gb" in reader.errors[0]
        assert len(reader.frames("widefield").index) == 1


def _record_with_file_size_limit(
    folder: Path, answers: "multiprocessing.Queue[tuple[list[str], int, int]]"
) -> None:
    """In a child process: the system refuses to let any file grow beyond 400 kB."""
    failures: list[str] = []
    recorder = Recorder(folder / "s.nwb", example_session(folder), lambda error: failures.append(str(error)))
    size = (folder / "s.nwb").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 400_000, resource.RLIM_INFINITY))
    pause = threading.Event()
    sent = 0
    while not failures and sent < 20_000:
        recorder.put(frame("widefield", sent))
        sent += 1
        pause.wait(0.0002)
    recorder.put(frame("widefield", sent))
    recorder.finish(FinishReason.FAILED, failures)
    recorder.finish(FinishReason.COMPLETED, [])
    answers.put((failures, sent, recorder.status().discarded))


def test_a_write_that_the_system_refuses_is_told_once_and_what_was_flushed_stays(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[tuple[list[str], int, int]] = spawn.Queue()
    child = spawn.Process(target=_record_with_file_size_limit, args=(tmp_path, answers))
    child.start()
    failures, sent, discarded = answers.get(timeout=60)
    child.join(30)
    assert child.exitcode == 0
    assert len(failures) == 1
    assert "s.nwb cannot be written: File too large" in failures[0]
    assert sent < 20_000
    assert discarded >= 1
    with SessionReader(tmp_path / "s.nwb") as reader:
        assert reader.finish_reason is None
        table = reader.frames("widefield")
        assert len(table.index) > 10
        for k in (0, len(table.index) - 1):
            np.testing.assert_array_equal(table.pixels[k], frame("widefield", k).pixels)


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    folder = tmp_path_factory.mktemp("idle")
    recorder = Recorder(folder / "s.nwb", example_session(folder), never)
    yield recorder
    recorder.finish(FinishReason.COMPLETED, [])


def test_a_full_queue_refuses_the_next_message_and_keeps_the_others() -> None:
    first = frame("widefield", 0)
    queue = MessageQueue(3 * message_bytes(first))
    for k in range(3):
        queue.put(frame("widefield", k), 0)
    with pytest.raises(RecorderOverflow, match=r"recording\.queue_mb is full: 3 messages"):
        queue.put(frame("widefield", 3), 0)
    taken = queue.take(0.0)
    assert taken is not None
    with pytest.raises(RecorderOverflow):  # it is still in memory, on its way to the disk
        queue.put(frame("widefield", 3), 0)
    queue.release(taken)
    queue.put(frame("widefield", 3), 0)
    assert queue.high_water_bytes == 3 * message_bytes(first)


def test_a_recorder_that_cannot_keep_up_says_so_and_loses_nothing_that_it_took(tmp_path: Path) -> None:
    session = example_session(tmp_path, ", queue_mb: 20")
    large = FrameStream("widefield", 2048, 2048, "uint16", 30.0, 0.0)
    recorder = Recorder(tmp_path / "s.nwb", replace(session, frames=(large,)), never)
    pixels = np.random.default_rng(0).integers(0, 60_000, (2048, 2048)).astype(np.uint16)
    taken = 0
    try:
        while taken < 1000:
            recorder.put(Frame("widefield", taken, -1, taken, pixels))
            taken += 1
    except RecorderOverflow:
        pass
    assert 1 <= taken < 1000
    recorder.finish(FinishReason.FAILED, ["overflow"])
    with SessionReader(tmp_path / "s.nwb") as reader:
        assert reader.frames("widefield").index.tolist() == list(range(taken))
        assert reader.scalar(layout.HIGH_WATER) <= 20_000_000


def test_finish_is_safe_twice_and_the_first_counts(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "s.nwb", example_session(tmp_path), never)
    recorder.finish(FinishReason.FAILED, ["first", "second" * 200])
    recorder.finish(FinishReason.COMPLETED, [])
    with pytest.raises(RecordingError, match="the recording is closed"):
        recorder.put(Event("engine", "note", "late", 0, 0))
    with SessionReader(tmp_path / "s.nwb") as reader:
        assert reader.finish_reason is FinishReason.FAILED
        assert reader.errors == ["first", "second" * 200]


def test_an_output_that_was_never_switched_leaves_no_empty_table(tmp_path: Path) -> None:
    record(tmp_path / "s.nwb", [])
    with SessionReader(tmp_path / "s.nwb") as reader:
        assert reader.outputs("laser") == []
        assert reader.row_count(layout.OUTPUTS, "laser") == 1
        assert reader.intervals("treadmill")[0][2] == "unknown"


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (frame("nowhere", 0), "'nowhere' sent"),
        (replace(frame("widefield", 0), pixels=np.zeros((3, 3), np.uint16)), r"\(3, 3\)"),
        (frame("widefield", 0, "uint8"), "uint8"),
        (samples("treadmill", 0, [[1.0]]), r"\(1, 1\)"),
        (samples("widefield", 0, [[1.0, 2.0]]), "'widefield' sent"),
        (answer("behavior", (2,), 0), r"\(2,\)"),
        (answer("dreams", (), 0), "'dreams' sent"),
        (Output("lamp", 0, True, "", -1, 0, 0, 0, ""), "'lamp' is no output"),
    ],
)
def test_what_the_session_was_not_described_with_is_refused(
    idle: Recorder, message: Message, complaint: str
) -> None:
    with pytest.raises(RecordingError, match=complaint):
        idle.put(message)


def test_many_threads_put_and_each_stream_keeps_its_order(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "s.nwb", example_session(tmp_path), never)

    def send(name: str) -> None:
        for k in range(100):
            recorder.put(frame(name, k))

    threads = [threading.Thread(target=send, args=(name,)) for name in ("widefield", "two_photon")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.finish(FinishReason.COMPLETED, [])
    assert recorder.status().written["widefield"] == 100
    assert recorder.status().queued_bytes == 0
    with SessionReader(tmp_path / "s.nwb") as reader:
        both = [reader.frames(name) for name in ("widefield", "two_photon")]
        assert [table.index.tolist() for table in both] == [list(range(100))] * 2
        assert sorted(np.concatenate([table.sequence for table in both])) == list(range(1, 201))
