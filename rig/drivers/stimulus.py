"""Stimulus: which frame of which movie is on the screen, told by the computer that shows it."""

from typing import Literal, Self

from pydantic import model_validator

from rig.drivers.protocols import DriverContext, SampleMessages
from rig.drivers.serial_source import LineSourceConfig, SerialSource
from rig.messages import SampleStream


class Stimulus:
    """Records clip and movie_frame as shown; clip is -1 between clips."""

    class Config(LineSourceConfig):
        """Tag `stimulus`."""

        driver: Literal["stimulus"]
        columns: tuple[str, ...] = ("ticks", "clip", "movie_frame")

        @model_validator(mode="after")
        def _says_what_is_shown(self) -> Self:
            problem = self.lacks("clip", "movie_frame")
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
