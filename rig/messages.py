"""What travels: from drivers to the recorder, the closed loop, and over the bus to other processes.

All times are integer nanoseconds of *session time*: the host's monotonic clock since the session's zero
(`rig.sync.clock.SessionClock`). `arrival_ns` is when the host had the data in hand; `session_ns` is the best
estimate of when it was true, with `uncertainty_ns` (-1: not aligned, `session_ns` is then the arrival).
`device_ticks` is the device's own clock as received, unwrapped (-1: the device has none).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

NO_TICKS = -1
NOT_ALIGNED = -1
NO_FRAME = -1
"""Index of a decoder's statement that answers no frame: none came."""


# --- descriptions: what a stream looks like, known before its first message ---------------------------------


@dataclass(frozen=True, slots=True)
class FrameStream:
    """A camera's stream as its driver describes it once opened.

    `tick_hz` is the rate of `Frame.device_ticks` (0: the camera has no clock). `properties` is whatever the
    device reports of itself (model, serial number, exposure), stored with the recording. `landmarks_px` says where
    the skull's landmarks lie in a frame, (column, row), as the rig's YAML has them.
    """

    name: str
    height_px: int
    width_px: int
    dtype: str
    rate_hz: float
    tick_hz: float
    properties: dict[str, str] = field(default_factory=dict)
    landmarks_px: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame."""
        return self.height_px * self.width_px * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class SampleStream:
    """A serial stream: column names with their units, and the device's nominal rate (0: event-driven)."""

    name: str
    columns: tuple[str, ...]
    units: tuple[str, ...]
    rate_hz: float
    tick_hz: float
    properties: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PredictionStream:
    """A decoder's output as its process describes it once its checkpoint is loaded.

    `source` is the frame stream it decodes; `shape` is that of one prediction's values, () for a scalar. A decoder
    with `importance` also says which part of the image it uses, on the stream `importance_stream`; one that is
    `refined` gives better answers later, as predictions on the stream `refined_stream`. Neither is recorded.
    """

    name: str
    source: str
    shape: tuple[int, ...]
    unit: str
    description: str
    provenance: dict[str, str] = field(default_factory=dict)
    importance: bool = field(default=False, compare=False)  # of what is shown, not of what is decided
    refined: bool = field(default=False, compare=False)  # as importance
    per_roi: bool = False
    """Whether its values are one for each region of interest; the session file then holds the regions too."""

    @property
    def importance_stream(self) -> str:
        """Name of the stream of its importance maps."""
        return f"{self.name}.importance"

    @property
    def refined_stream(self) -> str:
        """Name of the stream of what it makes of its answers in idle time."""
        return f"{self.name}.refined"


# --- messages ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frame:
    """One camera image. `index` counts every frame the camera took, lost ones included."""

    stream: str
    index: int
    device_ticks: int
    arrival_ns: int
    pixels: NDArray[np.generic]  # (H, W)
    session_ns: int = 0
    uncertainty_ns: int = NOT_ALIGNED


@dataclass(frozen=True, slots=True)
class Samples:
    """A batch of one serial stream: what one read brought. `index` is that of the first sample."""

    stream: str
    index: int
    arrival_ns: int
    device_ticks: NDArray[np.int64]  # (n,)
    values: NDArray[np.float64]  # (n, columns)
    session_ns: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))  # (n,)
    uncertainty_ns: int = NOT_ALIGNED


@dataclass(frozen=True, slots=True)
class Gap:
    """Data known to be lost: indices `first` to `last`, both included, in their place in the stream."""

    stream: str
    first: int
    last: int
    arrival_ns: int
    reason: str
    session_ns: int = 0

    @property
    def count(self) -> int:
        """How many are missing."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, in words: a note, a device lost, a decoder restarted, junk on a serial line."""

    stream: str
    kind: str
    text: str
    arrival_ns: int
    session_ns: int = 0


class PredictionStatus(IntEnum):
    """Whether a decoder knows the answer, and if not, why."""

    OK = 0
    WARMING_UP = 1
    FRAMES_MISSING = 2
    CAMERA_STALLED = 3
    IMAGE_MOVED = 4

    @property
    def words(self) -> str:
        """What a person reads."""
        return "ok" if self is PredictionStatus.OK else f"unknown: {self.name.lower().replace('_', ' ')}"


def count_unknown(statuses: Mapping[int, int]) -> dict[str, int]:
    """How often a decoder did not know, by reason, of how often it gave each status."""
    return {s.name.lower(): statuses.get(s, 0) for s in PredictionStatus if s is not PredictionStatus.OK}


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer of one decoder, to one frame, with the time line of how it came about.

    `index` counts the decoder's answers and `generation` its starts (a restarted decoder has lost its state).
    `skipped` frames were dropped from its queue before this one. `status` is a `PredictionStatus`: unless it is OK,
    values are NaN and nothing may act on them.

    When frames fail to come the decoder says so once, in a prediction that answers none: `index` and `source_index`
    are NO_FRAME, `frame_session_ns` stands just after the last frame, all other times are of the moment it noticed.
    """

    stream: str
    index: int
    generation: int
    source_index: int
    skipped: int
    values: NDArray[np.float32]
    frame_session_ns: int
    frame_arrival_ns: int
    dequeue_ns: int
    inference_start_ns: int
    inference_end_ns: int
    status: int = PredictionStatus.OK

    @property
    def answers_frame(self) -> bool:
        """Whether it is about a frame, not about frames that failed to come."""
        return self.source_index != NO_FRAME


@dataclass(frozen=True, slots=True)
class Output:
    """One command to an output device: why, when decided, when written, and what the device answered.

    `prediction_index` is -1 when no prediction caused it (safe state, start, stop); `answered_ns` is -1 and
    `answer` empty when the device stayed silent.
    """

    stream: str
    index: int
    on: bool
    reason: str
    prediction_index: int
    decided_ns: int
    written_ns: int
    answered_ns: int
    answer: str


@dataclass(frozen=True, slots=True)
class ImportanceMap:
    """Where in the image a decoder looks now: how much its answer loses when that place is blanked. Never recorded.

    `values` covers the camera's whole image with (rows, columns) equal tiles: the mean drop in the probability of
    what the decoder says, NaN where it is not known yet. It is a mean over the last `seconds`.
    """

    stream: str
    source_index: int
    session_ns: int
    seconds: float
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EndOfStream:
    """A stream's last message."""

    stream: str
    arrival_ns: int
    reason: str


Message = Frame | Samples | Gap | Event | Prediction | Output | ImportanceMap | EndOfStream
