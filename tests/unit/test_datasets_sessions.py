"""Our own session files as recordings of cortex and running."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from decoders.datasets.behavior import LabelRule
from decoders.datasets.reading import ReadingOptions
from decoders.datasets.recordings import open_recordings
from rig.acquisition.states import FinishReason
from rig.config import parse_config
from rig.errors import DataError, SessionFileError
from rig.messages import Frame, Samples
from rig.recording.reader import SessionReader
from rig.recording.recorder import Recorder
from tests.unit.session_example import FRAMES, HEIGHT, WIDTH, YAML, example_messages, example_session

PLACED = "pixel_size_um: 78.0, landmarks_px: {bregma: [8, 4], lambda: [8, 9]}"


def write(path, description, messages):
    failures = []
    recorder = Recorder(path, description, failures.append)
    for message in messages:
        recorder.put(message)
    recorder.finish(FinishReason.COMPLETED, [])
    assert failures == []
    return path


def described(folder, yaml):
    plain = example_session(folder)
    config = parse_config(yaml % "", str(folder / "example.yaml"))
    return replace(plain, config=config)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("session")
    return write(folder / "monday.nwb", example_session(folder), example_messages())


@pytest.fixture
def session(written, tmp_path):
    return shutil.copy(written, tmp_path / "monday.nwb")


def with_speed(change):
    """The example's messages, its running speed changed: `change` gets the index of a sample and the speed."""
    for message in example_messages():
        if isinstance(message, Samples) and message.stream == "treadmill":
            for k, row in enumerate(message.values):
                row[1] = change(message.index + k, row[1])
        yield message


def refused(path, rule=None, options=None):
    with pytest.raises(DataError) as caught, open_recordings([path], "sessions", rule, options):
        pass
    return str(caught.value)


def test_a_session_of_ours(session):
    with open_recordings([session], "sessions") as (recording,):
        assert (recording.mouse, recording.session, recording.path) == ("example-1", "monday", session)
        assert (recording.rate_hz, recording.origin, recording.landmarks_px) == (30.0, "recorded", {})
        assert recording.rule == LabelRule(10.0, 0.0, 0.1)
        assert recording.frames.shape == (FRAMES, HEIGHT, WIDTH)
        with SessionReader(session) as reader:
            frames, samples = reader.frames("widefield"), reader.samples("treadmill")
            np.testing.assert_array_equal(recording.frames[5:9], frames.pixels[5:9])
        for k, at_ns in enumerate(frames.session_ns):  # the last sample at or before each frame
            assert recording.speed_mm_s[k] == samples.values[samples.session_ns <= at_ns, 1][-1]
        assert recording.running.any()
        np.testing.assert_array_equal(recording.running, recording.speed_mm_s > 10.0)


def test_another_rule(session):
    rule = LabelRule(threshold_mm_s=0.2, smoothing_s=0.0, min_bout_s=0.0)
    with open_recordings([session], "sessions", rule) as (recording,):
        assert recording.rule == rule
        assert recording.running.all()


@pytest.mark.parametrize("option", [{"series": "widefield"}, {"speed": "wheel"}, {"speed_unit": "cm/s"}])
def test_what_other_programs_files_are_asked_is_of_no_use_here(session, option):
    ((name, value),) = option.items()
    text = refused(session, options=ReadingOptions(**option))
    assert text.startswith(f"{name} {value!r} is of no use")
    assert "other programs' NWB files" in text


def test_landmarks_of_the_rig(tmp_path):
    yaml = YAML.replace("pixel_size_um: 78.0", PLACED)
    path = write(tmp_path / "a.nwb", described(tmp_path, yaml), example_messages())
    with open_recordings([path], "sessions") as (recording,):
        assert recording.landmarks_px == {"bregma": (8.0, 4.0), "lambda": (8.0, 9.0)}


def test_a_folder_and_files_in_order_of_mouse_and_session(tmp_path, session):
    other = YAML.replace("subject_id: example-1", "subject_id: a-mouse")
    write(tmp_path / "x.nwb", described(tmp_path, other), example_messages())
    shutil.copy(session, tmp_path / "friday.nwb")
    with open_recordings([tmp_path, session], "sessions") as recordings:
        names = [(r.mouse, r.session) for r in recordings]
    assert names == [("a-mouse", "x"), ("example-1", "friday"), ("example-1", "monday")]


def test_frames_are_closed_at_the_end(session):
    with open_recordings([session], "sessions") as (recording,):
        pass
    with pytest.raises(RuntimeError):
        recording.frames[0:1]


def test_the_same_session_in_two_folders(tmp_path, session):
    (tmp_path / "copy").mkdir()
    shutil.copy(session, tmp_path / "copy")
    with (
        pytest.raises(DataError, match="the same session name 'monday'"),
        open_recordings([tmp_path, tmp_path / "copy"], "sessions"),
    ):
        pass


def test_lost_frames_are_said(tmp_path, caplog):
    path = write(tmp_path / "a.nwb", example_session(tmp_path), example_messages(gaps=True))
    with open_recordings([path], "sessions") as (recording,):
        assert len(recording) == FRAMES - 3
    assert "3 frames of widefield were lost" in caplog.text


def test_a_speed_unknown_at_the_beginning(tmp_path):
    """The treadmill's speed is NaN until the wheel has turned for one window."""
    messages = with_speed(lambda k, speed: np.nan if k < 6 else speed)
    path = write(tmp_path / "a.nwb", example_session(tmp_path), messages)
    with open_recordings([path], "sessions") as (recording,):
        assert np.isfinite(recording.speed_mm_s).all()
        assert not recording.running[:10].any()


def test_nan_speed(tmp_path):
    path = write(
        tmp_path / "a.nwb",
        example_session(tmp_path),
        with_speed(lambda k, speed: np.nan if k in (50, 51) else speed),
    )
    assert "a.nwb: its speed is NaN or infinite at 2 of 180 samples" in refused(path)
    path = write(tmp_path / "b.nwb", example_session(tmp_path), with_speed(lambda k, speed: np.nan))
    assert "b.nwb: its speed has no number, 180 samples are all NaN" in refused(path)


def test_no_mouse(tmp_path):
    yaml = YAML.replace("subject_id: example-1", 'subject_id: " "')
    path = write(tmp_path / "a.nwb", described(tmp_path, yaml), example_messages())
    assert "a.nwb: mouse id missing" in refused(path)


def test_no_rule_and_no_running_section(tmp_path):
    yaml = "\n".join(line for line in YAML.splitlines() if not line.startswith("running:"))
    path = write(tmp_path / "a.nwb", described(tmp_path, yaml), example_messages())
    assert "a.nwb: its configuration has no section running" in refused(path)


def test_no_speed_and_no_frame(tmp_path):
    quiet = [m for m in example_messages() if not (isinstance(m, Samples) and m.stream == "treadmill")]
    path = write(tmp_path / "a.nwb", example_session(tmp_path), quiet)
    assert "a.nwb: its speed has no number, 0 samples" in refused(path)
    dark = [m for m in example_messages() if not (isinstance(m, Frame) and m.stream == "widefield")]
    path = write(tmp_path / "b.nwb", example_session(tmp_path), dark)
    assert "b.nwb: has no frame" in refused(path)


def test_a_file_cut_short(session):
    session.write_bytes(session.read_bytes()[:-3000])
    with (
        pytest.raises(SessionFileError, match=r"monday\.nwb is cut off"),
        open_recordings([session], "sessions"),
    ):
        pass


def test_nothing_there(tmp_path):
    assert "no session file" in refused(tmp_path)
