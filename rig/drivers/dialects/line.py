"""The line dialect: one sample per text line, numbers between separators, as most home-made boards send them.

Owns the bytes of one line and the width of the device's clock; opens nothing. A line ends with a newline (a carriage
return before it is ignored). Whatever is not a sample is counted as junk, and the next line is read as if nothing had
happened. How lost lines and clock jumps are told is `rig.drivers.serial_source`'s part.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StringConstraints, model_validator

from rig.config import Model
from rig.messages import NO_TICKS
from rig.recording.layout import SAMPLE_FIELDS

TICKS = "ticks"
LONGEST_LINE = 256  # bytes; a sample takes 20 to 60, and more without a newline is a wrong baud rate
_EXAMPLE = 40  # bytes of junk that are quoted
_NO_NAME = ("", ".", "..")  # of a group in HDF5, or read as a path
_NOT_IN_NAMES = "/:\0"  # HDF5 takes / for a path, NWB refuses : and both end at a zero byte


class LineDialectConfig(Model):
    """How a device writes its lines."""

    tick_hz: float = Field(default=1_000_000.0, ge=0.0)
    """Rate of the device's clock (micros() of an Arduino: 1000000); 0 when it sends none."""
    tick_bits: int = Field(default=32, ge=8, le=63)
    """Width at which that clock wraps."""
    separator: Annotated[str, StringConstraints(min_length=1, max_length=1)] = ","
    """Between columns; a space stands for any white space."""
    columns: tuple[str, ...] = Field(min_length=1)
    """What a line holds, in order; ticks is the device's clock, every other name is one of a series in the file."""
    scale: dict[str, float] = Field(default_factory=dict)
    """By column: what its numbers are multiplied by (1 when not given)."""
    units: dict[str, str] = Field(default_factory=dict)
    """By column: unit after scaling."""

    @property
    def value_columns(self) -> tuple[str, ...]:
        """Columns beside the clock."""
        return tuple(column for column in self.columns if column != TICKS)

    @model_validator(mode="after")
    def _columns_can_be_recorded(self) -> Self:
        for column in self.columns:
            if column in _NO_NAME or any(sign in column for sign in _NOT_IN_NAMES):
                raise ValueError(
                    f"column {column!r}: valid is a name without / and :, not empty and no dots alone"
                )
            if column in SAMPLE_FIELDS:
                raise ValueError(
                    f"column {column!r}: valid is any name but those that the file's table of samples has "
                    f"of its own: {', '.join(SAMPLE_FIELDS)}"
                )
        return self

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        if len(set(self.columns)) < len(self.columns) or not self.value_columns:
            raise ValueError(f"columns {list(self.columns)}: each once, and at least one beside {TICKS}")
        if (TICKS in self.columns) != (self.tick_hz > 0):
            raise ValueError(
                f"columns {list(self.columns)} with tick_hz {self.tick_hz:g}: valid is {TICKS} once "
                f"and a tick_hz above 0, or no {TICKS} and tick_hz 0"
            )
        for key, named in (("scale", self.scale), ("units", self.units)):
            unknown = [column for column in named if column not in self.value_columns]
            if unknown:
                raise ValueError(f"{key} names {unknown[0]!r}; valid: {', '.join(self.value_columns)}")
        if any(factor == 0 or not math.isfinite(factor) for factor in self.scale.values()):
            raise ValueError(f"scale {self.scale}: valid is any number but 0")
        return self


@dataclass(frozen=True, slots=True)
class ParsedLines:
    """What some bytes held.

    `ticks` are unwrapped (-1 throughout when the device has no clock) and otherwise as received: `backward` lists
    the places in `ticks` that lie before their predecessor. `junk` counts lines that are no sample, one of which
    `junk_example` quotes. `dropped_first` says that the line which may have been stale or truncated was passed over.
    """

    ticks: NDArray[np.int64]  # (n,)
    values: NDArray[np.float64]  # (n, value columns), scaled
    backward: tuple[int, ...] = ()
    junk: int = 0
    junk_example: str = ""
    dropped_first: bool = False


