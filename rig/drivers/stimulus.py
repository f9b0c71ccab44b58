"""The computer that shows movies: which clip and which of its frames is on the screen, over a serial line."""

from typing import Literal, Self

from pydantic import model_validator

from rig.drivers.dialects.line import LineConfig
from rig.drivers.lines import Lines


class StimulusConfig(LineConfig):
    """The stimulus computer's frame counter; clip -1 means that no movie is shown."""

    driver: Literal["stimulus"]
    columns: tuple[str, ...] = ("ticks", "clip", "movie_frame")

    @model_validator(mode="after")
    def _has_place(self) -> Self:
        if not {"clip", "movie_frame"} <= set(self.columns):
            raise ValueError(
                f"columns {list(self.columns)}: a stimulus needs columns called clip and movie_frame"
            )
        return self


class Stimulus(Lines):
    """`EventSource` of the place in the movies."""

    Config = StimulusConfig
