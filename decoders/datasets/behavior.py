"""Recordings of cortex and running as every reader gives them, whatever layout they lie in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rig.bouts import find_bouts, in_bouts
from rig.config import Landmark
from rig.errors import DataError

_NS_PER_S = 1_000_000_000


class FrameSource(Protocol):
    """Frames that stay on the disk until a slice of them is asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, H, W)."""
        ...

    def __getitem__(self, frames: slice, /) -> NDArray[np.generic]:
        """Frames of a contiguous slice, (n, H, W)."""
        ...


@dataclass(frozen=True, slots=True)
class LabelRule:
    """When an animal counts as running: its speed smoothed, thresholded, short bouts dropped.

    The mean speed of the last `smoothing_s` counts. Kept with every model that is trained on its labels. Labels
    that come ready-made (the published `runrest`) have none.
    """

    threshold_mm_s: float = 10.0
    smoothing_s: float = 0.2
    min_bout_s: float = 0.5

    def label(self, speed_mm_s: NDArray[np.floating], rate_hz: float) -> NDArray[np.bool_]:
        """Whether the animal runs at every sample of a regular speed trace (T,)."""
        session_ns = np.rint(np.arange(len(speed_mm_s)) / rate_hz * _NS_PER_S).astype(np.int64)
        return self.at_times(session_ns, speed_mm_s, session_ns)

    def at_times(
        self,
        session_ns: NDArray[np.int64],
        speed_mm_s: NDArray[np.floating],
        at_ns: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """Whether the animal runs at each of the times `at_ns` (T,), by a speed (n,) sampled at `session_ns` (n,).

        The last speed holds until the last of the times.
        """
        smoothing_ns, min_bout_ns = (round(s * _NS_PER_S) for s in (self.smoothing_s, self.min_bout_s))
        end_ns = max(session_ns[-1], at_ns[-1]) + 1 if len(session_ns) and len(at_ns) else 0
        times = np.append(session_ns, end_ns)
        speeds = np.append(np.asarray(speed_mm_s, np.float64), speed_mm_s[-1:])
        bouts = find_bouts(times[: len(speeds)], speeds, self.threshold_mm_s, smoothing_ns, min_bout_ns)
        return in_bouts(at_ns, bouts)


@dataclass(frozen=True, slots=True)
class BehaviorRecording:
    """One recording session of one mouse.

    Attributes
    ----------
    mouse, session
        Who, and which of its sessions; a session's name is unique within a data set.
    path
        File of the frames: what errors name.
    rate_hz
        Frame rate.
    frames
        (T, H, W), read slice by slice.
    running
        (T,), whether the animal runs at each frame.
    speed_mm_s
        (T,), speed at each frame.
    origin
        "simulated" or "recorded".
    rule
        How `running` was made from the speed; None when the data set brings its labels.
    landmarks_px
        Skull landmarks in the frames, (column, row); empty when unknown.
    roi_traces
        (T, ROIs), traces that the data set itself brings, or None.
    """

    mouse: str
    session: str
    path: Path
    rate_hz: float
    frames: FrameSource
    running: NDArray[np.bool_]
    speed_mm_s: NDArray[np.float64]
    origin: str = "recorded"
    rule: LabelRule | None = None
    landmarks_px: dict[Landmark, tuple[float, float]] | None = None
    roi_traces: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        frames, labels = self.frames.shape[0], len(self.running)
        if frames != labels or labels != len(self.speed_mm_s):
            speeds = len(self.speed_mm_s)
            raise DataError(
                f"{self.path}: {frames} frames, {labels} labels, {speeds} speeds; valid is one of each a frame"
            )

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return self.frames.shape[1], self.frames.shape[2]

    def __len__(self) -> int:
        return len(self.running)

    def whole(self) -> "Excerpt":
        """Return all of it as an excerpt."""
        return Excerpt(self, 0, len(self))


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A contiguous stretch of a recording, frames `start` to `stop` (excluded): what is trained or scored on."""

    recording: BehaviorRecording
    start: int
    stop: int

    @property
    def frames(self) -> slice:
        """The stretch as a slice of the recording's frames."""
        return slice(self.start, self.stop)

    @property
    def running(self) -> NDArray[np.bool_]:
        """Labels of the stretch, (stop - start,)."""
        return self.recording.running[self.frames]

    def __len__(self) -> int:
        return self.stop - self.start
