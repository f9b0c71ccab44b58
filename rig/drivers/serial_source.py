"""The part that every serial source is composed of: the lines of a port to messages.

Owns the index of samples, and how missing lines, clock jumps, junk and silence are told. The port is
`rig.drivers.serial_port`'s part, the line `rig.drivers.dialects.line`'s, and what the numbers mean the driver's.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rig.config import SerialConfig
from rig.drivers.dialects.line import LineDialectConfig, LineParser, ParsedLines
from rig.drivers.protocols import DriverContext, SampleMessages
from rig.drivers.serial_port import PortConfig, SerialPort
from rig.errors import DeviceError, DeviceLost
from rig.messages import Event, Gap, Samples, SampleStream

_SECOND_NS = 1_000_000_000
_QUIET_NS = 500_000_000  # a line of 256 bytes takes 270 ms at 9600 baud: what comes later has its beginning
_GAP_PERIODS = 1.5  # a step of the device's clock beyond this many periods: lines are missing
_TRUSTED_LEAD_NS = _SECOND_NS  # the device's clock cannot outrun the host's by more: then it jumped


class LineSourceConfig(PortConfig, LineDialectConfig, SerialConfig):
    """What every serial source that speaks the line dialect has."""

    hello: str = "start\n"
    """Sent to make the device begin, since opening a port throws away what waited; empty: it talks all the time."""
    goodbye: str = "stop\n"
    """Sent to make it end; empty: nothing is sent."""

    def lacks(self, *wanted: str) -> str | None:
        """Say which of the columns a driver needs are not there; None when all are."""
        missing = [column for column in wanted if column not in self.columns]
        return f"columns {list(self.columns)} lack {', '.join(missing)}" if missing else None


class SerialSource:
    """Bytes of a port to `Samples`, `Gap` and `Event` messages; lives as an `EventSource` does.

    Each read gives one batch, split where lines are missing. `Samples.index` counts samples, lost ones included.
    Events: ``serial_junk`` (lines that are no samples, at most once a second, with their count), ``clock_jump`` (the
    device's clock went backward, or further forward than time has passed: it was reset, or the line is corrupt)
    and ``serial_silent`` (nothing for a second although the device has a nominal rate).
    """

    def __init__(self, name: str, config: LineSourceConfig, context: DriverContext) -> None:
        self._name = name
        self._config = config
        self._context = context
        self._port: SerialPort | None = None
        self._streaming = False
        self._begun = False  # to speak, since the start
        self._parser = LineParser(config)
        self._lines = _LineCounter(name, config)
        self._junk = _JunkReport(name)
        self._heard_ns = 0  # when something came last, or the wait for it began
        self._hello_ns = 0
        self._silent = False  # and told

    def open(self) -> SampleStream:
        """Open the port and describe the stream: the dialect's columns and units, as scaled.

        Raises
        ------
        DeviceError
            When the port cannot be opened.
        """
        port = self._context.resolve_port(self._name, self._config.port)
        self._port = SerialPort(self._name, port, self._config.baud)
        columns = self._config.value_columns
        return SampleStream(
            name=self._name,
            columns=columns,
            units=tuple(self._config.units.get(column, "") for column in columns),
            rate_hz=self._config.rate_hz,
            tick_hz=self._config.tick_hz,
            properties={"port": self._port.port, "low_latency": "on" if self._port.low_latency else "off"},
        )

    def start(self) -> None:
        """Forget stale input and say hello; a line that may have begun before is passed over. Raises `DeviceLost`."""
        self._opened().discard_input()
        self._begun = False
        self._lines.forget_time()
        self._heard_ns, self._silent = self._context.clock.now_ns(), False
        self._streaming = True
        self._say_hello(self._heard_ns)

    def read(self, timeout_s: float) -> SampleMessages:
        """Return what has arrived, waiting at most `timeout_s`; raises `DeviceLost`."""
        try:
            received = self._opened().read(timeout_s)
        except DeviceLost:
            self._streaming = False  # there is nobody to say goodbye to
            raise
        arrival_ns = self._context.clock.now_ns()
        if received and not self._begun:
            self._begun = True
            self._parser = LineParser(self._config, mid_line=arrival_ns - self._heard_ns < _QUIET_NS)
        parsed = self._parser.feed(received)
        self._junk.add(parsed)
        messages = list(self._lines.messages(parsed, arrival_ns))
        messages += self._junk.due(arrival_ns, at_once=not self._streaming)
        messages += self._silence(arrival_ns, heard=bool(received))
        return messages

    def stop(self) -> None:
        """Say goodbye; what was sent before is returned by further reads. Safe twice."""
        if self._streaming:
            self._streaming = False
            self._opened().write(self._config.goodbye.encode())

    def close(self) -> None:
        """Stop, and give the port back. Safe twice, and after a failed `open`."""
        try:
            self.stop()
        finally:
            port, self._port = self._port, None
            if port is not None:
                port.close()

    def _opened(self) -> SerialPort:
        if self._port is None:
            raise DeviceError(f"{self._name}: port {self._config.port} is used before open or after close")
        return self._port

    def _say_hello(self, now_ns: int) -> None:
        self._hello_ns = now_ns
        self._opened().write(self._config.hello.encode())

    def _silence(self, arrival_ns: int, heard: bool) -> Iterator[Event]:
        """Tell once that a device with a nominal rate says nothing; until it has begun, say hello again.

        A board that resets when its port is opened (an Arduino Uno does) sleeps through the first hello.
        """
        if heard:
            self._heard_ns, self._silent = arrival_ns, False
        quiet_ns = arrival_ns - self._heard_ns
        if not self._streaming or not self._config.rate_hz or quiet_ns < _SECOND_NS:
            return
        if not self._lines.index and arrival_ns - self._hello_ns >= _SECOND_NS:
            self._say_hello(arrival_ns)
        if not self._silent:
            self._silent = True
            text = f"nothing for {quiet_ns / _SECOND_NS:.1f} s from port {self._opened().port}"
            yield Event(self._name, "serial_silent", text, arrival_ns)


class _LineCounter:
    """Gives samples their index, and sees from the device's clock where lines are missing or the clock jumped."""

    def __init__(self, name: str, config: LineSourceConfig) -> None:
        self._name = name
        self._ticks_per_ns = config.tick_hz / _SECOND_NS
        self._period = config.tick_hz / config.rate_hz if config.rate_hz else 0.0  # ticks; 0: not known
        self._last: tuple[int, int] | None = None  # ticks and arrival of the last sample
        self.index = 0  # of the next sample

    def forget_time(self) -> None:
        """Begin anew: what passed until now is no gap."""
        self._last = None

    def messages(self, parsed: ParsedLines, arrival_ns: int) -> Iterator[Samples | Gap | Event]:
        """Split what was parsed where samples are missing."""
        steps = self._steps(parsed)
        jumps = self._jumps(parsed, steps, arrival_ns)
        start = 0
        for place in np.flatnonzero(jumps | self._holes(steps)):
            yield from self._samples(parsed, start, int(place), arrival_ns)
            if jumps[place]:
                text = f"the device's clock stepped by {steps[place]:+.0f} ticks to {parsed.ticks[place]}"
                yield Event(self._name, "clock_jump", text, arrival_ns)
            else:
                yield self._gap(float(steps[place]), arrival_ns)
            start = int(place)
        yield from self._samples(parsed, start, len(parsed.ticks), arrival_ns)
        if len(parsed.ticks):
            self._last = int(parsed.ticks[-1]), arrival_ns

    def _steps(self, parsed: ParsedLines) -> NDArray[np.float64]:
        """Ticks since the sample before, (n,); NaN where there is none before."""
        before = np.nan if self._last is None else float(self._last[0])
        return np.diff(parsed.ticks.astype(np.float64), prepend=before)

    def _jumps(self, parsed: ParsedLines, steps: NDArray[np.float64], arrival_ns: int) -> NDArray[np.bool_]:
        """Where the clock went backward, or ahead of the host's by more than a delay explains, (n,) bool."""
        passed_ns = 0 if self._last is None else arrival_ns - self._last[1]
        jumps: NDArray[np.bool_] = steps > (passed_ns + _TRUSTED_LEAD_NS) * self._ticks_per_ns
        jumps[list(parsed.backward)] = True
        return jumps & (self._ticks_per_ns > 0)

    def _holes(self, steps: NDArray[np.float64]) -> NDArray[np.bool_]:
        holes: NDArray[np.bool_] = (steps > _GAP_PERIODS * self._period) & (self._period > 0)
        return holes

    def _samples(self, parsed: ParsedLines, start: int, stop: int, arrival_ns: int) -> Iterator[Samples]:
        if stop > start:
            ticks, values = parsed.ticks[start:stop], parsed.values[start:stop]
            yield Samples(self._name, self.index, arrival_ns, ticks, values)
            self.index += stop - start

    def _gap(self, step: float, arrival_ns: int) -> Gap:
        lost = max(1, round(step / self._period) - 1)
        first, self.index = self.index, self.index + lost
        reason = f"the device's clock stepped by {step:.0f} ticks, {self._period:.0f} are one period"
        return Gap(self._name, first, first + lost - 1, arrival_ns, reason)


class _JunkReport:
    """Adds up lines that are no samples, and tells of them at most once a second."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0
        self._example = ""
        self._told_ns: int | None = None

    def add(self, parsed: ParsedLines) -> None:
        self._count += parsed.junk
        self._example = self._example or parsed.junk_example

    def due(self, arrival_ns: int, at_once: bool) -> Iterator[Event]:
        """Tell what has not been told, unless it is too soon."""
        too_soon = self._told_ns is not None and arrival_ns - self._told_ns < _SECOND_NS
        if not self._count or (too_soon and not at_once):
            return
        text = f"{self._count} lines are no samples, e.g. {self._example!r}"
        yield Event(self._name, "serial_junk", text, arrival_ns)
        self._count, self._example, self._told_ns = 0, "", arrival_ns
