"""Lines of numbers, one sample a line: ``ticks,count`` or ``ticks,diameter,x,y``, as most microcontrollers send.

Reader and writer of the format stand together, so that the simulator speaks what the driver understands.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, model_validator

from rig.config import SerialConfig

TICKS = "ticks"
_LONGEST_LINE = 1024  # bytes without a line end: not this dialect, or the wrong baud rate
_SHOWN = 40  # characters of a junk line that a report shows


class LineConfig(SerialConfig):
    """A serial source that speaks in lines."""

    port: str
    """Serial port, usb:VID:PID:SERIAL, socket://HOST:PORT, or simulated."""
    baud: int = Field(default=115200, gt=0)
    hello: str = "start\n"
    """Sent when the run starts, since opening a port throws away what was waiting."""
    goodbye: str = "stop\n"
    """Sent when it stops."""
    tick_hz: PositiveFloat = 1_000_000.0
    """Rate of the device's clock."""
    tick_bits: int = Field(default=32, ge=8, le=62)
    """The device's clock starts again at 0 after so many bits."""
    separator: str = Field(default=",", min_length=1)
    columns: tuple[str, ...]
    """What stands in a line, in order; ticks is the device's clock."""
    scale: dict[str, float] = Field(default_factory=dict)
    """Factor for each column, from what is sent to its unit."""
    units: dict[str, str] = Field(default_factory=dict)
    """Unit of each column, after scaling."""

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        if (
            self.columns.count(TICKS) != 1
            or len(set(self.columns)) < len(self.columns)
            or len(self.columns) < 2
        ):
            raise ValueError(f"columns {list(self.columns)}: valid is ticks once and each other column once")
        for name in (*self.scale, *self.units):
            if name not in self.columns:
                raise ValueError(f"scale or units names {name!r}; valid: {', '.join(self.value_columns)}")
        return self

    @property
    def value_columns(self) -> tuple[str, ...]:
        """Columns other than the device's clock."""
        return tuple(name for name in self.columns if name != TICKS)


@dataclass(frozen=True, slots=True)
class ParsedLines:
    """Samples found in some bytes; `junk` lines were not samples, `example` is the last of them."""

    ticks: NDArray[np.int64]  # (n,), unrolled
    values: NDArray[np.float64]  # (n, columns), scaled
    junk: int
    example: str


class LineParser:
    """Turns bytes, in whatever pieces they come, into samples; remembers the piece of a line that is not over."""

    def __init__(self, config: LineConfig) -> None:
        self._columns = config.columns
        self._separator = config.separator.encode()
        self._scale = np.array([config.scale.get(name, 1.0) for name in config.value_columns])
        self._ticks_at = config.columns.index(TICKS)
        self._wrap = 1 << config.tick_bits
        self._rest = b""
        self._first = True
        self._last_raw: int | None = None
        self._turns = 0

    def feed(self, data: bytes) -> ParsedLines:
        """Return the samples that are complete with these bytes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        rows: list[tuple[int, list[float]]] = []
        junk, example = 0, b""
        if len(self._rest) > _LONGEST_LINE:
            junk, example, self._rest = 1, self._rest, b""
        for line in lines:
            row = self._parse(line)
            if row is not None:
                rows.append(row)
            elif (
                line.strip() and not self._first
            ):  # what the port held of a line when it was opened is no fault
                junk, example = junk + 1, line
            self._first = False
        ticks = np.array([self._unroll(raw) for raw, _ in rows], np.int64)
        values = np.array([v for _, v in rows], np.float64).reshape(len(rows), len(self._columns) - 1)
        return ParsedLines(
            ticks, values * self._scale, junk, example[:_SHOWN].decode("ascii", "backslashreplace")
        )

    def _parse(self, line: bytes) -> tuple[int, list[float]] | None:
        fields = line.strip().split(self._separator)
        if len(fields) != len(self._columns):
            return None
        try:
            ticks = int(fields.pop(self._ticks_at))
            values = [float(field) for field in fields]
        except ValueError:
            return None
        return (ticks, values) if 0 <= ticks < self._wrap else None

    def _unroll(self, raw: int) -> int:
        """Add a turn when the counter went back by more than half its range; a smaller step back is the device's."""
        if self._last_raw is not None and self._last_raw - raw > self._wrap // 2:
            self._turns += 1
        self._last_raw = raw
        return raw + self._turns * self._wrap


def format_line(fields: dict[str, float], columns: tuple[str, ...], separator: str = ",") -> bytes:
    """One sample as the device sends it; `fields` holds unscaled numbers."""
    return separator.join(_number(fields[name]) for name in columns).encode() + b"\n"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
