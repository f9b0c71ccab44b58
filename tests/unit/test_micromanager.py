"""The real Micro-Manager core with its demo camera: what is refused, and that nothing is lost in silence."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from rig.config import RigConfig
from rig.drivers.micromanager import MicroManagerCamera, MicroManagerConfig
from rig.drivers.micromanager_core import check_match, same_value
from rig.drivers.protocols import DriverContext
from rig.errors import DeviceError, DeviceLost
from rig.messages import Frame, FrameStream, Gap
from rig.sync.clock import SessionClock

IMAGING = {
    "indicator": "GCaMP6f",
    "excitation_nm": 470,
    "emission_nm": 520,
    "location": "Isocortex",
    "pixel_size_um": 20,
}
DEMO = {
    "driver": "micromanager",
    "config_file": "demo",
    "rate_hz": 100,
    "exposure_ms": 9,
    "height_px": 512,
    "width_px": 512,
    "imaging": IMAGING,
}
PATIENCE_S = 20.0


def camera_with(**settings: Any) -> MicroManagerCamera:
    config = MicroManagerConfig.model_validate({**DEMO, **settings})
    rig = RigConfig.model_construct()  # this driver needs nothing of the rest of the rig
    return MicroManagerCamera(
        "widefield", config, DriverContext(SessionClock.start(), rig, lambda _, port: port)
    )


@contextmanager
def opened(**settings: Any) -> Iterator[tuple[MicroManagerCamera, FrameStream]]:
    camera = camera_with(**settings)
    try:
        yield camera, camera.open()
    finally:
        camera.close()


def read_frames(camera: MicroManagerCamera, count: int) -> list[Frame | Gap]:
    messages: list[Any] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(messages) < count and time.monotonic() < deadline:
        messages += camera.read(0.1)
    return messages


def read_until_lost(camera: MicroManagerCamera) -> tuple[list[Any], str]:
    messages: list[Any] = []
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            messages += camera.read(0.1)
        except DeviceLost as error:
            return messages, str(error)
    raise AssertionError("the camera was never lost")


# --- what is refused ---


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"properties": {"Camera": {"PixelType": "17bit"}}},
            ["Camera.PixelType = '17bit'", "16bit, 32bit, 32bitRGB"],
        ),
        ({"properties": {"Camera": {"BeadSize": 99}}}, ["Camera.BeadSize = '99'", "valid: 1 to 10"]),
        ({"properties": {"Camera": {"Sparkle": 1}}}, ["Camera has no property 'Sparkle'", "FastImage"]),
        ({"properties": {"Camera": {"CameraID": "V2"}}}, ["Camera.CameraID = 'V2'", "read-only"]),
        ({"properties": {"Laser": {"Power": 1}}}, ["no device 'Laser'", "valid: Camera, Core"]),
        ({"properties": {"Camera": {"PixelType": "32bitRGB"}}}, ["4 components", "8 or 16 bit"]),
        ({"camera": "Kinetix"}, ["'Kinetix' is not loaded", "valid: Camera"]),
        ({"binning": 3}, ["Camera.Binning = '3'", "valid: 1, 2, 4, 8"]),
        ({"roi": [500, 0, 100, 100]}, ["roi [500, 0, 100, 100]", "within 512x512"]),
        (
            {"exposure_ms": 20000, "silent_after_s": 50},
            ["exposure_ms 20000", "keeps 10", "valid: 0 to 10000"],
        ),
        ({"backend": "java", "config_file": None}, ["backend java", "Micro-Manager with Options"]),
        ({"config_file": "no/such.cfg"}, ["no/such.cfg", "no such file"]),
        ({"mm_app_path": "/no/such/folder"}, ["/no/such/folder", "no such folder"]),
        (
            {
                "trigger": "external",
                "trigger_property": {"property": "Mode", "internal": "Noise", "external": "TTL"},
            },
            ["Camera.Mode = 'TTL'", "Artificial Waves"],
        ),
    ],
)
def test_bad_input_is_told_on_one_line(settings: dict[str, Any], told: list[str]) -> None:
    with pytest.raises(DeviceError) as caught, opened(**settings):
        pass
    line = str(caught.value)
    assert line.startswith("widefield: ")
    assert "\n" not in line
    for part in told:
        assert part in line


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("Device,Camera,Kinetix,PCO\n", ['"Kinetix"', "valid: device adapters DemoCamera"]),
        ("Device,Camera,DemoCamera,NoSuch\n", ['"NoSuch"', "Line 1"]),
        ("Property,Core,Initialize,1\n", ["names no Core-Camera"]),
    ],
)
def test_bad_cfg_is_told_on_one_line(tmp_path: Path, content: str, told: list[str]) -> None:
    path = tmp_path / "bad.cfg"
    path.write_text(content)
    with pytest.raises(DeviceError) as caught, opened(config_file=str(path)):
        pass
    line = str(caught.value)
    assert "\n" not in line
    for part in told:
        assert part in line


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"trigger": "external"}, "needs trigger_property"),
        ({"backend": "java"}, "config_file belongs to backend python"),
        ({"config_file": None}, "config_file belongs to backend python"),
        ({"properties": {"Camera": {"UseExposureSequences": False}}}, "in quotes"),
        ({"exposure_ms": 1500}, "silent_after_s"),
        ({"exposure": 10}, "unknown key; did you mean exposure_ms?"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_opens(
    settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValidationError, match=told.replace("?", r"\?")):
        camera_with(**settings)


def test_device_interfaces_must_match() -> None:
    check_match(version("pymmcore"), version("mm-test-adapters"))
    with pytest.raises(
        DeviceError, match=r"pymmcore 12.5.1.75.0 .* mm-test-adapters 74.20260226 has 74; .* 75\.\*"
    ):
        check_match("12.5.1.75.0", "74.20260226")


def test_a_second_camera_in_the_process_is_refused_and_harms_nothing() -> None:
    with opened() as (first, _):
        first.start()
        with pytest.raises(DeviceError, match="'widefield' already holds"), opened():
            pass
        assert len(read_frames(first, 3)) >= 3


def test_the_core_can_be_opened_again_after_a_failure() -> None:
    with pytest.raises(DeviceError), opened(binning=3):
        pass
    with opened() as (camera, _):
        camera.start()
        assert len(read_frames(camera, 2)) >= 2


def test_standard_output_stays_clean() -> None:
    code = """
