"""What the files of a data set do not say about themselves."""

from dataclasses import dataclass
from typing import Literal

SpeedUnit = Literal["m/s", "cm/s", "mm/s"]
MM_S: dict[SpeedUnit, float] = {"m/s": 1000.0, "cm/s": 10.0, "mm/s": 1.0}
"""How many mm/s one of each unit is."""


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """How to read data that leave something open; None lets the reader find out, or take the layout's own default.

    Attributes
    ----------
    series
        Name or path of the one-photon series in NWB files of other programs.
    speed
        Name or path of the running speed in them.
    speed_unit
        Unit of the speed: overrides what an NWB file states; the published layout states none and is taken as cm/s.
    rate_hz
        Frame rate of the published layout, which states none: 30 Hz (Ajioka et al. 2024, methods).
    """

    series: str | None = None
    speed: str | None = None
    speed_unit: SpeedUnit | None = None
    rate_hz: float = 30.0
