import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.acquisition.states import FinishReason
from rig.errors import SessionFileError
from rig.messages import Event, Frame, Gap, Message, Output, Prediction, PredictionStatus, Samples
from rig.recording import layout
from rig.recording.reader import SessionReader
from rig.recording.summary import summary
from tests.unit.session_example import FRAMES, example_messages, example_session, frame, samples
from tests.unit.test_recorder import record


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("closed") / "s.nwb"
    record(path, example_messages(gaps=True))
    return path


def same(one: Message, other: Message) -> bool:
    """Whether two messages are equal, arrays and their types included."""
    if type(one) is not type(other):
        return False
    pairs = zip(asdict(one).items(), asdict(other).items(), strict=True)
    return all(
        np.array_equal(a, b) and a.dtype == b.dtype if isinstance(a, np.ndarray) else a == b
        for (_, a), (_, b) in pairs
    )


def test_messages_come_back_exactly_and_in_order(closed: Path) -> None:
    sent = [
        m
        for m in example_messages(gaps=True)
        if isinstance(m, Frame | Samples | Gap) or (isinstance(m, Event) and m.kind == "junk")
    ]
    sent[-1] = replace(sent[-1], text="x" * 1500 + "é\u2400")
    with SessionReader(closed) as reader:
        found = list(reader.messages())
    assert len(found) == len(sent)
    assert all(same(a, b) for a, b in zip(sent, found, strict=True))


def test_a_file_older_than_the_status_of_answers_is_read(tmp_path: Path) -> None:
    """Its table lacks the column; NaN is then what a decoder says while it warms up."""
    path = tmp_path / "old.nwb"
    messages = example_messages()
    place = next(k for k, m in enumerate(messages) if isinstance(m, Prediction) and m.stream == "behavior")
    unknown = replace(
        messages[place], values=np.array(np.nan, np.float32), status=PredictionStatus.WARMING_UP
    )
    messages[place] = unknown
    record(path, messages)
    with h5py.File(path, "r+") as file:
        tables = json.loads(file[layout.TABLES][()])
        for table in tables:
            if "status" in table["columns"]:
                del file[table["columns"].pop("status")]
        text = json.dumps(tables)
        del file[layout.TABLES]
        file[layout.TABLES] = text
    with SessionReader(path) as reader:
        status = reader.predictions("behavior").status
        assert status.tolist() == [PredictionStatus.WARMING_UP] + [PredictionStatus.OK] * (FRAMES - 1)
        assert set(reader.predictions("reconstruction").status.tolist()) == {PredictionStatus.OK}
    assert summary(path)["decoders"]["behavior"]["unknown"]["warming_up"] == 1


def test_messages_of_one_stream_are_its_own_alone(closed: Path) -> None:
    with SessionReader(closed) as reader:
        found = list(reader.messages(["pupil"]))
        assert {message.stream for message in found} == {"pupil"}
        assert len(found) == FRAMES


def test_the_session_is_described_as_it_was(closed: Path) -> None:
    with SessionReader(closed) as reader:
        assert reader.description == example_session(closed.parent)
        assert reader.finish_reason is FinishReason.COMPLETED
        assert reader.errors == []


def test_tables_have_what_was_sent(closed: Path) -> None:
    with SessionReader(closed) as reader:
        frames = reader.frames("widefield")
        assert frames.index.tolist() == [k for k in range(FRAMES) if k not in (20, 21, 22)]
        assert frames.pixels.shape == (FRAMES - 3, 12, 17)
        np.testing.assert_array_equal(frames.pixels[20], frame("widefield", 23).pixels)
        np.testing.assert_array_equal(frames.pixels[-1], frame("widefield", 59).pixels)
        assert len(frames.pixels[10:20:2]) == 5
        assert np.asarray(frames.pixels).shape == frames.pixels.shape
        treadmill = reader.samples("treadmill")
        assert treadmill.columns == ("count", "running_speed")
        assert treadmill.values[0, 1] == 0.1 + 0.2
        answers = reader.predictions("reconstruction")
        assert answers.values.shape == (FRAMES, 3, 4)
        assert answers.values.dtype == np.float32
        assert (answers.received_ns > 0).all()
        assert reader.gaps("widefield") == [Gap("widefield", 20, 22, 733333326, "buffer overflow", 5)]
        assert reader.gaps("two_photon") == []
        assert reader.outputs("laser") == [m for m in example_messages() if isinstance(m, Output)]
        assert [e.kind for e in reader.events()][:2] == ["recording_started", "run_started"]
        movies = reader.stimulus_movies()
        assert movies is not None
        assert (movies.shape, movies.dtype) == ((2, 40, 36, 64), np.uint8)


