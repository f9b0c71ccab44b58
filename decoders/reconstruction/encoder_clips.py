"""Movies and responses as the training of encoders draws them: stretches of trials, held-out clips apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decoders.datasets.movies import MovieMouse, MovieTrial, Trial, split_by_clip
from rig.errors import DataError

_FAINT = 0.01  # of the mean standard deviation: a fainter neuron is divided by this (neuralpredictors)
NOT_SCORED_FRAMES = 50  # at the start of every trial, as the Sensorium 2023 competition


@dataclass(frozen=True, slots=True)
class Stretch:
    """Frames of one trial, evenly apart: video (T, H, W), signals (4, T), responses (N, T)."""

    trial: MovieTrial
    video: Tensor
    signals: Tensor
    responses: Tensor

    @classmethod
    def of(cls, trial: MovieTrial, data: Trial, frames: slice = slice(None)) -> "Stretch":
        """Cut frames out of a trial that was read."""
        video = np.moveaxis(data.video[..., frames], -1, 0)
        signals = np.concatenate([data.behavior[:, frames], data.pupil_center[:, frames]])
        arrays = (video, signals, data.responses[:, frames])
        parts = (
            torch.from_numpy(np.array(array, np.float32)) for array in arrays
        )  # copies: files are read-only
        return cls(trial, *parts)


class MouseClips:
    """Trials of one mouse: those to train on, and those of other movies that tell how well it goes.

    Parameters
    ----------
    held_out_share
        Of the training tier's movies, by identity.
    shortest
        Frames that a training trial must have.
    kept_gb
        Of trials in memory; the others are read anew whenever they are drawn.

    Raises
    ------
    DataError
        When there are too few movies; while reading, when a trial is too short or has negative responses.
    """

    def __init__(
        self, mouse: MovieMouse, held_out_share: float, seed: int, shortest: int, kept_gb: float = 1.0
    ) -> None:
        self.mouse = mouse
        self.training, self.held_out = split_by_clip(mouse, held_out_share, seed)
        self._shortest = shortest
        self._kept: dict[str, Trial] = {}
        self._free_bytes = kept_gb * 1e9

    @property
    def response_std(self) -> NDArray[np.float32]:
        """What each neuron's responses are divided by, (N,)."""
        std = self.mouse.response_std
        return np.maximum(std, max(_FAINT * float(std.mean()), 1e-9)).astype(np.float32)

    @property
    def training_frames(self) -> int:
        """Frames of all training trials together, taking the first one's length for all."""
        return len(self.training) * int(self._read(self.training[0]).video.shape[2])

    def whole(self, trials: Sequence[MovieTrial]) -> Iterator[Stretch]:
        """Trials from their first frame to their last."""
        return (Stretch.of(trial, self._read(trial)) for trial in trials)

    def draw(self, rng: np.random.Generator, frames: int, step: int = 1) -> Stretch:
        """Some frames of a training trial, both by chance, or every `step`th of them."""
        trial = self.training[int(rng.integers(len(self.training)))]
        data = self._read(trial)
        start = int(rng.integers(data.video.shape[2] - frames + 1))
        return Stretch.of(trial, data, slice(start, start + frames, step))

    def behaviour(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the behaviour while training trials were shown, (4,) each."""
        signals = torch.cat([stretch.signals for stretch in self.whole(self.training)], 1)
        return signals.mean(1), signals.std(1).clamp(min=1e-6)

    def _read(self, trial: MovieTrial) -> Trial:
        if trial.name in self._kept:
            return self._kept[trial.name]
        data = self._checked(trial, trial.load())
        size = sum(a.nbytes for a in (data.video, data.responses, data.behavior, data.pupil_center))
        if trial.name not in self._kept and size <= self._free_bytes:  # threads may read it at the same time
            self._kept[trial.name] = data
            self._free_bytes -= size
        return data

    def _checked(self, trial: MovieTrial, data: Trial) -> Trial:
        if data.video.shape[2] < self._shortest:
            raise DataError(
                f"{self.mouse.path}: trial {trial.name} has {data.video.shape[2]} frames; valid for training is"
                f" {self._shortest} or more"
            )
        if (least := float(data.responses.min())) < 0:  # a Poisson loss has no minimum then
            raise DataError(
                f"{self.mouse.path}: trial {trial.name} has responses down to {least:.3g}; valid are 0 or more, as"
                " deconvolution leaves them (not dF/F or z-scores)"
            )
        return data


def correlation(predicted: NDArray[np.float32], recorded: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pearson correlation of each neuron's prediction with what was recorded, (N, T) both; 0 where one is constant."""
    x, y = (a - a.mean(axis=1, keepdims=True) for a in (predicted, recorded))
    norm = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.where(norm > 0, (x * y).sum(axis=1) / np.where(norm > 0, norm, 1.0), 0.0).astype(np.float32)
