"""Pupil: diameter and position of the pupil, measured by a device of its own."""

from typing import Literal, Self

from pydantic import model_validator

from rig.drivers.protocols import DriverContext, SampleMessages
from rig.drivers.serial_source import LineSourceConfig, SerialSource
from rig.messages import SampleStream


class Pupil:
    """Records the dialect's columns, scaled as its file says; NaN is a blink."""

    class Config(LineSourceConfig):
        """Tag `pupil`."""

        driver: Literal["pupil"]
        columns: tuple[str, ...] = ("ticks", "diameter", "x", "y")

        @model_validator(mode="after")
        def _has_a_diameter(self) -> Self:
            problem = self.lacks("diameter")
            if problem:
                raise ValueError(problem)
            return self

    def __init__(self, name: str, config: Config, context: DriverContext) -> None:
        self._source = SerialSource(name, config, context)

    def open(self) -> SampleStream:
        """Open the port; raises `DeviceError`."""
        return self._source.open()

    def start(self) -> None:
        """Begin to stream."""
        self._source.start()

    def read(self, timeout_s: float) -> SampleMessages:
        """Return what has arrived, waiting at most `timeout_s`; raises `DeviceLost`."""
        return self._source.read(timeout_s)

    def stop(self) -> None:
        """Stop streaming. Safe twice."""
        self._source.stop()

    def close(self) -> None:
        """Let the port go. Safe twice."""
        self._source.close()
