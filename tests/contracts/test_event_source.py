"""What every serial source promises (`rig.drivers.protocols.EventSource`), run over all of them.

A source joins by adding a `Case` to `CASES`; the tests of loss and of failed opening leave out what cannot have them.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from rig.config import parse_config
from rig.drivers.protocols import EventSource
from rig.errors import DeviceError, DeviceLost
from rig.messages import EndOfStream, Gap, Samples, SampleStream
from rig.sync.clock import SessionClock
from tests.simulated_rig import YAML, SimulatedRig, build_driver

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals need POSIX")
PATIENCE_S = 20.0

Build = Callable[[], EventSource]


@dataclass(frozen=True)
class World:
    """Where a source lives: how to build it (again), and how to take its device away."""

    build: Build
    unplug: Callable[[], None] | None = None


@dataclass(frozen=True)
class Case:
    """One source: how to make its world, and what its stream must look like."""

    name: str
    stream: SampleStream
    world: Callable[[Path, ExitStack], World]
    unopenable: Build | None = None
    """Builds it where it cannot be opened."""


def simulated(name: str) -> Callable[[Path, ExitStack], World]:
    def make(folder: Path, stack: ExitStack) -> World:
        rig = stack.enter_context(SimulatedRig(folder))
        return World(lambda: rig.source(name), rig.kill)

    return make


def unplugged(name: str) -> Build:
    config = parse_config(YAML, "test")
    return lambda: build_driver(name, config, SessionClock.start(), {name: "/dev/not_there"})


def serial_case(name: str, columns: tuple[str, ...], units: tuple[str, ...], rate_hz: float) -> Case:
    stream = SampleStream(name, columns, units, rate_hz, 1e6)
    return Case(name, stream, simulated(name), unplugged(name))


CASES = [
    serial_case("treadmill", ("count", "running_speed"), ("count", "mm/s"), 100),
    serial_case("pupil", ("diameter", "x", "y"), ("mm", "mm", "mm"), 60),
    serial_case("stimulus", ("clip", "movie_frame"), ("", ""), 30),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture(scope="module")
def world(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield case.world(tmp_path_factory.mktemp(case.name), stack)


@pytest.fixture
def source(world: World) -> Iterator[EventSource]:
    source = world.build()
    yield source
    source.close()


def read_samples(source: EventSource, at_least: int) -> list[Samples | Gap]:
    """Read until so many samples have come, or the stream ends."""
    found: list[Samples | Gap] = []
    end = time.monotonic() + PATIENCE_S
    while sum(len(m.device_ticks) for m in found if isinstance(m, Samples)) < at_least:
        assert time.monotonic() < end, f"only {found}"
        messages = source.read(0.2)
        found += [m for m in messages if isinstance(m, Samples | Gap)]
        if any(isinstance(m, EndOfStream) for m in messages):
            break
    return found


def test_it_is_an_event_source(source: EventSource) -> None:
    assert isinstance(source, EventSource)


def test_open_describes_the_stream(case: Case, source: EventSource) -> None:
    stream = source.open()
    assert (stream.name, stream.columns, stream.units) == (case.name, case.stream.columns, case.stream.units)
    assert (stream.rate_hz, stream.tick_hz) == (case.stream.rate_hz, case.stream.tick_hz)
    assert all(isinstance(value, str) for value in stream.properties.values())


def test_samples_come_in_order_and_in_shape(source: EventSource) -> None:
    stream = source.open()
    source.start()
    messages = read_samples(source, 20)
    expected, arrival_ns, ticks = 0, 0, np.empty(0, np.int64)
    for message in messages:
        first = message.first if isinstance(message, Gap) else message.index
        assert first == expected
        assert message.stream == stream.name
        assert message.arrival_ns >= arrival_ns
        arrival_ns = message.arrival_ns
        expected += message.count if isinstance(message, Gap) else len(message.device_ticks)
        if isinstance(message, Samples):
            assert message.values.shape == (len(message.device_ticks), len(stream.columns))
            assert message.values.dtype == np.float64
            ticks = np.concatenate([ticks, message.device_ticks])
    assert ticks.dtype == np.int64
    assert (np.diff(ticks) > 0).all()
    assert np.median(np.diff(ticks)) == pytest.approx(stream.tick_hz / stream.rate_hz, rel=1e-3)


def test_after_stop_the_rest_is_read_and_then_nothing_comes(source: EventSource) -> None:
    stream = source.open()
    source.start()
    read_samples(source, 2)
    source.stop()
    source.stop()
    silence_s = 5 / stream.rate_hz
    end = time.monotonic() + PATIENCE_S
    while any(not isinstance(m, EndOfStream) for m in source.read(silence_s)):
        assert time.monotonic() < end, "it goes on after stop"
    assert all(isinstance(m, EndOfStream) for m in source.read(silence_s))


def test_close_is_safe_twice_and_before_open(world: World) -> None:
    source = world.build()
    source.close()
    source.close()
    source = world.build()
    source.open()
    source.close()
    source.close()


def test_close_while_streaming_leaves_the_device_ready_for_the_next(world: World) -> None:
    for _ in range(2):
        source = world.build()
        source.open()
        source.start()
        samples = [m for m in read_samples(source, 3) if isinstance(m, Samples)]
        assert samples[0].index == 0
        source.close()


def test_what_cannot_be_opened_names_the_device_and_can_be_closed(case: Case) -> None:
    if case.unopenable is None:
        pytest.skip("it can always be opened")
    source = case.unopenable()  # building touches nothing
    with pytest.raises(DeviceError, match=f"^{case.name}: "):
        source.open()
    source.close()
    source.close()


def test_an_unplugged_device_is_lost_and_can_be_closed(case: Case, tmp_path: Path) -> None:
    with ExitStack() as stack:
        world = case.world(tmp_path, stack)
        if world.unplug is None:
            pytest.skip("it cannot be unplugged")
        source = world.build()
        source.open()
        source.start()
        read_samples(source, 2)
        world.unplug()
        with pytest.raises(DeviceLost, match=f"^{case.name}: "):
            read_samples(source, 10_000)
        source.stop()
        source.close()
        source.close()
