"""Serial output: a laser or an LED, switched by a line and answered by a line."""

import time
from collections.abc import Iterator
from typing import Literal

from pydantic import Field, PositiveFloat

from rig.config import OutputConfig
from rig.drivers.protocols import DriverContext
from rig.drivers.serial_port import PortConfig, SerialPort
from rig.errors import DeviceError, DeviceLost
from rig.messages import Output

_WAKE_S = 3.0  # a board that resets when its port is opened (an Arduino Uno does) is deaf for about 2 s
_POLL_S = 0.005
_NOT_ANSWERED = -1
_OFF_TRIES = 3  # of switching off, before a device counts as lost


class SerialOutput:
    """Sends the command and waits for the answer, at most `answer_timeout_ms`; both are in the `Output`.

    An answer counts when it begins with what is expected; whatever else the device says last is recorded as its
    answer, so that an empty or a strange one is seen in the file.
    """

    class Config(PortConfig, OutputConfig):
        """Tag `serial_output`."""

        driver: Literal["serial_output"]
        on: str = Field(default="ON\n", min_length=1)
        """Sent to switch on."""
        off: str = Field(default="OFF\n", min_length=1)
        """Sent to switch off."""
        answer_on: str = "ON"
        """How the answer to `on` begins; empty when the device does not answer."""
        answer_off: str = "OFF"
        """How the answer to `off` begins; empty when the device does not answer."""
        answer_timeout_ms: PositiveFloat = 50.0

    def __init__(self, name: str, config: Config, context: DriverContext) -> None:
        self._name = name
        self._config = config
        self._context = context
        self._port: SerialPort | None = None
        self._lost = False
        self._index = 0

    def open(self) -> dict[str, str]:
        """Open the port, switch off, and return the port and the device's answer.

        Raises
        ------
        DeviceError
            When the port cannot be opened, or the device does not confirm that it is off.
        """
        config = self._config
        port = SerialPort(self._name, self._context.resolve_port(self._name, config.port), config.baud)
        self._port = port
        deadline = time.monotonic() + _WAKE_S
        while not self._confirms(answer := self._exchange(False)[2], False):
            if time.monotonic() > deadline:
                raise DeviceError(
                    f"{self._name}: sent {config.off!r} to port {port.port}, answer {answer!r} within {_WAKE_S:g} s; "
                    f"valid is one that begins with {config.answer_off!r}"
                )
        return {"port": port.port, "answer": answer}

    def write(self, on: bool, reason: str, prediction_index: int, decided_ns: int) -> Output:
        """Switch, wait for the answer, and return the whole exchange.

        Raises
        ------
        DeviceLost
            When the port is gone, or the device does not confirm that it is off, however often it is told.
        """
        written_ns, answered_ns, answer = self._exchange(on)
        for _ in range(_OFF_TRIES - 1):
            if on or self._confirms(answer, on):
                break
            written_ns, answered_ns, answer = self._exchange(on)
        if not on and not self._confirms(answer, on):
            self._lost = True
            raise DeviceLost(f"{self._name}: did not confirm off, told {_OFF_TRIES} times, answer {answer!r}")
        index, self._index = self._index, self._index + 1
        return Output(
            self._name, index, on, reason, prediction_index, decided_ns, written_ns, answered_ns, answer
        )

    def close(self) -> None:
        """Switch off and let the port go. Safe twice, and after a failed `open`.

        Raises
        ------
        DeviceLost
            When the device is not known to be off, unless an earlier error has told so.
        """
        port, lost = self._port, self._lost
        if port is None:
            return
        try:
            answer = self._exchange(False)[2]
        except DeviceLost:
            if not lost:
                raise
            answer = ""
        finally:
            self._port = None
            port.close()
        if not lost and not self._confirms(answer, False):
            raise DeviceLost(f"{self._name}: did not confirm off at port {port.port}, answer {answer!r}")

    def _exchange(self, on: bool) -> tuple[int, int, str]:
        """Send a command: when it was written, when answered (-1: not), and the answer."""
        if self._port is None:
            raise DeviceError(f"{self._name}: port {self._config.port} is used before open or after close")
        try:
            return self._send(self._port, on)
        except DeviceLost:
            self._lost = True
            raise

    def _send(self, port: SerialPort, on: bool) -> tuple[int, int, str]:
        now_ns = self._context.clock.now_ns
        port.discard_input()  # a late answer to the command before is none to this one
        port.write((self._config.on if on else self._config.off).encode())
        written_ns, answered_ns, answer = now_ns(), _NOT_ANSWERED, ""
        for line in self._lines(port) if self._expected(on) else ():
            answered_ns, answer = now_ns(), line
            if self._confirms(line, on):
                break
        return written_ns, answered_ns, answer

    def _lines(self, port: SerialPort) -> Iterator[str]:
        """Lines as they come, until the answer's time is over."""
        received, deadline = b"", time.monotonic() + self._config.answer_timeout_ms / 1000
        while time.monotonic() < deadline:
            *lines, received = (received + port.read(_POLL_S)).split(b"\n")
            yield from (line.decode("ascii", "backslashreplace").strip() for line in lines if line.strip())

    def _expected(self, on: bool) -> str:
        return self._config.answer_on if on else self._config.answer_off

    def _confirms(self, answer: str, on: bool) -> bool:
        return answer.startswith(self._expected(on))