class LineParser:
    """Bytes in any portions to samples; the portions do not matter.

    Parameters
    ----------
    mid_line
        The bytes begin anywhere, as those of a port just opened do: what comes before the first newline may be
        stale or a truncated line that reads like a whole one, so it is passed over.
    """

    def __init__(self, config: LineDialectConfig, mid_line: bool = True) -> None:
        self._config = config
        self._separator = None if config.separator.isspace() else config.separator.encode()
        self._scales = tuple(config.scale.get(column, 1.0) for column in config.value_columns)
        self._tick_place = config.columns.index(TICKS) if TICKS in config.columns else None
        self._skip_first = mid_line
        self._partial = b""
        self._too_long = False  # of the line not yet ended: counted already, its rest is passed over
        self._last_ticks: int | None = None

    def feed(self, received: bytes) -> ParsedLines:
        """Return the samples that these bytes complete. Never fails."""
        *lines, self._partial = (self._partial + received).split(b"\n")
        dropped = self._skip_first and bool(lines)
        samples: list[tuple[int, list[float]]] = []
        junk: list[bytes] = []
        for line in lines:
            if self._is_passed_over():
                continue
            sample = self._sample(line)
            if sample is not None:
                samples.append(sample)
            elif line.strip() or len(line) > LONGEST_LINE:
                junk.append(line)
        if self._grows_too_long():
            junk.append(self._partial)
        self._partial = b"" if self._too_long else self._partial
        return self._collect(samples, junk, dropped)

    def _is_passed_over(self) -> bool:
        """Whether a line that just ended is the first, or the rest of one that was counted as too long."""
        passed_over = self._skip_first or self._too_long
        self._skip_first = self._too_long = False
        return passed_over

    def _grows_too_long(self) -> bool:
        """Whether the line not yet ended became too long just now, and is not the first."""
        before = self._too_long
        self._too_long = before or len(self._partial) > LONGEST_LINE
        return self._too_long and not before and not self._skip_first

    def _sample(self, line: bytes) -> tuple[int, list[float]] | None:
        """Raw ticks and scaled values of a line; None when it is not a sample."""
        fields = line.strip().split(self._separator)
        if len(line) > LONGEST_LINE or len(fields) != len(self._config.columns) or b"_" in line:
            return None  # Python reads 1_000 as a number; a device does not write it
        try:
            ticks = NO_TICKS if self._tick_place is None else int(fields.pop(self._tick_place))
            values = [float(field) * scale for field, scale in zip(fields, self._scales, strict=True)]
        except ValueError:
            return None
        in_range = self._tick_place is None or 0 <= ticks < 1 << self._config.tick_bits
        return (ticks, values) if in_range and not any(map(math.isinf, values)) else None

    def _collect(
        self, samples: list[tuple[int, list[float]]], junk: list[bytes], dropped: bool
    ) -> ParsedLines:
        ticks = np.empty(len(samples), np.int64)
        values = np.empty((len(samples), len(self._scales)), np.float64)
        backward = []
        for place, (raw_ticks, row) in enumerate(samples):
            ticks[place] = now = self._unwrap(raw_ticks)
            if self._last_ticks is not None and now < self._last_ticks:
                backward.append(place)
            self._last_ticks = now
            values[place] = row
        example = junk[0][:_EXAMPLE].decode("ascii", "backslashreplace") if junk else ""
        return ParsedLines(ticks, values, tuple(backward), len(junk), example, dropped)

    def _unwrap(self, raw_ticks: int) -> int:
        """Follow the clock to a raw reading by the shorter way round."""
        if self._tick_place is None or self._last_ticks is None:
            return raw_ticks
        return self._last_ticks + wrapped_step(raw_ticks - self._last_ticks, self._config.tick_bits)


def wrapped_step(difference: int, bits: int) -> int:
    """Difference of two readings of a counter that wraps at `bits`, by the shorter way: -2^(bits-1) to 2^(bits-1)-1."""
    half = 1 << (bits - 1)
    return (difference + half) % (2 * half) - half


def format_line(config: LineDialectConfig, ticks: int, values: Sequence[float]) -> bytes:
    """Write one sample as its device would: ticks wrapped, values (in order of `value_columns`) unscaled."""
    by_column = dict(zip(config.value_columns, values, strict=True))
    fields = [
        str(ticks % (1 << config.tick_bits))
        if column == TICKS
        else _number(by_column[column] / config.scale.get(column, 1.0))
        for column in config.columns
    ]
    return (config.separator.join(fields) + "\n").encode("ascii")


def _number(value: float) -> str:
    """15 digits: a double's worth, without the noise that unscaling leaves in the 16th."""
    return f"{value:.15g}"
