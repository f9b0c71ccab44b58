"""The bus: every message survives it, readers that stall or die harm nobody."""

import os
import signal
import subprocess
import sys
import uuid
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rig.bus import Bus, decode, encode
from rig.errors import BusError
from rig.messages import (
    EndOfStream,
    Event,
    Frame,
    Gap,
    ImportanceMap,
    Message,
    Output,
    Prediction,
    PredictionStatus,
    Samples,
)

INTEGERS = st.integers(-(2**62), 2**62)
NAMES = st.text(max_size=20)
PIXELS = hnp.arrays(st.sampled_from([np.uint8, np.uint16]), hnp.array_shapes(min_dims=2, max_dims=2))
MESSAGES = st.one_of(
    st.builds(Frame, NAMES, INTEGERS, INTEGERS, INTEGERS, PIXELS, INTEGERS, INTEGERS),
    st.builds(Gap, NAMES, INTEGERS, INTEGERS, INTEGERS, NAMES, INTEGERS),
    st.builds(Event, NAMES, NAMES, NAMES, INTEGERS, INTEGERS),
    st.builds(Output, NAMES, INTEGERS, st.booleans(), NAMES, INTEGERS, INTEGERS, INTEGERS, INTEGERS, NAMES),
    st.builds(EndOfStream, NAMES, INTEGERS, NAMES),
    st.integers(0, 20).map(
        lambda n: Samples("s", 3, 4, np.arange(n), np.full((n, 2), np.nan), np.arange(n), 7)
    ),
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=0)).map(
        lambda values: Prediction("p", 1, 2, 3, 4, values, 5, 6, 7, 8, 9, PredictionStatus.CAMERA_STALLED)
    ),
    hnp.arrays(np.float32, (3, 5)).map(lambda values: ImportanceMap("p.importance", 1, 2, 30.0, values)),
)


def same(a: Message, b: Message) -> bool:
    def plain(message: Message) -> list[object]:
        values = [getattr(message, f.name) for f in fields(message)]
        return [(v.dtype, v.shape, v.tobytes()) if isinstance(v, np.ndarray) else v for v in values]

    return type(a) is type(b) and plain(a) == plain(b)


@given(MESSAGES)
def test_every_message_comes_back_as_it_was(message: Message) -> None:
    head, arrays = encode(message)
    payload = head + b"".join(a.tobytes().ljust(-(-a.nbytes // 8) * 8, b"\0") for a in arrays)
    assert same(decode(payload), message)


def event(k: int) -> Event:
    return Event("s", "k", str(k), k, k)


def test_latest_only_and_a_queue() -> None:
    with Bus(uuid.uuid4().hex) as bus:
        publisher = bus.publisher("s", 100)
        latest, queue = bus.subscriber("s"), bus.subscriber("s", 8)
        for k in range(20):
            publisher.send(event(k))
        newest = latest.receive()
        assert isinstance(newest, Event)
        assert newest.text == "19"
        assert latest.receive() is None
        waiting = [message.text for _ in range(9) if isinstance(message := queue.receive(), Event)]
        assert waiting == [str(k) for k in range(12, 20)]
        assert queue.receive(0.01) is None
        for port in (publisher, latest, queue):
            port.close()
            port.close()


def test_messages_larger_than_announced_pass() -> None:
    with Bus(uuid.uuid4().hex) as bus:
        publisher, subscriber = bus.publisher("s", 100), bus.subscriber("s")
        pixels = np.arange(2048 * 512, dtype=np.uint16).reshape(2048, 512)
        publisher.send(Frame("s", 0, 0, 0, pixels))
        received = subscriber.receive(1.0)
        assert isinstance(received, Frame)
        assert (received.pixels == pixels).all()
        publisher.close()
        subscriber.close()


def test_a_queue_out_of_range_is_refused() -> None:
    with Bus(uuid.uuid4().hex) as bus, pytest.raises(BusError, match="valid are 1 to 256"):
        bus.subscriber("s", 1000)


READER = """
import sys
from rig.bus import Bus
bus = Bus(sys.argv[1])
subscriber = bus.subscriber("s", 64)
sys.stdout.write("ready\\n"); sys.stdout.flush()
while True:
    subscriber.receive(1.0)
"""


def test_a_killed_reader_harms_nobody() -> None:
    session = uuid.uuid4().hex
    with Bus(session) as bus:
        publisher, subscriber = bus.publisher("s", 100), bus.subscriber("s", 256)
        reader = subprocess.Popen([sys.executable, "-c", READER, session], stdout=subprocess.PIPE, text=True)
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        for k in range(50):
            publisher.send(event(k))
        os.kill(reader.pid, signal.SIGKILL)
        reader.wait()
        reader.stdout.close()
        for k in range(50, 100):
            publisher.send(event(k))
        bus.clean_up_dead()
        for k in range(100, 150):
            publisher.send(event(k))
        heard = [m.text for _ in range(150) if isinstance(m := subscriber.receive(), Event)]
        assert heard == [str(k) for k in range(150)]
        publisher.close()
        subscriber.close()


def test_a_publisher_knows_whether_anybody_follows() -> None:
    with Bus(uuid.uuid4().hex) as bus:
        publisher = bus.publisher("s", 100)
        assert not publisher.followed
        subscriber = bus.subscriber("s")
        assert publisher.followed
        subscriber.close()
        assert not publisher.followed
        publisher.close()
        assert not publisher.followed
