"""Which movie frame was on the screen when a decoded frame was taken, and how alike the two are. No Qt."""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gui.contrast import bin_frame
from rig.config import StimulusConfig
from rig.messages import Prediction, PredictionStatus, Samples, SampleStream

Picture = NDArray[np.float32]
_STALE_NS = 1_000_000_000
_MOST_WAITING = 16
_FULL_SCALE = {"1": 255.0}  # units other than grey levels, and what makes grey levels of them


class StimulusTrack:
    """Follows the stimulus stream: the movie frame on the screen at a session time."""

    def __init__(self, stream: SampleStream, config: StimulusConfig, movies: NDArray[np.uint8]) -> None:
        self._clip, self._frame = stream.columns.index("clip"), stream.columns.index("movie_frame")
        self._movies = movies
        self._shown: deque[tuple[int, int, int]] = deque(maxlen=max(64, round(4 * config.movie.rate_hz)))

    @property
    def newest_ns(self) -> int:
        """Session time up to which the screen is known."""
        return self._shown[-1][0] if self._shown else -1

    def take(self, samples: Samples) -> None:
        """Take what the stimulus computer said."""
        for session_ns, row in zip(samples.session_ns, samples.values, strict=True):
            self._shown.append((int(session_ns), int(row[self._clip]), int(row[self._frame])))

    def at(self, session_ns: int) -> Picture | None:
        """Return the movie frame on the screen then, grey levels; None between clips or when not known."""
        before = next((shown for shown in reversed(self._shown) if shown[0] <= session_ns), None)
        if before is None or session_ns - before[0] > _STALE_NS:
            return None
        _, clip, frame = before
        known = 0 <= clip < len(self._movies) and 0 <= frame < self._movies.shape[1]
        return self._movies[clip, frame].astype(np.float32) if known else None


class VideoCorrelation:
    """Pearson correlation over all pixels and frames of the last `window_ns`; NaN pixels are left out."""

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._sums: deque[tuple[int, NDArray[np.float64]]] = deque()

    @property
    def frames(self) -> int:
        """How many frames the value is of."""
        return len(self._sums)

    @property
    def value(self) -> float:
        """The correlation, NaN while there is none."""
        if not self._sums:
            return math.nan
        n, x, y, xx, yy, xy = np.sum([sums for _, sums in self._sums], axis=0)
        spread = (n * xx - x * x) * (n * yy - y * y)
        return float((n * xy - x * y) / math.sqrt(spread)) if spread > 0 else math.nan

    def add(self, session_ns: int, shown: Picture, reconstructed: Picture) -> None:
        """Take one pair of pictures of the same shape."""
        finite = np.isfinite(reconstructed)
        x, y = shown[finite].astype(np.float64), reconstructed[finite].astype(np.float64)
        sums = np.array([x.size, x.sum(), y.sum(), x @ x, y @ y, x @ y])
        self._sums.append((session_ns, sums))
        while session_ns - self._sums[0][0] > self._window_ns:
            self._sums.popleft()


@dataclass(frozen=True, slots=True)
class Pair:
    """One reconstruction and what was on the screen at that time, both in grey levels, and whether it is known."""

    session_ns: int
    shown: Picture | None
    reconstructed: Picture | None
    status: int = PredictionStatus.WARMING_UP


class ReconstructionMatch:
    """Pairs one decoder's reconstructions with the movie; `pair` is the latest.

    A reconstruction is of the movie frame shown `lag_ns` before its camera frame. It waits until the stimulus
    stream has passed that time: serial lines arrive late, the newest movie frame known could be one too old.
    """

    def __init__(self, unit: str, lag_ns: int, track: StimulusTrack | None, window_ns: int) -> None:
        self.track = track
        self.correlation = VideoCorrelation(window_ns)
        self.pair = Pair(-1, None, None)
        self._lag_ns = lag_ns
        self._scale = np.float32(_FULL_SCALE.get(unit, 1.0))
        self._waiting: deque[Prediction] = deque()

    def take(self, prediction: Prediction) -> None:
        """Take one reconstruction, (H, W)."""
        self._waiting.append(prediction)

    def match(self) -> None:
        """Pair what can be paired by now."""
        while self._waiting and self._can_pair(self._waiting[0]):
            self._pair(self._waiting.popleft())

    def _can_pair(self, prediction: Prediction) -> bool:
        if self.track is None or len(self._waiting) > _MOST_WAITING:
            return True
        return prediction.frame_session_ns - self._lag_ns < self.track.newest_ns

    def _pair(self, prediction: Prediction) -> None:
        at_ns = prediction.frame_session_ns - self._lag_ns
        picture: Picture | None = prediction.values * self._scale
        if not np.isfinite(prediction.values).any():
            picture = None
        shown = self.track.at(at_ns) if self.track else None
        self.pair = Pair(at_ns, shown, picture, prediction.status)
        if shown is not None and picture is not None:
            same_size = bin_frame(shown, max(picture.shape))
            if same_size.shape == picture.shape:
                self.correlation.add(at_ns, same_size, picture)
