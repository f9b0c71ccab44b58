"""Idle time of a decoder, on a real bus."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest

from decoders.idle import IdleTime, importance_map
from rig.bus import Bus
from rig.messages import Frame
from rig.sync.clock import SessionClock

PERIOD_NS = 1_000_000_000  # long enough for any machine to do a piece of work in
HOUR_NS = 3_600_000_000_000


@dataclass
class Explainer:
    """A decoder whose map is one piece of work; notes when it did it."""

    clock: SessionClock
    pieces: int = 1
    worked_ns: list[int] = field(default_factory=list)

    @property
    def has_work(self) -> bool:
        return len(self.worked_ns) < self.pieces

    def work(self) -> np.ndarray:
        self.worked_ns.append(self.clock.now_ns())
        return np.zeros((2, 2), np.float32)


class Side:
    """A decoder with idle time, its camera, and somebody who looks."""

    def __init__(self, bus: Bus) -> None:
        self.clock = SessionClock.start()
        self.camera, self.frames = bus.publisher("camera", 1024), bus.subscriber("camera", 8)
        self.answers, self.reader = bus.publisher("map", 1024), bus.subscriber("map", 8)
        self.decoder = Explainer(self.clock)
        self.idle = IdleTime(
            self.decoder, self.answers, partial(importance_map, "map"), self.clock, PERIOD_NS
        )

    def frame(self, arrival_ns: int) -> Frame:
        return Frame("camera", 0, -1, arrival_ns, np.zeros((2, 2), np.uint16), arrival_ns)

    def close(self) -> None:
        for port in (self.camera, self.frames, self.answers, self.reader):
            port.close()


@pytest.fixture
def side() -> Iterator[Side]:
    with Bus(f"test-{uuid.uuid4().hex[:8]}") as bus:
        made = Side(bus)
        yield made
        made.close()


def test_nothing_is_worked_out_while_the_answer_is_on_its_way(side: Side) -> None:
    frame = side.frame(side.clock.now_ns())
    side.idle.begin(frame)
    assert side.idle.spend(side.frames) is None
    (worked_ns,) = side.decoder.worked_ns
    assert worked_ns >= frame.arrival_ns + 10_000_000
    assert side.reader.receive(1.0) is not None


def test_a_frame_that_waits_is_taken_before_any_work(side: Side) -> None:
    frame = side.frame(side.clock.now_ns())
    side.idle.begin(frame)
    side.camera.send(frame)
    taken = side.idle.spend(side.frames)
    assert isinstance(taken, Frame)
    assert side.decoder.worked_ns == []


def test_frames_stamped_after_now_hold_nothing_up(side: Side) -> None:
    side.idle.begin(side.frame(side.clock.now_ns() + HOUR_NS))
    assert side.idle.spend(side.frames) is None  # within this test's own time limit
    assert len(side.decoder.worked_ns) == 1


def test_nobody_looks_no_work(side: Side) -> None:
    side.reader.close()
    side.idle.begin(side.frame(side.clock.now_ns()))
    assert side.idle.spend(side.frames) is None
    assert side.decoder.worked_ns == []
