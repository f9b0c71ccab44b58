"""An output device on a serial line: commanded on and off, and asked to say so."""

import time
from typing import Literal

from pydantic import Field, PositiveFloat

from rig.config import OutputConfig
from rig.drivers.protocols import DriverContext
from rig.drivers.serial_port import SerialPort
from rig.errors import DeviceError
from rig.messages import Output

_OPEN_ANSWER_S = 1.0  # a board that resets when its port is opened needs a moment


class SerialOutputConfig(OutputConfig):
    """A microcontroller that switches a laser, a valve, a TTL line."""

    driver: Literal["serial_output"]
    port: str
    """Serial port, usb:VID:PID:SERIAL, socket://HOST:PORT, or simulated."""
    baud: int = Field(default=115200, gt=0)
    on: str = "ON\n"
    """What switches it on..."""
    off: str = "OFF\n"
    """...and off."""
    answer_on: str = "ON"
    """How its answers begin; the rest of the line (its clock, say) is recorded."""
    answer_off: str = "OFF"
    answer_timeout_ms: PositiveFloat = 50.0


class SerialOutput:
    """`OutputDevice` on a serial line; every answer is read back."""

    Config = SerialOutputConfig

    def __init__(self, name: str, config: SerialOutputConfig, context: DriverContext) -> None:
        self._name, self._config, self._context = name, config, context
        self._port: SerialPort | None = None
        self._count = 0
        self._rest = b""

    def open(self) -> dict[str, str]:
        """Open the port, switch off, and hear the device say so."""
        port = self._context.resolve_port(self._name, self._config.port)
        self._port = SerialPort(self._name, port, self._config.baud)
        self._port.write(self._config.off)
        answer = self._answer(self._config.answer_off, _OPEN_ANSWER_S)
        if answer is None:
            raise DeviceError(
                f"{self._name}: {port} does not answer {self._config.off!r} with {self._config.answer_off!r}; "
                "check port, baud and answer_off"
            )
        return {"port": self._config.port, "first_answer": answer}

    def write(self, on: bool, reason: str, prediction_index: int, decided_ns: int) -> Output:
        """Switch, and wait for the answer at most `answer_timeout_ms`; a silent device is recorded as such."""
        port = self._opened()
        port.write(self._config.on if on else self._config.off)
        written_ns = self._context.clock.now_ns()
        expected = self._config.answer_on if on else self._config.answer_off
        answer = self._answer(expected, self._config.answer_timeout_ms / 1e3)
        answered_ns = self._context.clock.now_ns() if answer is not None else -1
        index, self._count = self._count, self._count + 1
        return Output(
            self._name, index, on, reason, prediction_index, decided_ns, written_ns, answered_ns, answer or ""
        )

    def close(self) -> None:
        """Switch off and close the port. Safe twice, and before it was opened."""
        port, self._port = self._port, None
        if port is not None:
            try:
                port.write(self._config.off)
            finally:
                port.close()

    def _answer(self, expected: str, timeout_s: float) -> str | None:
        """Return the first line that begins as expected, None when none comes in time."""
        end = time.monotonic() + timeout_s
        while (left_s := end - time.monotonic()) > 0:
            *lines, self._rest = (self._rest + self._opened().read(left_s)).split(b"\n")
            for line in lines:
                text = line.decode("utf-8", "backslashreplace").strip()
                if text.startswith(expected):
                    return text
        return None

    def _opened(self) -> SerialPort:
        if self._port is None:
            raise DeviceError(f"{self._name}: has not been opened")
        return self._port
