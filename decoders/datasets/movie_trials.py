"""Movies and responses as every reader gives them: mice, their trials, and trials read when asked for."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rig.errors import DataError

MOVIE_PX = (36, 64)  # height and width of a movie's frame, as of Sensorium 2023
TRAIN = "train"
TIERS = (
    TRAIN,
    "oracle",
    "live_test_main",
    "live_test_bonus",
    "final_test_main",
    "final_test_bonus",
    "none",
)
"""Of Sensorium 2023."""


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One presentation of a movie, T frames of the mouse's rate, without padding; all float32 and finite."""

    video: NDArray[np.float32]  # (36, 64, T), grey levels 0 to 255
    responses: NDArray[np.float32]  # (N, T)
    behavior: NDArray[np.float32]  # (2, T): pupil dilation, running speed
    pupil_center: NDArray[np.float32]  # (2, T)


@dataclass(frozen=True, slots=True)
class MovieTrial:
    """Where one presentation lies, and which movie it shows.

    Attributes
    ----------
    mouse
        Name of the mouse's folder or session.
    name
        The trial's name in its data.
    tier
        One of `TIERS`.
    clip
        Identity of the movie: equal for repeats and near duplicates, in all mice that were opened together.
    """

    mouse: str
    name: str
    tier: str
    clip: str
    read: Callable[[], Trial] = field(repr=False, compare=False)

    def load(self) -> Trial:
        """Read the trial from its files.

        Raises
        ------
        DataError
            When a file is missing, cut short, or disagrees with the others.
        """
        return self.read()


@dataclass(frozen=True, slots=True, eq=False)
class MovieMouse:
    """One mouse's presentations of movies.

    Attributes
    ----------
    name
        Of the recording: the folder's, or the session file's.
    animal
        Who was recorded; several recordings may be of one.
    path
        Folder or file of its data.
    neurons
        How many, N.
    rate_hz
        Of frames and responses.
    response_std
        Standard deviation of each neuron's responses over the training trials, (N,).
    origin
        "simulated" or "recorded".
    """

    name: str
    animal: str
    path: Path
    neurons: int
    rate_hz: float
    trials: tuple[MovieTrial, ...]
    response_std: NDArray[np.float32]
    origin: str

    def of_tier(self, tier: str) -> list[MovieTrial]:
        """Trials of one tier, in order.

        Raises
        ------
        DataError
            When the mouse has none.
        """
        found = [trial for trial in self.trials if trial.tier == tier]
        if not found:
            have = ", ".join(sorted({trial.tier for trial in self.trials})) or "no trial"
            raise DataError(f"{self.path}: no trial of tier {tier!r}; it has {have}")
        return found

    def reliability(self) -> NDArray[np.float32] | None:
        """How much of each neuron's response comes back, (N,), -1 to 1; None where no clip of a test tier is repeated.

        The correlation of single presentations with the mean of the others of the same clip, over the frames of all
        clips that are not of the training tier. 0 for a neuron that never responds.
        """
        repeats: defaultdict[str, list[MovieTrial]] = defaultdict(list)
        for trial in self.trials:
            if trial.tier != TRAIN:
                repeats[trial.clip].append(trial)
        sums = _CorrelationSums(self.neurons)
        for again in repeats.values():
            if len(again) > 1:
                sums.add_repeats([trial.load().responses for trial in again])
        return sums.correlation() if sums.frames else None


class _CorrelationSums:
    """Pearson correlation of N pairs of signals that come piece by piece."""

    def __init__(self, neurons: int) -> None:
        self.frames = 0
        self._sums = np.zeros((5, neurons))

    def add_repeats(self, responses: list[NDArray[np.float32]]) -> None:
        """Pair each of some (N, T) with the mean of the others."""
        frames = min(one.shape[1] for one in responses)
        stack = np.stack([one[:, :frames] for one in responses]).astype(np.float64)  # (repeats, N, T)
        others = (stack.sum(axis=0) - stack) / (len(stack) - 1)
        moments = (stack, others, stack**2, others**2, stack * others)
        self._sums += np.stack([moment.sum(axis=(0, 2)) for moment in moments])
        self.frames += frames * len(stack)

    def correlation(self) -> NDArray[np.float32]:
        x, y, xx, yy, xy = self._sums / self.frames
        variance = np.maximum(xx - x**2, 0.0) * np.maximum(yy - y**2, 0.0)
        flat = variance <= 1e-12 * xx * yy  # rounding
        return np.where(flat, 0.0, (xy - x * y) / np.sqrt(np.where(flat, 1.0, variance))).astype(np.float32)
