"""What every camera driver promises (`rig.drivers.protocols.Camera`), run over all of them.

A driver joins by adding a `Case` to `CASES`.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from rig.config import MovieConfig, RigConfig, SimulationConfig, StimulusConfig
from rig.drivers.micromanager import MicroManagerCamera
from rig.drivers.protocols import Camera, DriverContext
from rig.errors import DeviceError, DeviceLost
from rig.messages import EndOfStream, Frame, FrameStream, Gap
from rig.simulation.cameras import SimulatedTwoPhoton, SimulatedWidefield
from rig.sync.clock import SessionClock

IMAGING = {
    "indicator": "GCaMP6f",
    "excitation_nm": 470,
    "emission_nm": 525,
    "location": "VISp",
    "pixel_size_um": 20,
}
RATE_HZ = 30
SIMULATED = {"rate_hz": RATE_HZ, "height_px": 32, "width_px": 48, "imaging": IMAGING}
DEMO = {
    "driver": "micromanager",
    "config_file": "demo",
    "rate_hz": RATE_HZ,
    "exposure_ms": 5,
    "height_px": 512,
    "width_px": 512,
    "imaging": IMAGING,
}
MOUSE = RigConfig.model_construct(
    simulation=SimulationConfig(seed=7, neurons=20),
    stimulus=StimulusConfig(source="stimulus", movie=MovieConfig(clips=2, frames=30)),
)
NO_MOUSE = RigConfig.model_construct(simulation=None, stimulus=None)
PATIENCE_S = 20.0

Make = Callable[[], Camera]


def build(driver: Any, settings: dict[str, Any], rig: RigConfig = MOUSE) -> Make:
    def make() -> Camera:
        context = DriverContext(SessionClock.start(), rig, lambda _, port: port)
        camera: Camera = driver("eye", driver.Config.model_validate(settings), context)
        return camera

    return make


def leave_alone(camera: Camera) -> None:
    """The settings alone make the fault."""


def overwrite_in_silence(camera: Camera) -> None:
    """Put the core into the mode that throws unread frames away, and let it."""
    assert isinstance(camera, MicroManagerCamera)
    camera._core.stop_sequence_acquisition()
    camera._core.start_continuous_sequence_acquisition(0)
    time.sleep(0.3)


def stop_behind_its_back(camera: Camera) -> None:
    assert isinstance(camera, MicroManagerCamera)
    camera._core.stop_sequence_acquisition()


@dataclass(frozen=True)
class Case:
    """How to make one driver's camera: sound, unable to open, losing frames, vanishing."""

    make: Make
    broken: Make
    dropping: Make
    vanishing: Make
    provoke_drop: Callable[[Camera], None] = leave_alone
    provoke_loss: Callable[[Camera], None] = leave_alone


def simulated(driver: Any, tag: str) -> Case:
    settings = {**SIMULATED, "driver": tag}
    return Case(
        make=build(driver, settings),
        broken=build(driver, settings, NO_MOUSE),
        dropping=build(driver, {**settings, "drop_every": 4}),
        vanishing=build(driver, {**settings, "vanish_after_s": 0.2}),
    )


CASES = {
    "micromanager": Case(
        make=build(MicroManagerCamera, DEMO),
        broken=build(MicroManagerCamera, {**DEMO, "camera": "Kinetix"}),
        dropping=build(MicroManagerCamera, {**DEMO, "buffer_mb": 8, "exposure_ms": 1}),
        vanishing=build(MicroManagerCamera, DEMO),
        provoke_drop=overwrite_in_silence,
        provoke_loss=stop_behind_its_back,
    ),
    "simulated_widefield": simulated(SimulatedWidefield, "simulated_widefield"),
    "simulated_two_photon": simulated(SimulatedTwoPhoton, "simulated_two_photon"),
}


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


@pytest.fixture
def started(case: Case) -> Iterator[tuple[Camera, FrameStream]]:
    camera = case.make()
    try:
        stream = camera.open()
        camera.start()
        yield camera, stream
    finally:
        camera.close()


