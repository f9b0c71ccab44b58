"""The published ROI-GRU, LSTM and RNN: recurrent networks over traces of cortical areas.

Ajioka et al. 2024 (doi 10.1371/journal.pcbi.1011074): 50 traces less their moving mean of 1000 frames, scaled to 0..1
over the session; 31 frames, the decoded one in the middle, through 32 units. Not causal: 15 later frames take part,
and the moving mean and the scaling know the whole session.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.ndimage import uniform_filter1d
from torch import Tensor, nn
from torch.nn import functional as F

from decoders.behavior.cnn_gru import RnnType
from decoders.behavior.predictor import FitOptions
from decoders.behavior.published_recipe import SEED, RoiRecipe, described, recipe_of
from decoders.behavior.rois import roi_names, roi_traces
from decoders.behavior.schemes import same_rate
from decoders.checkpoint import Checkpoint, load_checkpoint
from decoders.datasets.behavior import BehaviorRecording, Excerpt
from decoders.training import BestEpoch, TrainingConfig, fix_seeds, train
from rig.errors import CheckpointError, DataError

KIND = "behavior-roi-rnn"
_MOVING_MEAN_FRAMES = 1000
_UNITS = 32
_LABEL_SMOOTHING = 0.001
_PREDICTED_WINDOWS = 4096


class RoiNetwork(nn.Module):
    """Traces (B, 2 L + 1, R) to logits of running at the middle frame, (B,)."""

    def __init__(self, rois: int, rnn: RnnType) -> None:
        super().__init__()
        self.rnn = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}[rnn](rois, _UNITS, batch_first=True)
        self.readout = nn.Linear(_UNITS, 1)

    def forward(self, traces: Tensor) -> Tensor:
        """Logits of windows."""
        states, _ = self.rnn(traces)
        logits: Tensor = self.readout(states[:, -1]).squeeze(-1)
        return logits


def fit_gru(
    training: Sequence[Excerpt], validation: Sequence[Excerpt], options: FitOptions
) -> "RoiPredictor":
    """Fit the published ROI-GRU; `options.settings` see `RoiRecipe`, `options.window_s` is the whole window.

    Raises
    ------
    DataError
        For unknown settings, too short excerpts, or recordings whose ROIs differ.
    """
    return _fit("GRU", training, validation, options)


def fit_lstm(
    training: Sequence[Excerpt], validation: Sequence[Excerpt], options: FitOptions
) -> "RoiPredictor":
    """Fit the published ROI-LSTM; see `fit_gru`."""
    return _fit("LSTM", training, validation, options)


def fit_rnn(
    training: Sequence[Excerpt], validation: Sequence[Excerpt], options: FitOptions
) -> "RoiPredictor":
    """Fit the published ROI-RNN; see `fit_gru`."""
    return _fit("RNN", training, validation, options)


def published_traces(traces: NDArray[np.float32]) -> NDArray[np.float32]:
    """Traces (T, R) of a session less their centred moving mean of 1000 frames, each scaled to 0..1."""
    detrended = traces - uniform_filter1d(
        traces.astype(np.float64), _MOVING_MEAN_FRAMES, axis=0, mode="nearest"
    )
    lowest, highest = detrended.min(axis=0), detrended.max(axis=0)
    scaled: NDArray[np.float32] = ((detrended - lowest) / np.maximum(highest - lowest, 1e-9)).astype(
        np.float32
    )
    return scaled


@dataclass(slots=True)
class RoiPredictor:
    """A trained ROI network; see `decoders.behavior.predictor.Predictor`. `provenance` is saved with the model."""

    network: RoiNetwork
    rnn: RnnType
    recipe: RoiRecipe
    rois: tuple[str, ...]
    size_px: tuple[int, int]
    rate_hz: float
    cache: Path | None = None
    provenance: dict[str, str] = field(default_factory=dict)

    def predict(
        self, recording: BehaviorRecording, occluded: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Probability of running at every frame, (T,); NaN at the first and last half window.

        Raises
        ------
        DataError
            For a mask, since there is no image; a recording with other ROIs or rate, or too short.
        """
        if occluded is not None:
            raise DataError("an ROI model has no image to occlude; valid are models of images")
        if not same_rate(recording.rate_hz, self.rate_hz):
            raise DataError(
                f"{recording.path}: {recording.rate_hz:g} Hz; this model was trained on {self.rate_hz:g} Hz"
            )
        half = self.recipe.half_window
        if len(recording) < 2 * half + 1:
            raise DataError(f"{recording.path}: {len(recording)} frames; valid is {2 * half + 1} or more")
        traces = torch.from_numpy(chosen_traces(recording, self.rois, self.cache))
        windows = traces.unfold(0, 2 * half + 1, 1).transpose(1, 2)  # (T - 2 L, 2 L + 1, R), no copy
        with torch.no_grad():
            logits = [self.network(part) for part in torch.split(windows, _PREDICTED_WINDOWS)]
        probability = np.full(len(recording), np.nan, np.float32)
        probability[half : len(recording) - half] = torch.sigmoid(torch.cat(logits)).numpy()
        return probability

    def save(self, path: Path) -> None:
        """Write the model as a checkpoint; raises `CheckpointError` when the file exists."""
        arrays = {name: value.numpy() for name, value in self.network.state_dict().items()}
        settings = {"rnn": self.rnn, "recipe": self.recipe.model_dump(), "rois": list(self.rois)}
        Checkpoint(KIND, *self.size_px, self.rate_hz, arrays, settings, self.provenance).save(path)


