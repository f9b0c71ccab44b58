"""The linear baseline of an evaluation: ridge regression from the responses around a frame to the frame.

Fitted on the training tier of the same mouse. Like the inversion, which looks at the whole clip, it may use responses
that come after the frame; how much later its window ends is chosen by cross-validation over clips, together with the
strength of the ridge.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from decoders.datasets.movie_trials import MovieTrial, Trial
from decoders.reconstruction.encoder import HEIGHT_PX, WIDTH_PX
from decoders.reconstruction.linear import Choice, LinearReader, Part, fit_ridge
from rig.errors import DataError

_BIN_FRAMES = 5
_BINS = 2
_LATER = (4, 7, 10, 13)  # frames by which the window may end after the frame
_FOLDS = 3
_STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0)
_COMPONENTS = 128  # of the movies
_MOST_FEATURES = 2000  # more are replaced by their leading components, as the cost grows with the cube
_ROW_EVERY = 3  # neighbouring frames are nearly equal: every third is fitted


@dataclass(frozen=True, slots=True)
class TrainingTier:
    """What the training tier of a mouse says beside the regression: mean frame (36, 64), behaviour (2,), pupil (2,)."""

    mean_frame: NDArray[np.float32]
    behavior: NDArray[np.float32]
    pupil_center: NDArray[np.float32]

    @classmethod
    def of(cls, trials: Iterable[Trial]) -> Self:
        """Average over trials, one in memory at a time."""
        means = [
            [array.mean(axis=-1) for array in (trial.video, trial.behavior, trial.pupil_center)]
            for trial in trials
        ]
        return cls(*(np.mean(values, axis=0).astype(np.float32) for values in zip(*means, strict=True)))


@dataclass(frozen=True, slots=True)
class LinearMovies:
    """A fitted baseline; `population` (N, K) turns responses into K components of the population."""

    reader: LinearReader
    choice: Choice
    population: NDArray[np.float32]

    def __call__(self, responses: NDArray[np.float32]) -> NDArray[np.float32]:
        """Movie (T, 36, 64) in grey levels of responses (N, T)."""
        features = _features(_compressed(responses, self.population), self.choice.lag_frames)
        return self.reader(features).reshape(-1, HEIGHT_PX, WIDTH_PX)


def fit_linear(sources: Sequence[MovieTrial]) -> LinearMovies:
    """Fit the baseline on training trials of one mouse, those of one movie in memory at a time.

    Raises
    ------
    DataError
        For fewer than two different movies, or trials that are too short.
    """
    clips: dict[str, list[MovieTrial]] = {}
    for source in sources:
        clips.setdefault(source.clip, []).append(source)
    if len(clips) < 2:
        raise DataError(f"{len(clips)} different movies to fit the linear baseline on; valid is 2 or more")
    population = _population(sources)
    parts = [_part([_long_enough(source) for source in again], population) for again in clips.values()]
    reader, choice = fit_ridge(parts, _STRENGTHS, _COMPONENTS, _FOLDS)
    return LinearMovies(reader, choice, population)


def _long_enough(source: MovieTrial) -> Trial:
    trial = source.load()
    frames, fewest = trial.video.shape[2], _BINS * _BIN_FRAMES + _LATER[-1] + _ROW_EVERY
    if frames < fewest:
        raise DataError(
            f"trial {source.name!r} of mouse {source.mouse!r}: {frames} frames; valid for the linear baseline"
            f" is {fewest} or more"
        )
    return trial


def _population(sources: Sequence[MovieTrial]) -> NDArray[np.float32]:
    """Leading components of the responses, (N, K), as many as the regression can take."""
    neurons = len(sources[0].load().responses)
    most = _MOST_FEATURES // _BINS
    if neurons <= most:
        return np.eye(neurons, dtype=np.float32)
    binned = [_binned(source.load().responses)[:, ::_BIN_FRAMES] for source in sources]
    bins = np.concatenate(binned, axis=1)
    scale = 1 / np.maximum(bins.std(axis=1), 1e-6)
    scaled = (bins - bins.mean(axis=1, keepdims=True)) * scale[:, None]
    vectors = np.linalg.eigh(scaled @ scaled.T)[1][:, ::-1][:, :most]
    return np.asarray(vectors * scale[:, None], np.float32)


def _compressed(responses: NDArray[np.float32], population: NDArray[np.float32]) -> NDArray[np.float32]:
    """Responses (N, T) as components (K, T); what is unknown counts as none."""
    return np.asarray(population.T @ np.nan_to_num(responses), np.float32)


def _binned(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of the last frames up to each, (..., T); before the first frame, the first."""
    padded = np.pad(values, ((0, 0), (_BIN_FRAMES - 1, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, _BIN_FRAMES, axis=1)
    return np.asarray(windows.mean(axis=-1), np.float32)


def _features(values: NDArray[np.float32], later: int) -> NDArray[np.float32]:
    """Window of bins that ends `later` frames after every frame, (T, bins * K); beyond the clip, its last value."""
    binned, frames = _binned(values), values.shape[1]
    ends = np.arange(frames) + later
    places = [np.clip(ends - k * _BIN_FRAMES, 0, frames - 1) for k in range(_BINS)]
    return np.concatenate([binned[:, at] for at in places]).T


def _part(trials: Sequence[Trial], population: NDArray[np.float32]) -> Part:
    """All presentations of one clip: rows at which the whole window is known, for every delay."""
    features, shown = [], []
    for trial in trials:
        frames = trial.responses.shape[1]
        rows = np.arange(_BINS * _BIN_FRAMES + _LATER[-1], frames, _ROW_EVERY)  # the window's last frame
        features.append(_features(_compressed(trial.responses, population), 0)[rows])
        shown.append(rows)
    longest = max(trials, key=lambda trial: trial.video.shape[2]).video
    movie = np.moveaxis(longest, -1, 0).reshape(longest.shape[2], -1)
    at = np.concatenate(shown)
    return Part(
        np.concatenate(features), np.rint(movie).astype(np.uint8), {later: at - later for later in _LATER}
    )
