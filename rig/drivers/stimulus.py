"""Stimulus: which frame of which movie is on the screen, told by the computer that shows it."""

from typing import Literal, Self

from pydantic import model_validator

from rig.drivers.serial_source import LineSourceConfig, SerialSource


class Stimulus(SerialSource):
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
