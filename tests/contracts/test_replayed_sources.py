"""A recorded session in the place of devices keeps their promises: order, gaps, batches, a safe close."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rig.acquisition.states import FinishReason
from rig.config import RigConfig, load_config
from rig.description import SessionDescription
from rig.drivers.build import Devices
from rig.drivers.protocols import Camera, DriverContext, EventSource, OutputDevice
from rig.messages import EndOfStream, Event, Frame, FrameStream, Gap, Message, Samples, SampleStream
from rig.recording.recorder import Recorder
from rig.replay.sources import ReplaySource
from rig.sync.clock import SessionClock

CONFIG = Path(__file__).parents[2] / "hardware_configs/simulated_mouse.yaml"
MS = 1_000_000


def rig() -> RigConfig:
    config = load_config(CONFIG)
    cameras = {"widefield": config.cameras["widefield"]}
    serial = {"treadmill": config.serial["treadmill"]}
    nothing = {"decoders": {}, "closed_loop": [], "stimulus": None}
    return config.model_copy(update={"cameras": cameras, "serial": serial, **nothing})


def recorded() -> list[Message]:
    """Frames with a gap, and samples in batches of odd sizes with an event between."""
    pixels = np.arange(128 * 128, dtype=np.uint16).reshape(128, 128)
    messages: list[Message] = [
        Frame("widefield", k, 33_333 * k, (33 * k + 2) * MS, pixels + k, 33 * k * MS, 5)
        for k in range(30)
        if k not in (7, 8)
    ]
    messages.append(Gap("widefield", 7, 8, (33 * 9 + 1) * MS, "lost"))
    index = 0
    for k, size in enumerate((1, 4, 2, 7, 3)):
        ticks = np.arange(index, index + size, dtype=np.int64) * 10_000
        values = np.column_stack([ticks / 100.0, np.full(size, np.nan)])
        arrival_ns = (index + size) * 10 * MS
        messages.append(Samples("treadmill", index, arrival_ns, ticks, values, ticks * 1000, 7))
        index += size
        if k == 2:
            messages.append(Event("treadmill", "serial_junk", "1 line", arrival_ns + 1, arrival_ns + 1))
    return sorted(messages, key=lambda m: m.arrival_ns)  # type: ignore[union-attr]


@pytest.fixture
def session(tmp_path: Path) -> Path:
    config = rig()
    description = SessionDescription(
        "recorded",
        config,
        SessionClock.start(),
        (FrameStream("widefield", 128, 128, "uint16", 30.0, 1e6),),
        (SampleStream("treadmill", ("count", "running_speed"), ("count", "mm/s"), 100.0, 1e6),),
        (),
        (("laser", {}),),
    )
    failures: list[Exception] = []
    recorder = Recorder(tmp_path / "session.nwb", description, failures.append)
    for message in recorded():
        recorder.put(message)
    recorder.finish(FinishReason.COMPLETED, [])
    assert failures == []
    return tmp_path / "session.nwb"


@pytest.fixture(params=[None, 5.0], ids=["max", "5x"])
def devices(session: Path, request: pytest.FixtureRequest) -> Iterator[Devices]:
    with ReplaySource(session, request.param) as source:
        clock = source.clock()
        yield source.devices(DriverContext(clock, source.config, lambda _, port: port))


def everything(source: Camera | EventSource) -> list[Message]:
    source.open()
    source.start()
    messages: list[Message] = []
    while not any(isinstance(m, EndOfStream) for m in messages):
        messages += source.read(0.1)
    return messages[:-1]


def of(stream: str) -> list[Message]:
    return [message for message in recorded() if message.stream == stream]


def test_they_are_what_they_replace(devices: Devices) -> None:
    assert isinstance(devices.cameras["widefield"], Camera)
    assert isinstance(devices.serial["treadmill"], EventSource)
    assert isinstance(devices.outputs["laser"], OutputDevice)


def test_frames_and_gaps_come_as_they_were(devices: Devices) -> None:
    heard = everything(devices.cameras["widefield"])
    for a, b in zip(heard, of("widefield"), strict=True):
        assert type(a) is type(b)
        if isinstance(a, Frame) and isinstance(b, Frame):
            assert (a.index, a.device_ticks, a.arrival_ns) == (b.index, b.device_ticks, b.arrival_ns)
            assert (a.pixels == b.pixels).all()
            assert a.session_ns == 0  # the aligner stamps it anew
        if isinstance(a, Gap) and isinstance(b, Gap):
            assert (a.first, a.last, a.reason) == (b.first, b.last, b.reason)


def test_samples_come_batch_by_batch(devices: Devices) -> None:
    heard = everything(devices.serial["treadmill"])
    for a, b in zip(heard, of("treadmill"), strict=True):
        assert type(a) is type(b)
        if isinstance(a, Samples) and isinstance(b, Samples):
            assert (a.index, a.arrival_ns) == (b.index, b.arrival_ns)
            assert (a.device_ticks == b.device_ticks).all()
            assert np.array_equal(a.values, b.values, equal_nan=True)


def test_stop_is_silence_and_close_is_safe_twice(devices: Devices) -> None:
    camera = devices.cameras["widefield"]
    camera.open()
    camera.start()
    camera.stop()
    camera.stop()
    assert list(camera.read(0.0)) == []
    camera.close()
    camera.close()
