"""Serial sources that are no more than their lines: a pupil camera's results, the stimulus computer's frame counter."""

from rig.drivers.dialects.line import LineConfig
from rig.drivers.protocols import DriverContext, SampleMessages
from rig.drivers.serial_port import LineSource
from rig.errors import DeviceError
from rig.messages import SampleStream


class Lines:
    """`EventSource` that passes its columns on as they are."""

    def __init__(self, name: str, config: LineConfig, context: DriverContext) -> None:
        self._name, self._config, self._context = name, config, context
        self._source: LineSource | None = None

    def open(self) -> SampleStream:
        """Open the port."""
        port = self._context.resolve_port(self._name, self._config.port)
        self._source = LineSource(self._name, port, self._config, self._context.clock)
        columns = self._config.value_columns
        units = tuple(self._config.units.get(name, "") for name in columns)
        rate_hz, tick_hz = self._config.rate_hz, self._config.tick_hz
        return SampleStream(self._name, columns, units, rate_hz, tick_hz, {"port": self._config.port})

    def start(self) -> None:
        """Ask for samples."""
        self._opened().start()

    def read(self, timeout_s: float) -> SampleMessages:
        """Return what arrived."""
        return self._opened().read(timeout_s)

    def stop(self) -> None:
        """Ask for no more. Safe twice."""
        if self._source is not None:
            self._source.stop()

    def close(self) -> None:
        """Close the port. Safe twice, and before it was opened."""
        if self._source is not None:
            self._source.close()

    def _opened(self) -> LineSource:
        if self._source is None:
            raise DeviceError(f"{self._name}: has not been opened")
        return self._source