from tests.unit.test_micromanager import opened, read_frames
with opened() as (camera, _):
    camera.start()
    read_frames(camera, 3)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == ""


# --- what is applied ---


def test_settings_reach_the_camera() -> None:
    with opened(binning=2, roi=[10, 20, 64, 32], properties={"Camera": {"PixelType": "8bit", "Gain": 2}}) as (
        camera,
        stream,
    ):
        camera.start()
        frame = read_frames(camera, 1)[0]
    assert isinstance(frame, Frame)
    assert (stream.height_px, stream.width_px, stream.dtype) == (32, 64, "uint8")
    assert frame.pixels.shape == (32, 64)
    assert frame.pixels.dtype == "uint8"
    assert stream.properties["Camera.Gain"] == "2"
    assert stream.properties["binning"] == "2"
    assert stream.properties["adapter"] == "DemoCamera/DCam"


def test_fast_images_are_not_black() -> None:
    with opened(properties={"Camera": {"FastImage": 1}}) as (camera, _):
        camera.start()
        frame = read_frames(camera, 1)[0]
    assert isinstance(frame, Frame)
    assert frame.pixels.mean() > 100


@pytest.mark.parametrize(
    ("wanted", "found", "same"), [("2", "2.0000", True), ("On", "On", True), ("1", "On", False)]
)
def test_numbers_are_compared_as_numbers(wanted: str, found: str, same: bool) -> None:
    assert same_value(wanted, found) is same


# --- what is lost is told ---


def test_overflow_stops_the_run_after_every_frame_was_returned() -> None:
    with opened(buffer_mb=8, exposure_ms=1) as (camera, _):
        camera.start()
        deadline = time.monotonic() + PATIENCE_S
        while camera._core.is_sequence_running() and time.monotonic() < deadline:
            time.sleep(0.02)  # the stalled reader
        messages, reason = read_until_lost(camera)
    assert [message.index for message in messages] == list(range(16))  # 8 MB of 512x512 pixels of 16 bit
    assert "buffer overflowed" in reason
    assert "buffer_mb 8" in reason
    assert "16 frames were taken" in reason


def test_frames_that_the_core_threw_away_in_silence_are_a_gap() -> None:
    with opened(buffer_mb=8, exposure_ms=1) as (camera, _):
        camera.start()
        camera._core.stop_sequence_acquisition()
        camera._core.start_continuous_sequence_acquisition(0)  # the mode that overwrites and tells nobody
        time.sleep(0.5)
        messages = read_frames(camera, 20)
    gaps = [message for message in messages if isinstance(message, Gap)]
    assert gaps
    covered: list[int] = []
    for message in messages:
        covered += range(message.first, message.last + 1) if isinstance(message, Gap) else [message.index]
    assert covered == list(range(len(covered)))


def test_a_camera_that_stops_unasked_is_lost_after_its_last_frame() -> None:
    with opened() as (camera, _):
        camera.start()
        read_frames(camera, 2)
        camera._core.stop_sequence_acquisition()
        messages, reason = read_until_lost(camera)
    assert "stopped without being asked" in reason
    assert not any(isinstance(message, Gap) for message in messages)


def test_a_silent_camera_is_lost() -> None:
    with opened(silent_after_s=0.3) as (camera, _):
        camera.start()
        read_frames(camera, 2)
        camera._core.set_exposure(1000)
        _, reason = read_until_lost(camera)
    assert "no frame for" in reason


class BufferOf:
    """A core whose buffer holds frames with these ImageNumbers, and then breaks."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)

    def get_remaining_image_count(self) -> int:
        return 1

    def pop_next_tagged_image(self) -> SimpleNamespace:
        if not self.numbers:
            raise RuntimeError("broken")
        return SimpleNamespace(tags={"ImageNumber": self.numbers.pop(0)}, pix=np.zeros(4, np.uint16))


@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        ((*range(40), 0), "ImageNumber 0 came after 39"),
        (tuple(range(40)), "cannot read the core's buffer: brok"),
    ],
)
def test_frames_before_an_error_are_returned_before_it_is_raised(numbers: tuple[int, ...], why: str) -> None:
    camera = camera_with()
    camera._core, camera._shape, camera._stopped = BufferOf(*numbers), (2, 2), False
    assert [message.index for message in read_frames(camera, 40)] == list(range(40))
    for _ in range(2):
        with pytest.raises(DeviceLost, match=why):
            camera.read(0.0)


def test_an_external_trigger_may_be_awaited_for_ever() -> None:
    trigger = {"property": "Mode", "internal": "Noise", "external": "Artificial Waves"}
    with opened(trigger="external", trigger_property=trigger, silent_after_s=0.05) as (camera, _):
        camera._core.set_exposure(1000)  # stands in for a trigger that is long in coming
        camera.start()
        assert camera.read(0.2) == []