def test_run_and_rest_are_there_by_speed_and_by_decoder(closed: Path) -> None:
    with SessionReader(closed) as reader:
        by_speed = reader.intervals("treadmill")
        assert [state for *_, state in by_speed] == ["rest", "run", "rest"]
        assert by_speed[1][:2] == pytest.approx((0.45, 1.35))
        by_decoder = reader.intervals("behavior")
        assert by_decoder[1][:2] == pytest.approx((10 / 30, 40 / 30))
        with pytest.raises(SessionFileError, match="valid: treadmill, behavior"):
            reader.intervals("reconstruction")


def test_an_unknown_stream_is_named_with_the_valid_ones(closed: Path) -> None:
    with (
        SessionReader(closed) as reader,
        pytest.raises(SessionFileError, match=r"no frames of 'eye'; valid: widefield, two_photon"),
    ):
        reader.frames("eye")


def test_summary_says_what_is_in_it(closed: Path) -> None:
    found = summary(closed)
    assert found["cameras"]["widefield"]["shape"] == [57, 12, 17]
    assert found["cameras"]["widefield"]["lost"] == 3
    assert found["cameras"]["two_photon"]["rate_hz"] == pytest.approx(30.0, rel=1e-3)
    assert found["serial"]["pupil"]["samples"] == 120
    assert found["decoders"]["behavior"]["decisions"] == FRAMES
    assert found["outputs"] == {"laser": 2}
    assert found["running_s"]["treadmill"] == pytest.approx(0.9)
    assert found["events"]["junk"] == 1
    assert found["provenance"]["packages"]["h5py"] == h5py.__version__
    assert len(found["configuration_sha256"]) == 64


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_gets_one_clear_line(closed: Path, tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.nwb"
    path.write_bytes(closed.read_bytes())
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(SessionFileError, match=r"cut\.nwb is (cut off|damaged)") as caught:
        SessionReader(path)
    assert "\n" not in str(caught.value)


def make_text(path: Path) -> None:
    path.write_text("not HDF5")


def make_foreign(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data"] = 1


def make_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [make_text, make_foreign, make_folder, Path.touch, lambda path: None])
def test_what_is_no_session_file_gets_one_clear_line(tmp_path: Path, make: object) -> None:
    path = tmp_path / "other.nwb"
    make(path)  # type: ignore[operator]
    with pytest.raises(SessionFileError, match=r"other\.nwb") as caught:
        SessionReader(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_frame_is_named(closed: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.nwb"
    path.write_bytes(closed.read_bytes())
    with h5py.File(path, "r") as file:
        chunk = file["acquisition/widefield/data"].id.get_chunk_info(30)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * chunk.size)
    with (
        SessionReader(path) as reader,
        pytest.raises(SessionFileError, match="frame 30 of /acquisition/widefield/data is damaged"),
    ):
        reader.frames("widefield").pixels[30]


NS = st.integers(0, 2**53)
TEXT = st.text(max_size=40).filter(lambda text: "\0" not in text)


@st.composite
def source_messages(draw: st.DrawFn) -> Message:
    """Any message of a device, stamps in any order."""
    index, arrival_ns, session_ns = draw(NS), draw(NS), draw(NS)
    kind = draw(st.sampled_from(["frame", "samples", "gap", "event"]))
    if kind == "frame":
        name = draw(st.sampled_from(["widefield", "two_photon"]))
        template = frame(name, draw(st.integers(0, 5)))
        return replace(template, index=index, arrival_ns=arrival_ns, session_ns=session_ns)
    if kind == "samples":
        count = draw(st.integers(1, 4))
        number = st.floats(allow_nan=False, width=64)
        values = draw(st.lists(st.tuples(number, number), min_size=count, max_size=count))
        batch = samples("treadmill", 0, [list(row) for row in values])
        return replace(batch, index=index, arrival_ns=arrival_ns)
    name = draw(st.sampled_from(["widefield", "treadmill"]))
    if kind == "gap":
        return Gap(name, index, index + draw(st.integers(0, 9)), arrival_ns, draw(TEXT), session_ns)
    return Event(
        name, draw(st.sampled_from(["junk", "gap", "device_lost"])), draw(TEXT), arrival_ns, session_ns
    )


@settings(max_examples=8)
@given(st.lists(source_messages(), max_size=25))
def test_any_order_of_messages_comes_back_exactly(messages: list[Message]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "s.nwb"
        session = replace(example_session(path.parent), predictions=())
        plain = session.config.model_copy(update={"stimulus": None, "running": None})
        record(path, messages, replace(session, config=plain))
        with SessionReader(path) as reader:
            found = list(reader.messages())
    assert len(found) == len(messages)
    assert all(same(a, b) for a, b in zip(messages, found, strict=True))
