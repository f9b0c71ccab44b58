import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from serial.tools import list_ports

from rig.config import RigConfig
from rig.drivers.protocols import DriverContext
from rig.drivers.serial_port import SerialPort, find_usb_port
from rig.drivers.serial_source import LineSourceConfig, SerialSource
from rig.errors import ConfigError, DeviceError, DeviceLost
from rig.messages import Event, Gap, Samples
from rig.sync.clock import SessionClock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals need POSIX")
PATIENCE_S = 10.0


class Pty:
    """A pseudo-terminal; the test is the device at its far end."""

    def __init__(self) -> None:
        self.fd, slave = os.openpty()
        self.port = os.ttyname(slave)
        self._slave: int | None = slave

    def say(self, data: bytes) -> None:
        os.write(self.fd, data)

    def hear(self) -> bytes:
        return os.read(self.fd, 1000)

    def unplug(self) -> None:
        if self._slave is not None:
            os.close(self.fd)
            os.close(self._slave)
            self._slave = None


@pytest.fixture
def pty() -> Iterator[Pty]:
    pty = Pty()
    yield pty
    pty.unplug()


@pytest.fixture
def port(pty: Pty) -> Iterator[SerialPort]:
    port = SerialPort("wheel", pty.port, 115_200)
    yield port
    port.close()


def test_a_read_brings_everything_that_waits(pty: Pty, port: SerialPort) -> None:
    pty.say(b"12,34\n56,78\n")
    received = b""
    while len(received) < 12:
        received += port.read(PATIENCE_S)
    assert received == b"12,34\n56,78\n"
    assert port.read(0.0) == b""


def test_a_write_arrives(pty: Pty, port: SerialPort) -> None:
    port.write(b"start\n")
    assert pty.hear() == b"start\n"


def test_discarded_input_is_gone(pty: Pty, port: SerialPort) -> None:
    pty.say(b"stale")
    port.read(PATIENCE_S)
    pty.say(b"stale")
    port.discard_input()
    pty.say(b"fresh")
    assert port.read(PATIENCE_S)[:1] == b"f"


def test_a_missing_port_is_explained_with_those_there_are() -> None:
    with pytest.raises(DeviceError, match=r"wheel: .*/dev/not_there: there is no such port; ports here: \S+"):
        SerialPort("wheel", "/dev/not_there", 115_200)


def test_a_busy_port_is_explained(pty: Pty, port: SerialPort) -> None:
    with pytest.raises(DeviceError, match="another program has it open"):
        SerialPort("eye", pty.port, 115_200)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may open everything")
def test_a_forbidden_port_is_explained(pty: Pty) -> None:
    os.chmod(pty.port, 0)
    with pytest.raises(DeviceError, match="permission denied"):
        SerialPort("wheel", pty.port, 115_200)


