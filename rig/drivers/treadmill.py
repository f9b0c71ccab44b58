"""A treadmill: an encoder's count over a serial line, and the running speed that follows from it."""

import math
from collections import deque
from dataclasses import replace
from typing import Literal, Self

import numpy as np
from pydantic import Field, PositiveFloat, model_validator

from rig.drivers.dialects.line import LineConfig
from rig.drivers.lines import Lines
from rig.drivers.protocols import DriverContext, SampleMessages
from rig.messages import Samples, SampleStream


class TreadmillConfig(LineConfig):
    """A treadmill's encoder that sends its count in lines."""

    driver: Literal["treadmill"]
    columns: tuple[str, ...] = ("ticks", "count")
    units: dict[str, str] = Field(default_factory=lambda: {"count": "count"})
    wheel_diameter_mm: PositiveFloat
    counts_per_revolution: PositiveFloat
    count_bits: int = Field(default=32, ge=8, le=62)
    """The count starts again after so many bits."""
    forward: Literal[1, -1] = 1
    """-1 when the count falls while the animal runs forward."""
    speed_window_ms: PositiveFloat = 50.0
    """Speed is the distance over this last stretch of time."""

    @model_validator(mode="after")
    def _has_count(self) -> Self:
        if "count" not in self.columns:
            raise ValueError(f"columns {list(self.columns)}: a treadmill needs a column called count")
        return self


class RunningSpeed:
    """Speed in mm/s from an encoder's count: distance over the last `window`, by the device's own clock; causal."""

    def __init__(self, config: TreadmillConfig) -> None:
        self._mm_per_count = (
            config.forward * math.pi * config.wheel_diameter_mm / config.counts_per_revolution
        )
        self._range = 1 << config.count_bits
        self._tick_hz = config.tick_hz
        self._window_ticks = config.speed_window_ms / 1e3 * config.tick_hz
        self._recent: deque[tuple[int, int]] = deque()  # (ticks, unrolled count)

    def update(self, ticks: int, count: float) -> float:
        """Take one sample; return the speed, NaN until two samples are known."""
        if not math.isfinite(count):
            return math.nan
        self._recent.append((ticks, self._unroll(int(count))))
        while len(self._recent) > 2 and ticks - self._recent[0][0] > self._window_ticks:
            self._recent.popleft()
        (first_ticks, first), (last_ticks, last) = self._recent[0], self._recent[-1]
        if last_ticks <= first_ticks:
            return math.nan
        return (last - first) * self._mm_per_count / ((last_ticks - first_ticks) / self._tick_hz)

    def _unroll(self, count: int) -> int:
        """Continue the last count over a turn of the counter."""
        if not self._recent:
            return count
        last = self._recent[-1][1]
        step = (count - last + self._range // 2) % self._range - self._range // 2
        return last + step


class Treadmill:
    """`EventSource` of counts and running speed."""

    Config = TreadmillConfig

    def __init__(self, name: str, config: TreadmillConfig, context: DriverContext) -> None:
        self._lines = Lines(name, config, context)
        self._count_at = config.value_columns.index("count")
        self._speed = RunningSpeed(config)

    def open(self) -> SampleStream:
        """Open the port; columns are those of the line, and running_speed in mm/s."""
        stream = self._lines.open()
        return replace(stream, columns=(*stream.columns, "running_speed"), units=(*stream.units, "mm/s"))

    def start(self) -> None:
        """Ask for samples."""
        self._lines.start()

    def read(self, timeout_s: float) -> SampleMessages:
        """Return what arrived, with the speed in the last column."""
        messages = self._lines.read(timeout_s)
        return [self._with_speed(m) if isinstance(m, Samples) else m for m in messages]

    def stop(self) -> None:
        """Ask for no more. Safe twice."""
        self._lines.stop()

    def close(self) -> None:
        """Close the port. Safe twice, and before it was opened."""
        self._lines.close()

    def _with_speed(self, samples: Samples) -> Samples:
        counts = samples.values[:, self._count_at]
        speed = [
            self._speed.update(int(t), float(c)) for t, c in zip(samples.device_ticks, counts, strict=True)
        ]
        return replace(samples, values=np.column_stack([samples.values, np.array(speed)]))
