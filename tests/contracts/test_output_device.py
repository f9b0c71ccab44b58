"""What every output device promises (`rig.drivers.protocols.OutputDevice`), run over all of them.

A driver joins by adding to `DRIVERS` how it is built on a port. Its device is the simulated one, or one that
misbehaves, at the far end of a real pseudo-terminal.
"""

import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from rig.config import RigConfig
from rig.drivers.output import SerialOutput
from rig.drivers.protocols import DriverContext, OutputDevice
from rig.errors import DeviceError, DeviceLost
from rig.sync.clock import SessionClock
from tests.simulated_rig import SimulatedRig

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals need POSIX")

CLOCK = SessionClock.start()
Answer = Callable[[str, int], bytes]  # command and its number to what the device says
Build = Callable[[str], OutputDevice]


def serial_output(port: str) -> OutputDevice:
    settings = {"driver": "serial_output", "port": port, "answer_timeout_ms": 200}
    context = DriverContext(CLOCK, RigConfig.model_construct(), lambda _, name: name)
    return SerialOutput("laser", SerialOutput.Config.model_validate(settings), context)


DRIVERS: dict[str, Build] = {"serial_output": serial_output}


class Device(threading.Thread):
    """A device at the far end of a pseudo-terminal that answers as it is told; `heard` is every command."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(name="device")
        self.fd, self._slave = os.openpty()
        self.port = os.ttyname(self._slave)
        self.answer = answer
        self.heard: list[str] = []
        self._wake, self._woken = os.pipe()
        self.start()

    def run(self) -> None:
        partial = b""
        while self._wake not in (ready := select.select([self.fd, self._wake], [], [])[0]) and ready:
            *lines, partial = (partial + os.read(self.fd, 100)).split(b"\n")
            for line in lines:
                self.heard.append(line.decode())
                os.write(self.fd, self.answer(line.decode(), len(self.heard)))

    def unplug(self) -> None:
        if self.is_alive():
            os.write(self._woken, b"x")
            self.join()
            for fd in (self.fd, self._slave, self._wake, self._woken):
                os.close(fd)


def obedient(command: str, number: int) -> bytes:
    return f"{command} {number}\r\n".encode()


@pytest.fixture(params=DRIVERS)
def build(request: pytest.FixtureRequest) -> Build:
    return DRIVERS[request.param]


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device(obedient)
    yield device
    device.unplug()


@pytest.fixture
def output(build: Build, device: Device) -> Iterator[OutputDevice]:
    output = build(device.port)
    output.open()
    yield output
    device.answer = obedient
    if device.is_alive():
        output.close()


def switch(output: OutputDevice, on: bool) -> str:
    return output.write(on, "test", 3, CLOCK.now_ns()).answer


def test_it_is_an_output_device(output: OutputDevice) -> None:
    assert isinstance(output, OutputDevice)


def test_open_switches_off_and_tells_what_the_device_says(build: Build, device: Device) -> None:
    output = build(device.port)
    said = output.open()
    assert set(device.heard) == {"OFF"}
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in said.items())
    assert "OFF 1" in said.values()
    output.close()


def test_the_whole_exchange_is_told(output: OutputDevice) -> None:
    decided_ns = CLOCK.now_ns()
    first = output.write(True, "running", 17, decided_ns)
    second = output.write(False, "rest", -1, CLOCK.now_ns())
    assert (first.stream, first.index, first.on, first.reason, first.prediction_index) == (
        "laser",
        0,
        True,
        "running",
        17,
    )
    assert (second.index, second.on) == (1, False)
    assert decided_ns == first.decided_ns <= first.written_ns <= first.answered_ns <= CLOCK.now_ns()
    assert first.answer.startswith("ON ")
    assert second.answer.startswith("OFF ")


def test_a_silent_device_is_recorded_as_such(output: OutputDevice, device: Device) -> None:
    device.answer = lambda command, number: b""
    exchange = output.write(True, "test", -1, CLOCK.now_ns())
    assert (exchange.answered_ns, exchange.answer) == (-1, "")
    assert exchange.written_ns > 0


def test_off_is_said_again_until_it_is_confirmed(output: OutputDevice, device: Device) -> None:
    switch(output, True)
    lost = len(device.heard) + 1  # the next command goes unheard
    device.answer = lambda command, number: b"" if number == lost else obedient(command, number)
    assert switch(output, False) == f"OFF {lost + 1}"


def test_a_device_that_does_not_confirm_off_is_lost_and_told_again_at_the_end(
    output: OutputDevice, device: Device
) -> None:
    switch(output, True)
    device.answer = lambda command, number: b""
    with pytest.raises(DeviceLost, match=r"^laser: did not confirm off, told 3 times"):
        switch(output, False)
    heard = len(device.heard)
    output.close()
    assert device.heard[heard:] == ["OFF"]


def test_what_is_not_the_answer_is_waited_past_and_recorded_if_there_is_none(
    output: OutputDevice, device: Device
) -> None:
    device.answer = lambda command, number: f"temperature 31\n{command}\n".encode()
    assert switch(output, True) == "ON"
    device.answer = lambda command, number: b"interlock open\n"
    assert switch(output, True) == "interlock open"


def test_a_late_answer_is_none_to_the_next_command(output: OutputDevice, device: Device) -> None:
    device.answer = lambda command, number: b""
    switch(output, True)
    os.write(device.fd, b"OFF late\n")
    end = time.monotonic() + 5
    while not output._port._serial.in_waiting and time.monotonic() < end:  # type: ignore[attr-defined]
        time.sleep(0.001)
    device.answer = obedient
    assert switch(output, False) != "OFF late"


def test_a_board_that_sleeps_after_opening_is_waited_for(build: Build, device: Device) -> None:
    device.answer = lambda command, number: b"" if number < 3 else obedient(command, number)
    output = build(device.port)
    assert "OFF 3" in output.open().values()
    output.close()


def test_a_device_that_never_confirms_is_not_opened(
    build: Build, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rig.drivers.output._WAKE_S", 0.3)
    device.answer = lambda command, number: b"what?\n"
    output = build(device.port)
    with pytest.raises(
        DeviceError, match=r"^laser: .*'OFF\\n'.*'what\?'.*valid is one that begins with 'OFF'"
    ):
        output.open()
    with pytest.raises(DeviceLost, match="did not confirm off"):
        output.close()
    output.close()


def test_what_cannot_be_opened_names_the_device_and_can_be_closed(build: Build) -> None:
    output = build("/dev/not_there")
    with pytest.raises(DeviceError, match=r"^laser: .*/dev/not_there"):
        output.open()
    output.close()
    output.close()


def test_close_switches_off_and_is_safe_twice_and_before_open(build: Build, device: Device) -> None:
    output = build(device.port)
    output.close()
    output.open()
    switch(output, True)
    output.close()
    assert device.heard[-2:] == ["ON", "OFF"]
    heard = len(device.heard)
    output.close()
    assert len(device.heard) == heard


def test_closing_what_does_not_confirm_off_is_told(output: OutputDevice, device: Device) -> None:
    device.answer = lambda command, number: b""
    with pytest.raises(DeviceLost, match=r"^laser: did not confirm off"):
        output.close()
    output.close()


def test_an_unplugged_device_is_lost_and_can_be_closed(output: OutputDevice, device: Device) -> None:
    device.unplug()
    with pytest.raises(DeviceLost, match=r"^laser: "):
        output.write(True, "test", -1, CLOCK.now_ns())
    output.close()
    output.close()


def test_unplugged_while_idle_close_says_that_it_may_be_on(output: OutputDevice, device: Device) -> None:
    switch(output, True)
    device.unplug()
    with pytest.raises(DeviceLost, match=r"^laser: "):
        output.close()
    output.close()


def test_the_simulated_device_answers_with_its_clock(tmp_path: Path) -> None:
    with SimulatedRig(tmp_path) as rig:
        for _ in range(2):  # it can be opened again
            output = rig.output()
            assert output.open()["answer"].startswith("OFF ")
            exchanges = [output.write(on, "test", -1, rig.clock.now_ns()) for on in (True, False, True)]
            assert [e.answer.split()[0] for e in exchanges] == ["ON", "OFF", "ON"]
            ticks = [int(e.answer.split()[1]) for e in exchanges]
            assert all((b - a) % 2**32 < 2**31 for a, b in pairwise(ticks))
            output.close()