def test_what_is_no_serial_port_is_explained(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("port") / "file"
    path.write_text("")
    with pytest.raises(DeviceError, match=re.escape(f"wheel: cannot open port {path}")):
        SerialPort("wheel", str(path), 115_200)


def test_an_unplugged_device_is_lost_on_read_write_and_discard(pty: Pty, port: SerialPort) -> None:
    pty.unplug()
    for use in (lambda: port.read(0.1), lambda: port.write(b"x"), port.discard_input):
        with pytest.raises(DeviceLost, match=f"wheel: lost on .* at port {pty.port}"):
            use()
    port.close()
    port.close()


def test_a_socket_serves_as_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = SerialPort("wheel", f"socket://127.0.0.1:{server.getsockname()[1]}", 115_200)
        device, _ = server.accept()
        with device:
            port.write(b"start\n")
            assert device.recv(100) == b"start\n"
            device.sendall(b"12,34\n" * 100)
            received = b""
            while len(received) < 600:
                received += port.read(PATIENCE_S)
            assert received == b"12,34\n" * 100
        with pytest.raises(DeviceLost, match="wheel"):
            port.read(PATIENCE_S)
        port.close()


def test_a_socket_nobody_serves_is_explained() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
    with pytest.raises(DeviceError, match=f"wheel: cannot open port socket://127.0.0.1:{number}"):
        SerialPort("wheel", f"socket://127.0.0.1:{number}", 115_200)


# --- USB identity: the list of ports is the operating system's, so these tests stand in for it ---------------


@pytest.fixture
def plugged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(device: str, vid: int | None, pid: int | None, serial_number: str | None) -> SimpleNamespace:
        return SimpleNamespace(device=device, vid=vid, pid=pid, serial_number=serial_number)

    ports = [
        entry("/dev/ttyS0", None, None, None),
        entry("/dev/ttyACM0", 0x16C0, 0x0483, "1234567"),
        entry("/dev/ttyACM1", 0x16C0, 0x0483, "A:9"),
    ]
    monkeypatch.setattr(list_ports, "comports", lambda: ports)


@pytest.mark.usefixtures("plugged_in")
@pytest.mark.parametrize(
    ("port", "found"),
    [("usb:16C0:0483:1234567", "/dev/ttyACM0"), ("usb:16c0:483:a:9", "/dev/ttyACM1")],
)
def test_a_usb_device_is_found_by_its_identity(port: str, found: str) -> None:
    assert find_usb_port("wheel", port) == found


@pytest.mark.usefixtures("plugged_in")
def test_a_usb_device_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(
        DeviceError, match="not plugged in; USB ports here: usb:16C0:0483:1234567, usb:16C0:0483:A:9"
    ):
        SerialPort("wheel", "usb:16C0:0483:7", 115_200)


@pytest.mark.parametrize("port", ["usb:", "usb:16C0:0483", "usb:xyz:0483:1"])
def test_a_misspelt_usb_identity_is_explained(port: str) -> None:
    with pytest.raises(ConfigError, match="valid is usb:VID:PID:SERIAL"):
        find_usb_port("wheel", port)


# --- the source: lines to messages --------------------------------------------------------------------------


class Source:
    """A source on a pseudo-terminal, started and past its `first` line."""

    def __init__(self, pty: Pty, first: bytes = b"stale\n", **settings: object) -> None:
        content = {"driver": "any", "port": pty.port, "rate_hz": 100, "columns": ["ticks", "count"]}
        config = LineSourceConfig.model_validate(content | settings)
        self.clock = SessionClock.start()
        rig = RigConfig.model_construct()
        self.source = SerialSource("wheel", config, DriverContext(self.clock, rig, lambda _, name: name))
        self.stream = self.source.open()
        self.source.start()
        self.greeting = pty.hear() if config.hello else b""
        self._pty = pty
        if first:
            self.source._heard_ns += int(
                PATIENCE_S * 1e9
            )  # at once after the start, however slow the machine
            self.say(first)

    def say(self, data: bytes) -> list[Samples | Gap | Event]:
        """Let the device say something, and return what one read makes of it."""
        self._pty.say(data)
        end = time.monotonic() + PATIENCE_S
        while self.source._opened()._serial.in_waiting < len(data) and time.monotonic() < end:
            time.sleep(0.001)
        return list(self.source.read(0.0))  # type: ignore[arg-type]


def tells(messages: list[Samples | Gap | Event]) -> list[object]:
    """Samples as (index, ticks), the rest as what they say."""
    told: list[object] = []
    for message in messages:
        if isinstance(message, Samples):
            told += [(message.index + k, int(t)) for k, t in enumerate(message.device_ticks)]
        elif isinstance(message, Gap):
            told.append(f"gap {message.first} to {message.last}")
        else:
            told.append(message.kind)
    return told


@pytest.fixture
def source(pty: Pty) -> Iterator[Source]:
    source = Source(pty)
    yield source
    source.source.close()


def test_the_stream_is_described(source: Source, pty: Pty) -> None:
    assert source.stream.columns == ("count",)
    assert (source.stream.rate_hz, source.stream.tick_hz) == (100, 1e6)
    assert source.stream.properties["port"] == pty.port
    assert source.greeting == b"start\n"


def test_samples_carry_arrival_and_values(source: Source) -> None:
    before_ns = source.clock.now_ns()
    (samples,) = (m for m in source.say(b"10000,5\n") if isinstance(m, Samples))
    assert before_ns <= samples.arrival_ns <= source.clock.now_ns()
    assert samples.values.tolist() == [[5]]
    assert samples.stream == "wheel"


def test_missing_lines_are_a_gap_in_their_place(source: Source) -> None:
    told = tells(source.say(b"10000,1\n20000,1\n50100,1\n60000,1\n"))
    assert told == [(0, 10000), (1, 20000), "gap 2 to 3", (4, 50100), (5, 60000)]


def test_a_gap_across_reads_is_seen(source: Source) -> None:
    assert tells(source.say(b"10000,1\n")) == [(0, 10000)]
    assert tells(source.say(b"30000,1\n")) == ["gap 1 to 1", (2, 30000)]


def test_jitter_of_the_device_is_no_gap(source: Source) -> None:
    assert tells(source.say(b"10000,1\n24900,1\n30000,1\n")) == [(0, 10000), (1, 24900), (2, 30000)]


def test_the_counter_may_turn_over(source: Source) -> None:
    told = tells(source.say(b"%d,1\n4000,1\n" % (2**32 - 6000)))
    assert told == [(0, 2**32 - 6000), (1, 2**32 + 4000)]


def test_a_clock_that_steps_back_is_told_and_recorded_as_it_came(source: Source) -> None:
    told = tells(source.say(b"3000000,1\n3010000,1\n50,1\n10050,1\n"))
    assert told == [(0, 3000000), (1, 3010000), "clock_jump", (2, 50), (3, 10050)]


def test_a_clock_that_outruns_the_host_is_a_jump_and_no_gap(source: Source) -> None:
    told = tells(source.say(b"10000,1\n2000000000,1\n10030000,1\n"))
    assert told == [(0, 10000), "clock_jump", (1, 2000000000), "clock_jump", (2, 10030000)]


def test_an_event_driven_device_has_no_gaps(pty: Pty) -> None:
    source = Source(pty, rate_hz=0)
    assert tells(source.say(b"10000,1\n900000,1\n")) == [(0, 10000), (1, 900000)]
    source.source.close()


def test_the_first_event_is_recorded_when_it_comes_long_after_the_start(pty: Pty) -> None:
    source = Source(pty, first=b"", rate_hz=0)
    source.source._heard_ns -= 600_000_000  # started so long ago
    assert tells(source.say(b"10000,1\n900000,1\n")) == [(0, 10000), (1, 900000)]
    source.source.close()


def test_junk_is_told_at_most_once_a_second_and_its_lines_are_a_gap(source: Source) -> None:
    told = tells(source.say(b"10000,1\n20?00,1\n30000,1\n"))
    assert sorted(map(str, told)) == sorted(["(0, 10000)", "gap 1 to 1", "(2, 30000)", "serial_junk"])
    assert tells(source.say(b"junk\njunk\n")) == []  # too soon
    source.source.stop()
    (event,) = (m for m in source.say(b"junk\n") if isinstance(m, Event))
    assert event.text.startswith("3 lines are no samples, e.g. 'junk'")


def test_goodbye_is_said_once_and_what_came_before_is_still_read(source: Source, pty: Pty) -> None:
    source.source.stop()
    source.source.stop()
    assert pty.hear() == b"stop\n"
    assert tells(source.say(b"10000,1\n")) == [(0, 10000)]


def test_a_device_that_sleeps_through_hello_is_greeted_again_and_told_of(pty: Pty) -> None:
    content = {"driver": "any", "port": pty.port, "rate_hz": 100, "columns": ["ticks", "count"]}
    clock = SessionClock.start()
    context = DriverContext(clock, RigConfig.model_construct(), lambda _, name: name)
    source = SerialSource("wheel", LineSourceConfig.model_validate(content), context)
    source.open()
    source.start()
    messages: list[object] = []
    while not messages:
        messages += source.read(0.2)
    assert [m.kind for m in messages if isinstance(m, Event)] == ["serial_silent"]
    heard = b""
    while heard.count(b"start\n") < 2:
        heard += pty.hear()
    source.close()


def test_use_before_open_and_after_close_is_explained(pty: Pty, source: Source) -> None:
    source.source.close()
    with pytest.raises(DeviceError, match="before open or after close"):
        source.source.read(0.0)
