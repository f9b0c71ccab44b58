"""Treadmill: an encoder's counts, and the running speed that follows from them."""

from dataclasses import replace
from itertools import pairwise
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from rig.drivers.dialects.line import wrapped_step
from rig.drivers.protocols import DriverContext, SampleMessages
from rig.drivers.serial_source import LineSourceConfig, SerialSource
from rig.messages import Samples, SampleStream

COUNT = "count"
RUNNING_SPEED = "running_speed"
_SLACK = 0.01  # of the window: a clock that is 50 ppm slow must not need one sample more


class Treadmill:
    """Records the dialect's columns as they come, and the running speed in mm/s as the last column."""

    class Config(LineSourceConfig):
        """Tag `treadmill`."""

        driver: Literal["treadmill"]
        columns: tuple[str, ...] = ("ticks", COUNT)
        wheel_diameter_mm: PositiveFloat
        """Where the animal runs."""
        counts_per_revolution: PositiveInt
        """Of the encoder, after quadrature."""
        count_bits: int = Field(default=32, ge=8, le=53)
        """Width at which the count wraps, signed or not."""
        speed_window_ms: PositiveFloat = 50.0
        """Speed is the mean over this time up to the sample, so it lags by half of it."""
        forward: Literal[1, -1] = 1
        """-1 when the count falls while the animal runs forward."""

        @model_validator(mode="after")
        def _speed_can_be_computed(self) -> Self:
            problem = self.lacks("ticks", COUNT)
            if problem:
                raise ValueError(f"{problem}: speed is counts by the device's own clock")
            if RUNNING_SPEED in self.columns:
                raise ValueError(
                    f"column {RUNNING_SPEED}: it is worked out here from {COUNT}; valid is any other name"
                )
            if COUNT in self.scale:
                raise ValueError(
                    "scale of count: wheel_diameter_mm and counts_per_revolution say what a count is"
                )
            return self

    def __init__(self, name: str, config: Config, context: DriverContext) -> None:
        self._source = SerialSource(name, config, context)
        self._count_column = config.value_columns.index(COUNT)
        self._speed = RunningSpeed(
            mm_per_count=config.forward * np.pi * config.wheel_diameter_mm / config.counts_per_revolution,
            window_s=config.speed_window_ms / 1000,
            tick_hz=config.tick_hz,
            count_bits=config.count_bits,
        )

    def open(self) -> SampleStream:
        """Open the port; the stream's last column is running_speed in mm/s. Raises `DeviceError`."""
        stream = self._source.open()
        named = zip(stream.columns, stream.units, strict=True)
        units = tuple(unit or (COUNT if column == COUNT else "") for column, unit in named)
        return replace(stream, columns=(*stream.columns, RUNNING_SPEED), units=(*units, "mm/s"))

    def start(self) -> None:
        """Begin to stream."""
        self._source.start()

    def read(self, timeout_s: float) -> SampleMessages:
        """Return what has arrived, waiting at most `timeout_s`; raises `DeviceLost`."""
        messages = self._source.read(timeout_s)
        return [self._with_speed(m) if isinstance(m, Samples) else m for m in messages]

    def stop(self) -> None:
        """Stop streaming. Safe twice."""
        self._source.stop()

    def close(self) -> None:
        """Let the port go. Safe twice."""
        self._source.close()

    def _with_speed(self, samples: Samples) -> Samples:
        speed_mm_s = self._speed.update(samples.device_ticks, samples.values[:, self._count_column])
        return replace(samples, values=np.column_stack([samples.values, speed_mm_s]))


class RunningSpeed:
    """Speed from counts, causal: mean over the shortest stretch up to a sample that spans the window (to 1 %).

    NaN until there is such a stretch: at the beginning, and after the device's clock went backward. Across lost
    samples the stretch is longer than the window and the mean still right.

    Parameters
    ----------
    mm_per_count
        Distance of one count; negative when the count falls while the animal runs forward.
    count_bits
        Width at which the count wraps, signed or not.
    """

    def __init__(self, mm_per_count: float, window_s: float, tick_hz: float, count_bits: int = 32) -> None:
        self._mm_per_count = mm_per_count
        self._window_ticks = (1 - _SLACK) * window_s * tick_hz
        self._tick_hz = tick_hz
        self._count_bits = count_bits
        self._ticks: NDArray[np.float64] = np.empty(0)
        self._positions: NDArray[np.float64] = np.empty(0)  # counts, unwrapped
        self._last: tuple[int, int] | None = None  # raw count, unwrapped position

    def update(self, ticks: NDArray[np.int64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the speed in mm/s at further samples, (n,); NaN where the count is NaN."""
        speed = np.full(len(ticks), np.nan)
        valid = np.flatnonzero(np.isfinite(counts))
        positions = np.array([self._unwrap(round(count)) for count in counts[valid]], np.float64)
        known_ticks = np.concatenate([self._ticks, ticks[valid]])
        known_positions = np.concatenate([self._positions, positions])
        first_new = len(self._ticks)
        for start, stop in _forward_stretches(known_ticks):
            own = slice(max(start, first_new), stop)
            now = valid[own.start - first_new : max(own.stop, own.start) - first_new]
            speed[now] = self._mean(known_ticks[start:stop], known_positions[start:stop])[own.start - start :]
        self._remember(known_ticks, known_positions)
        return speed

    def _unwrap(self, raw: int) -> int:
        """Follow the count by the shorter way round."""
        step = 0 if self._last is None else wrapped_step(raw - self._last[0], self._count_bits)
        position = raw if self._last is None else self._last[1] + step
        self._last = raw, position
        return position

    def _mean(self, ticks: NDArray[np.float64], positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean speed in mm/s up to each sample of a stretch in which the clock runs forward, (n,)."""
        before = np.searchsorted(ticks, ticks - self._window_ticks, side="right") - 1
        distance_mm = (positions - positions[before]) * self._mm_per_count
        with np.errstate(divide="ignore", invalid="ignore"):  # before = -1 is the last sample: masked below
            speed: NDArray[np.float64] = distance_mm * self._tick_hz / (ticks - ticks[before])
        speed[before < 0] = np.nan
        return speed

    def _remember(self, ticks: NDArray[np.float64], positions: NDArray[np.float64]) -> None:
        """Keep what later samples need: from the last sample at least a window ago, within one stretch."""
        if len(ticks):
            start, stop = _forward_stretches(ticks)[-1]
            oldest = np.searchsorted(ticks[start:stop], ticks[-1] - self._window_ticks, side="right") - 1
            start += max(int(oldest), 0)
            self._ticks, self._positions = ticks[start:stop], positions[start:stop]


def _forward_stretches(ticks: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Start and stop of the stretches in which the clock does not go backward."""
    edges = [0, *(np.flatnonzero(np.diff(ticks) < 0) + 1).tolist(), len(ticks)]
    return list(pairwise(edges))
