"""A pupil camera that measures by itself and sends its results over a serial line."""

from typing import Literal, Self

from pydantic import Field, model_validator

from rig.drivers.dialects.line import LineConfig
from rig.drivers.lines import Lines


class PupilConfig(LineConfig):
    """A pupil camera's diameter and position, in mm after scaling."""

    driver: Literal["pupil"]
    columns: tuple[str, ...] = ("ticks", "diameter", "x", "y")
    units: dict[str, str] = Field(default_factory=lambda: {"diameter": "mm", "x": "mm", "y": "mm"})

    @model_validator(mode="after")
    def _has_diameter(self) -> Self:
        if "diameter" not in self.columns:
            raise ValueError(f"columns {list(self.columns)}: a pupil camera needs a column called diameter")
        return self


class Pupil(Lines):
    """`EventSource` of pupil diameter and position."""

    Config = PupilConfig