def load(path: Path, cache: Path | None = None) -> RoiPredictor:
    """Read an ROI network from its checkpoint; raises `CheckpointError` as `decoders.checkpoint` does."""
    checkpoint = load_checkpoint(path, KIND)
    try:
        settings = checkpoint.settings
        recipe, rois = RoiRecipe.model_validate(settings["recipe"]), tuple(settings["rois"])
        network = RoiNetwork(len(rois), settings["rnn"])
        network.load_state_dict({name: torch.from_numpy(value) for name, value in checkpoint.arrays.items()})
    except (ValidationError, RuntimeError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: its weights or settings are not a {KIND}: {reason}") from None
    size_px, told = (checkpoint.height_px, checkpoint.width_px), dict(checkpoint.provenance)
    return RoiPredictor(
        network.eval(), settings["rnn"], recipe, rois, size_px, checkpoint.rate_hz, cache, told
    )


def _fit(
    rnn: RnnType, training: Sequence[Excerpt], validation: Sequence[Excerpt], options: FitOptions
) -> RoiPredictor:
    if not training:
        raise DataError("nothing to train on; valid is one excerpt of a recording or more")
    first = training[0].recording
    recipe = recipe_of(RoiRecipe, options, first.rate_hz)
    config = _config(recipe, options)
    fix_seeds(config)
    rois = recipe.rois or roi_names(first)
    data, held = (
        _Windows.of(part, rois, recipe.half_window, options.cache) for part in (training, validation)
    )
    if not len(data):
        longest, valid = max(map(len, training)), 2 * recipe.half_window + 1
        raise DataError(f"no stretch is longer than {longest} frames; valid is {valid} or more")
    network = RoiNetwork(len(rois), rnn)
    best = BestEpoch(lambda: held.loss(network)) if len(held) else None
    count = min(len(data), recipe.frames_per_epoch or len(data))
    steps = -(-count // recipe.batch)

    def losses(epoch: int) -> Iterator[Tensor]:
        order = np.random.default_rng((config.seed, epoch)).permutation(len(data))[:count]
        for rows in np.array_split(order, steps):
            traces, labels = data.load(rows)
            yield F.binary_cross_entropy_with_logits(network(traces), _smoothed(labels))

    history = train(network, losses, steps, config, None, best)
    told = {"losses": json.dumps(history), "validation_losses": json.dumps(best and best.losses)}
    told |= described(training, validation, config.seed)
    return RoiPredictor(network.eval(), rnn, recipe, rois, first.size_px, first.rate_hz, options.cache, told)


def _config(recipe: RoiRecipe, options: FitOptions) -> TrainingConfig:
    """Adam with Keras' defaults, at one learning rate."""
    return TrainingConfig(
        epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        weight_decay=0.0,
        seed=SEED + options.seed,
        threads=options.threads,
        epsilon=1e-7,
        schedule="constant",
        largest_gradient=None,
    )


def _smoothed(labels: Tensor) -> Tensor:
    return labels * (1 - _LABEL_SMOOTHING) + _LABEL_SMOOTHING / 2


@dataclass(frozen=True, slots=True)
class _Windows:
    """Windows of excerpts' traces (N, R), one after another; `starts` (n,) is where each window begins."""

    traces: Tensor
    running: Tensor
    starts: NDArray[np.int64]
    half_window: int

    @classmethod
    def of(
        cls, excerpts: Sequence[Excerpt], rois: Sequence[str], half_window: int, cache: Path
    ) -> "_Windows":
        traces, running, starts, at = [np.empty((0, len(rois)), np.float32)], [np.empty(0, np.bool_)], [], 0
        for excerpt in excerpts:
            traces.append(chosen_traces(excerpt.recording, rois, cache)[excerpt.frames])
            running.append(excerpt.running)
            starts.append(at + np.arange(max(0, len(excerpt) - 2 * half_window)))
            at += len(excerpt)
        labels = torch.from_numpy(np.concatenate(running).astype(np.float32))
        places = np.concatenate([np.empty(0, np.int64), *starts])
        return cls(torch.from_numpy(np.concatenate(traces)), labels, places, half_window)

    def __len__(self) -> int:
        return len(self.starts)

    def load(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Windows (B, 2 L + 1, R) and their middles' labels (B,)."""
        starts = torch.from_numpy(self.starts[rows])
        within = torch.arange(2 * self.half_window + 1)
        return self.traces[starts[:, None] + within], self.running[starts + self.half_window]

    def loss(self, network: RoiNetwork) -> float:
        """Mean loss over all windows."""
        total = 0.0
        for at in range(0, len(self), _PREDICTED_WINDOWS):
            traces, labels = self.load(np.arange(at, min(at + _PREDICTED_WINDOWS, len(self))))
            with torch.no_grad():
                loss = F.binary_cross_entropy_with_logits(network(traces), _smoothed(labels), reduction="sum")
            total += float(loss)
        return total / len(self)


def chosen_traces(
    recording: BehaviorRecording, rois: Sequence[str], cache: Path | None
) -> NDArray[np.float32]:
    """Preprocessed traces of the named ROIs, (T, R); raises `DataError` when the recording lacks one."""
    names = roi_names(recording)
    missing = [name for name in rois if name not in names]
    if missing:
        raise DataError(
            f"{recording.path}: no ROI {missing[0]!r}; its {len(names)} are {names[0]} to {names[-1]}"
        )
    columns = [names.index(name) for name in rois]
    return published_traces(roi_traces(recording, cache)[:, columns])
