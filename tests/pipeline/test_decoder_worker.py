"""A real decoder process on a real bus."""

import json
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import replace

import numpy as np
import pytest

from decoders.worker import Worker
from rig.bus import Bus
from rig.config import parse_config
from rig.description import SessionDescription
from rig.messages import (
    EndOfStream,
    Event,
    Frame,
    FrameStream,
    Gap,
    ImportanceMap,
    Prediction,
    PredictionStatus,
)
from rig.sync.clock import SessionClock

RIG = """
schema_version: 1
rig: worker_test
session: {description: test of the decoder process, subject: {subject_id: nobody}}
cameras:
  widefield:
    driver: simulated_widefield
    rate_hz: 30
    imaging: {kind: one_photon, indicator: GCaMP6f, excitation_nm: 470, emission_nm: 525, location: Isocortex,
              pixel_size_um: 78.0,
              landmarks_px: {bregma: [64, 46], lambda: [64, 94]}}
decoders:
  behavior: {decoder: causal, camera: widefield, queue_frames: 64, warm_up_s: 0, checkpoint: shipped}
"""
WAIT_S = 60.0  # for a loaded machine; nothing sleeps so long
FRAMES = np.random.default_rng(0).integers(100, 4000, (40, 128, 128), np.uint16)


class Session:
    """A bus with a camera on it, and the decoder processes that follow it."""

    def __init__(self, bus, identifier, path, text=RIG):
        self.bus, self.path, self.clock = bus, path, SessionClock.start()
        self.description = SessionDescription(
            identifier,
            parse_config(text, "test"),
            self.clock,
            frames=(FrameStream("widefield", 128, 128, "uint16", 30.0, 0.0),),
        )
        path.write_text(self.description.as_json())
        self.camera = bus.publisher("widefield", FRAMES[0].nbytes)
        self.ready = bus.subscriber("behavior.ready", 8)
        self.answers = bus.subscriber("behavior", 256)
        self.processes = []

    def start(self, generation=0, name="behavior"):
        command = [sys.executable, "-m", "decoders.worker", str(self.path), name, str(generation)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.processes.append(process)
        return process

    def until_ready(self):
        event = self.ready.receive(WAIT_S)
        assert isinstance(event, Event)
        self.answers.receive()  # connects: what a process says last is lost to who never looked while it lived
        return event

    def send(self, index):
        self.camera.send(Frame("widefield", index, -1, self.clock.now_ns(), FRAMES[index], 7 * index))

    def receive(self, count):
        messages = [self.answers.receive(WAIT_S) for _ in range(count)]
        assert None not in messages
        return messages

    def receive_last(self):
        """The next message that does not say that no frame came."""
        (message,) = self.receive(1)
        while isinstance(message, Prediction) and not message.answers_frame:
            (message,) = self.receive(1)
        return message

    def close(self):
        for process in self.processes:
            process.kill()
            process.communicate()
        for port in (self.camera, self.ready, self.answers):
            port.close()


@pytest.fixture
def session(tmp_path):
    identifier = f"test-{uuid.uuid4().hex[:8]}"
    with Bus(identifier) as bus:
        made = Session(bus, identifier, tmp_path / "session.json")
        yield made
        made.close()


def decode_all(session, generation):
    """Send every frame to a fresh process; return its answers."""
    session.start(generation)
    assert session.until_ready().kind == "ready"
    for index in range(len(FRAMES)):
        session.send(index)
    answers = answers_to_frames(session, len(FRAMES))
    session.camera.send(EndOfStream("widefield", 0, "the end"))
    last = session.receive_last()
    assert (last.stream, last.reason) == ("behavior", "the end")
    process = session.processes[-1]
    assert (process.wait(WAIT_S), process.stderr.read()) == (0, "")
    while session.ready.receive() is not None:
        pass
    return answers


def test_the_same_frames_give_the_same_bits_in_a_second_process(session):
    first, second = decode_all(session, 0), decode_all(session, 1)
    assert [a.values.tobytes() for a in first] == [a.values.tobytes() for a in second]
    assert len({a.values.tobytes() for a in first}) > 30
    assert {a.generation for a in second} == {1}


def test_every_answer_has_its_time_line(session):
    for index, answer in enumerate(decode_all(session, 0)):
        assert isinstance(answer, Prediction)
        assert (answer.stream, answer.index, answer.source_index, answer.skipped) == (
            "behavior",
            index,
            index,
            0,
        )
        assert answer.frame_session_ns == 7 * index
        times = [
            answer.frame_arrival_ns,
            answer.dequeue_ns,
            answer.inference_start_ns,
            answer.inference_end_ns,
        ]
        assert times == sorted(times)


@pytest.fixture
def two_decoders(tmp_path):
    """A session whose closed loop acts on the decoder `decisive` alone; `behavior` is beside it."""
    identifier = f"test-{uuid.uuid4().hex[:8]}"
    text = (
        RIG
        + """
  decisive: {decoder: causal, camera: widefield}
outputs:
  laser: {driver: serial_output, port: /dev/ttyACM0}
closed_loop:
  - {decoder: decisive, output: laser, threshold_on: 0.7, threshold_off: 0.4, max_on_ms: 2000, max_duty: 0.3}
"""
    )
    with Bus(identifier) as bus:
        made = Session(bus, identifier, tmp_path / "session.json", text)
        yield made
        made.close()


def test_a_decoder_that_nothing_acts_on_gives_way(two_decoders):
    two_decoders.start()
    two_decoders.until_ready()
    for index in range(5):
        two_decoders.send(index)
        (answer,) = answers_to_frames(two_decoders, 1)
        assert answer.inference_start_ns - answer.frame_arrival_ns >= 6_000_000
        assert answer.status == PredictionStatus.OK


def test_who_gives_way_to_whom(two_decoders):
    live, bus = two_decoders.description, two_decoders.bus
    fast = replace(live, frames=(replace(live.frames[0], rate_hz=100.0),))
    alone = replace(live, config=live.config.model_copy(update={"closed_loop": []}))
    cases = [(live, "behavior", 6_000_000), (fast, "behavior", 2_000_000), (live, "decisive", 0)]
    cases += [(alone, "behavior", 0), (replace(live, origin="recorded.nwb"), "behavior", 0)]
    for description, name, patience_ns in cases:
        worker = Worker(description, name, 0, bus)
        assert worker._patience_ns == patience_ns
        worker.close()


def test_it_describes_its_answers_when_it_is_ready(session):
    session.start()
    described = json.loads(session.until_ready().text)
    assert (described["name"], described["source"], described["shape"]) == ("behavior", "widefield", [])
    assert described["provenance"]["data"] == "simulated"
    assert session.until_ready().kind == "ready"  # repeated until the first frame


def test_frames_it_never_saw_are_counted_and_known_gaps_are_not(session):
    session.start()
    session.until_ready()
    session.send(0)
    session.send(3)  # 1 and 2 never came
    session.camera.send(Gap("widefield", 4, 6, 0, "lost by the camera"))
    session.send(7)
    session.camera.send(Gap("widefield", 10, 11, 0, "lost by the camera"))  # 8 and 9 never came
    session.send(12)
    assert [(a.source_index, a.skipped) for a in answers_to_frames(session, 4)] == [
        (0, 0),
        (3, 2),
        (7, 0),
        (12, 2),
    ]


def answers_to_frames(session, count):
    """Answers to so many frames; what it said when none came, left out."""
    found = []
    while len(found) < count:
        (message,) = session.receive(1)
        found += [message] if message.answers_frame else []
    return found


@pytest.mark.parametrize("told", [True, False])  # lost by the camera, or dropped from the decoder's own queue
def test_after_a_long_gap_it_forgets_and_says_why_it_does_not_know(session, told):
    session.start()
    session.until_ready()
    session.send(0)
    session.send(1)
    if told:
        session.camera.send(Gap("widefield", 2, 5, 0, "lost by the camera"))
    for index in range(6, 30):
        session.send(index)
    answers = answers_to_frames(session, 26)
    statuses = [a.status for a in answers]
    unknown = statuses.count(PredictionStatus.FRAMES_MISSING)
    assert unknown == 15  # half a second
    assert statuses[:2] == [PredictionStatus.OK] * 2
    assert statuses[2:17] == [PredictionStatus.FRAMES_MISSING] * 15
    assert [bool(np.isnan(a.values)) for a in answers] == [bool(status) for status in statuses]


def test_three_frames_lost_are_carried_over(session):
    session.start()
    session.until_ready()
    for index in (0, 4, 8, 9):
        session.send(index)
    assert [a.status for a in answers_to_frames(session, 4)] == [PredictionStatus.OK] * 4


def test_a_stall_is_told_once_without_a_frame(session):
    session.start()
    session.until_ready()
    session.send(0)
    answer, stall = session.receive(2)
    assert (answer.source_index, answer.status) == (0, PredictionStatus.OK)
    assert (stall.index, stall.source_index, stall.status) == (-1, -1, PredictionStatus.CAMERA_STALLED)
    assert np.isnan(stall.values)
    assert stall.values.shape == ()
    assert answer.frame_session_ns < stall.frame_session_ns
    assert stall.frame_arrival_ns - answer.frame_arrival_ns >= 100_000_000
    assert session.answers.receive(0.5) is None
    session.send(1)
    assert session.receive(1)[0].index == 1


def test_in_a_replay_time_says_nothing(session):
    replay = replace(session.description, origin="recorded.nwb")
    session.path.write_text(replay.as_json())
    feed = session.bus.publisher(replay.feed("behavior"), FRAMES[0].nbytes)
    session.start()
    session.until_ready()
    feed.send(Frame("widefield", 0, -1, session.clock.now_ns(), FRAMES[0], 0))
    assert session.receive(1)[0].source_index == 0
    assert session.answers.receive(0.5) is None
    feed.close()


def test_maps_come_between_frames_when_somebody_looks(session):
    maps = session.bus.subscriber("behavior.importance", 64)
    session.start()
    session.until_ready()
    for index in range(40):
        session.send(index)
        time.sleep(1 / 30)
    message = maps.receive(WAIT_S)
    assert isinstance(message, ImportanceMap)
    assert message.values.shape == (64, 64)
    assert np.isfinite(message.values).any()
    assert message.source_index >= 29
    maps.close()


def test_killed_it_leaves_the_camera_alone_and_a_second_one_takes_over(session):
    process = session.start()
    session.until_ready()
    session.send(0)
    session.receive(1)
    process.send_signal(signal.SIGKILL)
    assert process.wait(WAIT_S) == -signal.SIGKILL
    for index in range(1, 30):  # nobody listens; nothing is held up
        session.send(index)
    session.bus.clean_up_dead()
    while session.ready.receive() is not None:
        pass
    session.start(generation=1)
    assert session.until_ready().kind == "ready"
    session.send(30)
    (answer,) = session.receive(1)
    assert (answer.generation, answer.source_index, answer.skipped, answer.index) == (1, 30, 0, 0)


def test_told_to_end_it_says_so_and_leaves(session):
    process = session.start()
    session.until_ready()
    process.terminate()
    (last,) = session.receive(1)
    assert isinstance(last, EndOfStream)
    assert (last.reason, process.wait(WAIT_S), process.stderr.read()) == ("told to end", 143, "")


def test_it_leaves_when_its_parent_is_gone(session):
    code = (
        "import subprocess, sys;"
        f"subprocess.Popen([sys.executable, '-m', 'decoders.worker', {str(session.path)!r}, 'behavior', '0']);"
        "sys.stdin.read()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    session.until_ready()
    parent.kill()
    parent.communicate()
    (last,) = session.receive(1)
    assert isinstance(last, EndOfStream)
    assert last.reason == "the engine is gone"


def test_a_checkpoint_that_cannot_be_read(session, tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"PK not really")
    broken = RIG.replace("checkpoint: shipped", f"checkpoint: {tmp_path / 'broken.npz'}")
    description = SessionDescription(
        session.description.identifier,
        parse_config(broken, "test"),
        session.clock,
        frames=session.description.frames,
    )
    session.path.write_text(description.as_json())
    process = session.start()
    event = session.until_ready()
    assert event.kind == "failed"
    assert "broken.npz: cut short, damaged or not a cortexrig-checkpoint" in event.text
    assert process.wait(WAIT_S) == 2
    assert process.stderr.read() == "", "whoever waits for it says it"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "valid arguments are FILE.json NAME GENERATION"),
        (["none.json", "behavior", "0"], "none.json"),
        (["session.json", "nobody", "0"], "no decoder 'nobody' in session.json; valid: behavior"),
    ],
)
def test_bad_arguments(session, arguments, complaint):
    command = [sys.executable, "-m", "decoders.worker", *arguments]
    done = subprocess.run(command, cwd=session.path.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert complaint in line