def read(camera: Camera, count: int) -> list[Any]:
    """At least `count` messages, and fewer only when patience ends."""
    messages: list[Any] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(messages) < count and time.monotonic() < deadline:
        messages += camera.read(0.1)
    return messages


def drain(camera: Camera) -> list[Any]:
    """Everything until a read brings nothing, as the engine does after `stop`."""
    messages: list[Any] = []
    while batch := [message for message in camera.read(0.0) if not isinstance(message, EndOfStream)]:
        messages += batch
    return messages


def places(messages: list[Any]) -> list[int]:
    """Every index that the messages account for, in the order they came."""
    found: list[int] = []
    for message in messages:
        found += range(message.first, message.last + 1) if isinstance(message, Gap) else [message.index]
    return found


def test_it_is_a_camera(case: Case) -> None:
    assert isinstance(case.make(), Camera)


def test_frames_are_as_described(started: tuple[Camera, FrameStream]) -> None:
    camera, stream = started
    frames = read(camera, 5)
    assert stream.name == "eye"
    assert stream.rate_hz == RATE_HZ
    assert all(isinstance(frame, Frame) for frame in frames)
    assert {frame.stream for frame in frames} == {"eye"}
    assert {frame.pixels.shape for frame in frames} == {(stream.height_px, stream.width_px)}
    assert {str(frame.pixels.dtype) for frame in frames} == {stream.dtype}
    assert all(frame.pixels.nbytes == stream.frame_bytes for frame in frames)
    assert all(frame.pixels.any() for frame in frames)


def test_frames_come_in_order_from_index_0(started: tuple[Camera, FrameStream]) -> None:
    camera, stream = started
    frames = read(camera, 20)
    assert places(frames) == list(range(len(frames)))
    assert np.all(np.diff([frame.arrival_ns for frame in frames]) >= 0)
    assert frames[0].arrival_ns > 0
    if stream.tick_hz:
        assert np.all(np.diff([frame.device_ticks for frame in frames]) > 0)


def test_a_frame_keeps_its_pixels(started: tuple[Camera, FrameStream]) -> None:
    camera, _ = started
    kept = read(camera, 1)[0]
    before = kept.pixels.copy()
    later = read(camera, 5)
    assert np.array_equal(kept.pixels, before)
    assert not any(np.shares_memory(kept.pixels, frame.pixels) for frame in later)


def test_what_came_before_the_stop_is_drained_without_a_hole(started: tuple[Camera, FrameStream]) -> None:
    camera, _ = started
    messages = read(camera, 3)
    time.sleep(0.1)  # frames that wait
    camera.stop()
    camera.stop()
    waiting = drain(camera)
    assert waiting
    assert places(messages + waiting) == list(range(len(messages + waiting)))
    assert drain(camera) == []


def test_close_is_safe_at_any_time(case: Case) -> None:
    camera = case.make()
    camera.close()
    camera = case.make()
    camera.open()
    camera.start()
    camera.close()
    camera.close()


def test_a_failed_open_names_the_device_and_can_be_closed(case: Case) -> None:
    camera = case.broken()
    with pytest.raises(DeviceError, match="eye: "):
        camera.open()
    camera.close()
    camera.close()
    again = case.make()
    again.open()
    again.close()


def test_lost_frames_are_gaps_in_their_place(case: Case) -> None:
    camera = case.dropping()
    try:
        camera.open()
        camera.start()
        case.provoke_drop(camera)
        messages = read(camera, 20)
    finally:
        camera.close()
    assert any(isinstance(message, Gap) for message in messages)
    assert places(messages) == list(range(len(places(messages))))


def read_until_lost(camera: Camera, messages: list[Any]) -> None:
    while True:  # the suite's timeout ends it when the loss is never noticed
        messages += camera.read(0.1)


def test_a_camera_that_vanishes_is_lost_after_its_last_frame(case: Case) -> None:
    camera = case.vanishing()
    messages: list[Any] = []
    try:
        camera.open()
        camera.start()
        messages += read(camera, 3)
        case.provoke_loss(camera)
        with pytest.raises(DeviceLost, match="eye: "):
            read_until_lost(camera, messages)
    finally:
        camera.close()
    assert places(messages) == list(range(len(messages)))
