"""Serial ports: opening them, reading and writing bytes, and their errors in plain words.

Owns pyserial; nothing else imports it. What the bytes mean is the part of `rig.drivers.serial_source` and the drivers.
"""

import errno
import sys

import serial
from pydantic import PositiveInt
from serial.tools import list_ports

from rig.config import Model
from rig.errors import ConfigError, DeviceError, DeviceLost

if sys.platform == "win32":
    _PORT_ERRORS: tuple[type[Exception], ...] = (OSError,)
else:
    import termios

    _PORT_ERRORS = (OSError, termios.error)  # pyserial lets the latter through when a device vanishes

_USB = "usb:"
_WRITE_TIMEOUT_S = 1.0  # a board that reads nothing for so long is gone
_LARGEST_READ = 65_536
_WHY = {
    errno.ENOENT: "there is no such port",
    errno.EAGAIN: "another program has it open",
    errno.EBUSY: "another program has it open",
    errno.EACCES: "permission denied (on Linux, add yourself to the group dialout)",
}


class PortConfig(Model):
    """Where a serial device is found."""

    port: str
    """/dev/ttyACM0, COM5, usb:VID:PID:SERIAL, socket://host:port, or simulated."""
    baud: PositiveInt = 115_200


class SerialPort:
    """An open port. Every error says which device, which port, and what was wrong.

    Parameters
    ----------
    device
        Name of the device, for errors.
    port
        Anything pyserial opens, or ``usb:VID:PID:SERIAL`` (hexadecimal ids, as the operating system lists them).

    Raises
    ------
    DeviceError
        When it cannot be opened: missing, busy or forbidden; lists the ports there are.
    """

    def __init__(self, device: str, port: str, baud: int) -> None:
        self._device = device
        self.port = find_usb_port(device, port) if port.startswith(_USB) else port
        try:
            self._serial = serial.serial_for_url(
                self.port, baud, write_timeout=_WRITE_TIMEOUT_S, exclusive=True
            )
        except (*_PORT_ERRORS, ValueError) as error:
            raise DeviceError(
                f"{device}: cannot open port {self.port}: {_why(error)}; ports here: {_ports_here()}"
            ) from error
        self.low_latency = self._ask_for_low_latency()

    def read(self, timeout_s: float) -> bytes:
        """Return all bytes that wait, or wait at most `timeout_s` for the first; empty when none came.

        Raises
        ------
        DeviceLost
            When the device has been unplugged.
        """
        try:
            if timeout_s != self._serial.timeout:
                self._serial.timeout = timeout_s  # only on a change: it reconfigures the port
            received: bytes = self._serial.read(max(1, self._serial.in_waiting))
            return received + self._rest() if received else b""
        except _PORT_ERRORS as error:
            raise self._lost("read", error) from error

    def write(self, message: bytes) -> None:
        """Hand all bytes to the operating system.

        Raises
        ------
        DeviceLost
            When the device has been unplugged or takes nothing for a second.
        """
        try:
            self._serial.write(message)
        except _PORT_ERRORS as error:
            raise self._lost("write", error) from error

    def discard_input(self) -> None:
        """Forget what was received and not read; raises `DeviceLost`."""
        try:
            self._serial.reset_input_buffer()
        except _PORT_ERRORS as error:
            raise self._lost("read", error) from error

    def close(self) -> None:
        """Give the port back. Safe twice."""
        self._serial.close()

    def _rest(self) -> bytes:
        """What came together with the byte that ended the wait."""
        waiting = self._serial.in_waiting
        if not waiting:
            return b""
        if "://" not in self.port:
            return bytes(self._serial.read(waiting))
        self._serial.timeout = 0.0  # a socket only tells that something waits, not how much
        return bytes(self._serial.read(_LARGEST_READ))

    def _ask_for_low_latency(self) -> bool:
        """Ask Linux not to hold bytes back (an FTDI chip's 16 ms become 1 ms); False where it does not apply."""
        if not sys.platform.startswith("linux") or not isinstance(self._serial, serial.Serial):
            return False
        try:
            self._serial.set_low_latency_mode(True)
        except (ValueError, NotImplementedError, OSError):
            return False  # pseudo-terminals and native USB have no such mode, and no need of one
        return True

    def _lost(self, doing: str, error: Exception) -> DeviceLost:
        return DeviceLost(f"{self._device}: lost on {doing} at port {self.port}: {error}; was it unplugged?")


def find_usb_port(device: str, port: str) -> str:
    """Return the port at which the USB device ``usb:VID:PID:SERIAL`` is found now.

    Raises
    ------
    ConfigError
        When it is not written like that.
    DeviceError
        When it is not plugged in; lists the USB devices that are.
    """
    try:
        _, vendor, product, serial_number = port.split(":", 3)
        wanted = int(vendor, 16), int(product, 16), serial_number.lower()
    except ValueError:
        raise ConfigError(
            f"{device}: port {port!r}: valid is usb:VID:PID:SERIAL, e.g. usb:16C0:0483:1234567"
        ) from None
    found = [entry for entry in list_ports.comports() if entry.vid is not None]
    for entry in found:
        if (entry.vid, entry.pid, (entry.serial_number or "").lower()) == wanted:
            return str(entry.device)
    here = [f"usb:{entry.vid:04X}:{entry.pid or 0:04X}:{entry.serial_number or ''}" for entry in found]
    raise DeviceError(f"{device}: {port} is not plugged in; USB ports here: {', '.join(here) or 'none'}")


def _ports_here() -> str:
    return ", ".join(sorted(entry.device for entry in list_ports.comports())) or "none"


def _why(error: Exception) -> str:
    """Say in words why a port did not open; Windows gives no number, only the text of the cause."""
    known = _WHY.get(getattr(error, "errno", None) or 0)
    if known is None and "PermissionError" in str(error):
        known = _WHY[errno.EBUSY]
    if known is None and "FileNotFoundError" in str(error):
        known = _WHY[errno.ENOENT]
    return known or str(error)
