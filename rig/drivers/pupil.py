"""Pupil: diameter and position of the pupil, measured by a device of its own."""

from typing import Literal, Self

from pydantic import model_validator

from rig.drivers.serial_source import LineSourceConfig, SerialSource


class Pupil(SerialSource):
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
