"""Serial ports: opening them with errors that help, and turning what they say into messages."""

import logging
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import serial
from numpy.typing import NDArray
from serial.tools import list_ports

from rig.drivers.dialects.line import LineConfig, LineParser
from rig.errors import DeviceError, DeviceLost
from rig.messages import Event, Gap, Samples
from rig.sync.clock import SessionClock

_LOG = logging.getLogger(__name__)
_USB = "usb:"
_WRITE_S = 0.5
_COMPLAIN_EVERY_NS = 1_000_000_000
_LATE = 1.5  # periods between two samples: more, and one is missing


class SerialPort:
    """An open port. Errors name the device and the port.

    Raises
    ------
    DeviceError
        When the port is missing, busy or not permitted; lists the ports that exist.
    """

    def __init__(self, device: str, port: str, baud: int) -> None:
        self._device = device
        self.name = _by_usb_serial(device, port) if port.startswith(_USB) else port
        try:
            options: dict[str, Any] = {} if "://" in self.name else {"exclusive": True}
            self._port = serial.serial_for_url(self.name, baud, timeout=0, write_timeout=_WRITE_S, **options)
        except (serial.SerialException, OSError, ValueError) as error:
            raise DeviceError(
                f"{device}: port {self.name} cannot be opened: {error}; ports here: {_ports()}"
            ) from error
        _ask_low_latency(self._port)

    def read(self, timeout_s: float) -> bytes:
        """Return what has arrived, waiting at most `timeout_s` for the first byte."""
        try:
            self._port.timeout = timeout_s
            data: bytes = self._port.read(max(1, self._port.in_waiting))
        except (serial.SerialException, OSError, TypeError) as error:
            raise DeviceLost(f"{self._device}: port {self.name} has vanished: {error}") from error
        return data

    def write(self, text: str) -> None:
        """Send a text."""
        try:
            self._port.write(text.encode())
            self._port.flush()
        except (serial.SerialException, OSError) as error:
            raise DeviceLost(f"{self._device}: port {self.name} cannot be written: {error}") from error

    def close(self) -> None:
        """Close the port. Safe twice."""
        self._port.close()


class LineSource:
    """What treadmill, pupil and stimulus have in common: a port, its lines, and what is missing between them.

    Parameters
    ----------
    device
        Name of the device and of its stream.
    port
        Real name of the port.
    """

    def __init__(self, device: str, port: str, config: LineConfig, clock: SessionClock) -> None:
        self._device, self._config, self._clock = device, config, clock
        self._port = SerialPort(device, port, config.baud)
        self._parser = LineParser(config)
        self._period_ticks = config.tick_hz / config.rate_hz if config.rate_hz else 0.0
        self._index = 0
        self._last_ticks: int | None = None
        self._junk = 0
        self._complain_ns = 0

    def start(self) -> None:
        """Ask the device to stream."""
        self._port.write(self._config.hello)

    def read(self, timeout_s: float) -> list[Samples | Gap | Event]:
        """Return the samples that arrived, with gaps in their places; values as sent, scaled."""
        data = self._port.read(timeout_s)
        arrival_ns = self._clock.now_ns()
        lines = self._parser.feed(data) if data else None
        messages: list[Samples | Gap | Event] = []
        if lines is not None:
            self._junk += lines.junk
            messages += self._complain(lines.example, arrival_ns)
            messages += self._in_order(lines.ticks, lines.values, arrival_ns)
        return messages

    def stop(self) -> None:
        """Ask the device to be quiet; one that has vanished already is."""
        try:
            self._port.write(self._config.goodbye)
        except DeviceLost as error:
            _LOG.warning("%s", error)

    def close(self) -> None:
        """Close the port. Safe twice."""
        self._port.close()

    def _in_order(
        self, ticks: NDArray[np.int64], values: NDArray[np.float64], arrival_ns: int
    ) -> list[Samples | Gap | Event]:
        """Cut a batch where samples are missing, and put the gaps between the pieces."""
        messages: list[Samples | Gap | Event] = []
        start = 0
        for k in range(len(ticks)):
            missing, event = self._step(int(ticks[k]), arrival_ns)
            if event is not None:
                messages.append(event)
            if missing:
                messages += self._samples(ticks[start:k], values[start:k], arrival_ns)
                first, self._index, start = self._index, self._index + missing, k
                reason = "no sample for so long on the device's clock"
                messages.append(Gap(self._device, first, first + missing - 1, arrival_ns, reason))
        return messages + self._samples(ticks[start:], values[start:], arrival_ns)

    def _samples(
        self, ticks: NDArray[np.int64], values: NDArray[np.float64], arrival_ns: int
    ) -> list[Samples]:
        if not len(ticks):
            return []
        index, self._index = self._index, self._index + len(ticks)
        return [Samples(self._device, index, arrival_ns, ticks, values)]

    def _step(self, ticks: int, arrival_ns: int) -> tuple[int, Event | None]:
        """How many samples are missing before this one, and whether the device's clock jumped back."""
        last, self._last_ticks = self._last_ticks, ticks
        if last is None:
            return 0, None
        if ticks < last:
            text = f"device clock went back from {last} to {ticks}; recorded as it came"
            return 0, Event(self._device, "clock_jump", text, arrival_ns)
        if not self._period_ticks or ticks - last <= _LATE * self._period_ticks:
            return 0, None
        return round((ticks - last) / self._period_ticks) - 1, None

    def _complain(self, example: str, arrival_ns: int) -> Sequence[Event]:
        """Tell of junk lines, at most once a second."""
        if not self._junk or arrival_ns < self._complain_ns:
            return []
        text = f"{self._junk} lines are no samples and were passed over, the last: {example!r}"
        self._junk, self._complain_ns = 0, arrival_ns + _COMPLAIN_EVERY_NS
        return [Event(self._device, "serial_junk", text, arrival_ns)]


def _by_usb_serial(device: str, port: str) -> str:
    """Find a port by its USB device's identity, which stays when its name changes: usb:VID:PID:SERIAL."""
    wanted = port.removeprefix(_USB).upper()
    for found in list_ports.comports():
        if (
            found.vid is not None
            and f"{found.vid:04X}:{found.pid:04X}:{found.serial_number}".upper() == wanted
        ):
            return str(found.device)
    raise DeviceError(f"{device}: no USB device {wanted} is plugged in; ports here: {_ports()}")


def _ports() -> str:
    found = [
        f"{p.device} (usb:{p.vid:04X}:{p.pid:04X}:{p.serial_number})" if p.vid is not None else str(p.device)
        for p in list_ports.comports()
    ]
    return ", ".join(found) or "none"


def _ask_low_latency(port: serial.SerialBase) -> None:
    """Ask a USB converter not to hold bytes back (FTDI: 16 ms by default); not every device knows how."""
    if sys.platform == "linux" and hasattr(port, "set_low_latency_mode"):
        try:
            port.set_low_latency_mode(True)
        except (OSError, ValueError) as error:
            _LOG.debug("%s: no low-latency mode: %s", port.port, error)
