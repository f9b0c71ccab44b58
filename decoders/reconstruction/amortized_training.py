"""Training of the live preview: recorded pairs of responses and movies, and pairs that an encoder makes.

An encoder answers movies that no animal saw (`rig.simulation.movies`, of which there are any number); to its answer
comes what it did not predict in a recorded trial, so that made responses have the noise of recorded ones, shared
fluctuations and correlation in time included.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field, NonNegativeInt
from torch import Tensor

from decoders.checkpoint import Checkpoint
from decoders.datasets.movies import MovieMouse, MovieTrial, Trial, split_by_clip
from decoders.recipe import RECIPE, checked
from decoders.reconstruction import knowledge
from decoders.reconstruction.amortized import KIND, RATE_HZ
from decoders.reconstruction.amortized_network import (
    Pairs,
    PreviewConfig,
    PreviewNetwork,
    PreviewStep,
    movie_basis,
    start,
)
from decoders.reconstruction.encoder import Encoder
from decoders.reconstruction.encoder_training import EncoderOptions, digest
from decoders.reconstruction.similarity import DROPPED_FRAMES
from decoders.runtime import export_onnx
from decoders.training import BestEpoch, TrainingConfig, fix_seeds, train
from rig import terminal
from rig.errors import DataError
from rig.simulation.movies import natural_movie

_LOG = logging.getLogger(__name__)
_HELD_OUT = 0.1
_COMPLETE = 0.8  # of the usual length: a shorter trial was broken off
_MOVIES_SEED = 2026
_MOST_SCALING = 2.0  # of the noise of a recorded trial, where the made response is larger or smaller
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PreviewOptions:
    """How a preview is trained; `settings` replace numbers of `Recipe`.

    `cache` keeps what is broken off; it is gone on with for the same `encoder`, the file of the one that makes pairs.
    """

    cache: Path
    seed: int = 0
    threads: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    encoder: Path | None = None


class Recipe(BaseModel):
    """Numbers of the training; `generated` clips are made by the encoder, `stretch` frames are drawn of a clip."""

    model_config = RECIPE

    generated: int = Field(default=100, ge=0)
    epochs: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=4e-4, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    batch: int = Field(default=8, ge=1)
    stretch: int = Field(default=60, ge=1)
    strength: float = Field(default=3.0, gt=0)
    """Of the ridge regression that the network begins as, in mean variances of the features."""
    lags: tuple[NonNegativeInt, ...] = Field(default=(8, 11, 14), min_length=1)
    bins: int = Field(default=6, ge=1)
    sums: int = Field(default=256, ge=1)
    components: int = Field(default=128, ge=1)
    hidden: int = Field(default=384, ge=1)


@dataclass(frozen=True, slots=True)
class PreviewScore:
    """How well a preview shows trials of movies that it was not trained on.

    Correlations over all pixels and frames of one trial (first 30 frames dropped, nothing smoothed), means over
    trials; `regression` is that of the ridge regression which the network begins as.
    """

    lag_frames: int
    correlation: float
    regression: float
    training_clips: int
    generated_clips: int
    held_out_clips: int


@dataclass(frozen=True, slots=True)
class ResponseSource:
    """How responses are made from frames: settings of `decoder: traces`, or `tau_s` and a label image (H, W)."""

    traces: Mapping[str, Any]
    labels: NDArray[np.integer] | None


def response_source(mouse: MovieMouse, layout: str, labels: Path | None) -> ResponseSource:
    """Where a mouse's responses came from; of the layout sensorium only the responses are known."""
    if layout == "sensorium":
        return ResponseSource({}, None)
    from decoders.datasets.movie_sessions import response_source as of_session

    return ResponseSource(*of_session(mouse.path, labels))


def one_field(mice: Sequence[MovieMouse], name: str | None) -> MovieMouse:
    """One recording by name, or all those of one animal as one: they have to be of the same neurons.

    Raises
    ------
    DataError
        For an unknown name, or recordings of several animals or of different numbers of neurons.
    """
    chosen = [mouse for mouse in mice if name in (None, mouse.name, mouse.animal)]
    if len({(mouse.animal or mouse.name, mouse.neurons) for mouse in chosen}) != 1:
        have = ", ".join(f"{mouse.name} ({_who(mouse)}{mouse.neurons} neurons)" for mouse in mice)
        raise DataError(f"a preview is of one mouse; --mouse {name or 'NAME'}: valid is one of {have}")
    first = chosen[0]
    trials = tuple(trial for mouse in chosen for trial in mouse.trials)
    std = np.mean([mouse.response_std for mouse in chosen], axis=0)
    return replace(first, trials=trials, response_std=np.asarray(std, np.float32))


def _who(mouse: MovieMouse) -> str:
    return f"{mouse.animal}, " if mouse.animal not in ("", mouse.name) else ""


def fit_preview(
    mouse: MovieMouse, encoder: Encoder | None, index: int, options: PreviewOptions
) -> tuple[PreviewNetwork, dict[str, Floats], PreviewScore]:
    """Train a preview; returns the network, what its file is to hold beside it, and how well it does.

    Beside it are `usual_responses` (N,), and how the preview errs on held-out movies: `error_power` and `error_lag1`
    (height, width) are to its errors what `movie_power` and `movie_lag1` of `knowledge` are to movies.

    Parameters
    ----------
    encoder
        Makes further pairs, as its mouse `index`; None: recorded pairs alone.

    Raises
    ------
    ConfigError
        For a setting that the recipe does not have.
    DataError
        When the data are too few or too short.
    """
    recipe = checked(Recipe, options.settings)
    seeds = TrainingConfig(
        recipe.epochs, recipe.learning_rate, recipe.weight_decay, options.seed, options.threads
    )
    fix_seeds(seeds)
    training, held_out = (_read(mouse, trials) for trials in split_by_clip(mouse, _HELD_OUT, options.seed))
    recorded, tested = _pairs(training, recipe, mouse), _pairs(held_out, recipe, mouse)
    network, regression = _best_start(recorded, tested, recipe)
    _LOG.info("lag %d frames, regression %.3f", network.config.lag_frames, regression)
    made = None if encoder is None else _make_pairs(encoder, index, training, recorded, recipe, options.seed)
    losses = _Losses(network, [recorded] if made is None else [recorded, made], recipe, options.seed)
    best = BestEpoch(lambda: -correlation(network, tested))
    best.check(network)  # the regression itself, which may not be bettered
    options.cache.mkdir(parents=True, exist_ok=True)
    state = options.cache / f"preview-{_digest(mouse, recipe, encoder, options)}.pt"
    train(network, losses, losses.steps, seeds, state, best)
    network.eval()
    score = PreviewScore(
        network.config.lag_frames,
        round(correlation(network, tested), 4),
        round(regression, 4),
        len(training),
        0 if made is None else len(made.movies),
        len(held_out),
    )
    usual = {"usual_responses": recorded.responses.mean(axis=(0, 2))}
    return network, usual | _errors(network, tested), score


def make_checkpoint(
    network: PreviewNetwork,
    beside: Mapping[str, Floats],
    source: "ResponseSource",
    provenance: Mapping[str, str],
) -> Checkpoint:
    """Pack a preview, and what `fit_preview` tells beside it, for the live process, which needs no torch."""
    config = network.config
    window = np.repeat(beside["usual_responses"][None], config.window_frames, axis=0)
    graph = export_onnx(PreviewStep(network), [window])
    arrays: dict[str, NDArray[Any]] = {"onnx": np.frombuffer(graph, np.uint8), **beside}
    size = (config.height_px, config.width_px)
    settings = {
        "neurons": config.neurons,
        "window_frames": config.window_frames,
        "lag_frames": config.lag_frames,
        "movie_height_px": size[0],
        "movie_width_px": size[1],
        "traces": dict(source.traces),
    }
    if source.labels is not None:
        arrays["labels"], size = source.labels, (source.labels.shape[0], source.labels.shape[1])
    return Checkpoint(KIND, *size, RATE_HZ, arrays, settings, provenance)


def correlation(network: PreviewNetwork, pairs: Pairs) -> float:
    """Mean over clips of the correlation of what is shown with what was seen."""
    found = [
        np.corrcoef(shown.ravel(), seen.ravel())[0, 1] for shown, seen in _shown_and_seen(network, pairs)
    ]
    return float(np.mean(found))


def _errors(network: PreviewNetwork, pairs: Pairs) -> dict[str, Floats]:
    found = knowledge.movies(shown - seen for shown, seen in _shown_and_seen(network, pairs))
    return {"error_power": found["movie_power"], "error_lag1": found["movie_lag1"]}


@torch.no_grad()
def _shown_and_seen(network: PreviewNetwork, pairs: Pairs) -> Iterator[tuple[Floats, Floats]]:
    """Of each clip the frames (T, height, width) that are shown, and those that were seen."""
    config = network.config
    network.eval()
    first = config.window_frames - 1 - config.lag_frames
    skip = max(0, DROPPED_FRAMES - first)
    for responses, movie in zip(pairs.responses, pairs.movies, strict=True):
        shown = network.frames(network(torch.from_numpy(responses)[None])[0].T)[skip:].numpy()
        seen = movie[first + skip : len(movie) - config.lag_frames].astype(np.float32)
        yield shown.reshape(seen.shape), seen


class _Losses:
    """Squared errors of the scores in drawn stretches, over what the mean frame alone would leave."""

    def __init__(self, network: PreviewNetwork, sources: Sequence[Pairs], recipe: Recipe, seed: int) -> None:
        self._network, self._sources, self._recipe, self._seed = network, sources, recipe, seed
        self._clips = [(k, c) for k, source in enumerate(sources) for c in range(len(source.movies))]
        self._stretch = min(recipe.stretch, sources[0].movies.shape[1] - network.config.window_frames + 1)
        frames = len(self._clips) * sources[0].movies.shape[1]
        self.steps = max(1, frames // (recipe.batch * self._stretch))
        self._power = self._usual_power()

    def __call__(self, epoch: int) -> Iterator[Tensor]:
        """Losses of one epoch."""
        rng = np.random.default_rng((self._seed, epoch))
        for _ in range(self.steps):
            responses, seen = zip(*(self._draw(rng) for _ in range(self._recipe.batch)), strict=True)
            scores = self._network(torch.from_numpy(np.stack(responses)))
            yield (scores - self._scores(np.stack(seen))).square().sum(1).mean() / self._power

    def _draw(self, rng: np.random.Generator) -> tuple[Floats, NDArray[np.uint8]]:
        """Responses (N, frames) of a stretch with the window before it, and the movie it tells of."""
        source, clip = self._clips[int(rng.integers(len(self._clips)))]
        pairs, config = self._sources[source], self._network.config
        begin = int(rng.integers(pairs.movies.shape[1] - config.window_frames - self._stretch + 2))
        first = begin + config.window_frames - 1 - config.lag_frames
        responses = pairs.responses[clip, :, begin : begin + config.window_frames - 1 + self._stretch]
        return responses, pairs.movies[clip, first : first + self._stretch]

    def _scores(self, movies: NDArray[np.uint8]) -> Tensor:
        frames = torch.from_numpy(movies).flatten(2).float()
        return ((frames - self._network.mean_frame) @ self._network.components.T).transpose(1, 2)

    def _usual_power(self) -> float:
        return float(self._scores(self._sources[0].movies[:, ::10]).square().sum(1).mean())


def _digest(mouse: MovieMouse, recipe: Recipe, encoder: Encoder | None, options: PreviewOptions) -> str:
    """Name of a training's state: other data, numbers or encoder, another name."""
    kind = "none" if encoder is None else f"{encoder.kind} {encoder.mice} {encoder.neurons}"
    if options.encoder is not None:
        kind += f" {hashlib.sha256(options.encoder.read_bytes()).hexdigest()}"
    return digest([mouse], f"{recipe.model_dump_json()} {kind}", EncoderOptions(options.cache, options.seed))


def _read(mouse: MovieMouse, trials: Sequence[MovieTrial]) -> list[Trial]:
    with terminal.bar(f"{mouse.name}: reading trials", len(trials)) as advance:
        found = []
        for trial in trials:
            found.append(trial.load())
            advance(1)
    return found


def _pairs(trials: Sequence[Trial], recipe: Recipe, mouse: MovieMouse) -> Pairs:
    """Trials as arrays, cut to the length of the shortest that was not broken off."""
    lengths = np.array([trial.video.shape[2] for trial in trials])
    whole = lengths >= _COMPLETE * np.median(lengths)
    frames, valid = int(lengths[whole].min()), recipe.bins * 3 + DROPPED_FRAMES + max(recipe.lags)
    if frames < valid:
        raise DataError(f"{mouse.path}: trials of {frames} frames; valid for a preview is {valid} or more")
    kept = [trial for trial, is_whole in zip(trials, whole, strict=True) if is_whole]
    responses = np.stack([trial.responses[:, :frames] for trial in kept])
    return Pairs(responses, np.stack([_movie(trial, frames) for trial in kept]))


def _movie(trial: Trial, frames: int) -> NDArray[np.uint8]:
    movie = np.moveaxis(trial.video[..., :frames], -1, 0)
    return np.clip(np.rint(movie), 0, 255).astype(np.uint8)


def _best_start(recorded: Pairs, tested: Pairs, recipe: Recipe) -> tuple[PreviewNetwork, float]:
    """The regression with the lag that shows held-out clips best."""
    found = []
    basis = movie_basis(recorded.movies, min(recipe.components, recorded.movies[0, 0].size))
    with terminal.bar("regression, lag by lag", len(recipe.lags)) as advance:
        for lag in recipe.lags:
            network = PreviewNetwork(_config(recorded, recipe, lag))
            start(network, recorded, basis, recipe.strength)
            found.append((correlation(network, tested), network))
            advance(1)
    best = max(range(len(found)), key=lambda k: found[k][0])
    return found[best][1], found[best][0]


def _config(recorded: Pairs, recipe: Recipe, lag: int) -> PreviewConfig:
    neurons, (height, width) = recorded.responses.shape[1], recorded.movies.shape[2:]
    sums = min(recipe.sums, neurons)
    components = min(recipe.components, height * width)
    sizes = {"sums": sums, "components": components, "hidden": recipe.hidden}
    return PreviewConfig(neurons, lag, height, width, recipe.bins, **sizes)


def _make_pairs(
    encoder: Encoder, index: int, trials: Sequence[Trial], recorded: Pairs, recipe: Recipe, seed: int
) -> Pairs | None:
    """Pairs that the encoder makes, with the behaviour and the noise of recorded trials."""
    if not recipe.generated:
        return None
    frames = recorded.movies.shape[1]
    whole = [trial for trial in trials if trial.video.shape[2] >= frames]
    rng = np.random.default_rng(seed)
    explain = _explained(encoder, index, frames)
    answers: dict[int, Floats] = {}  # to the movies of recorded trials
    movies = np.empty((recipe.generated, frames, *recorded.movies.shape[2:]), np.uint8)
    responses = np.empty((recipe.generated, recorded.responses.shape[1], frames), np.float32)
    with terminal.bar("responses to further movies", recipe.generated) as advance:
        for k in range(recipe.generated):
            chosen = int(rng.integers(len(whole)))
            trial = whole[chosen]
            movies[k] = natural_movie(k, frames, _MOVIES_SEED + seed)
            if chosen not in answers:
                answers[chosen] = explain(trial, _movie(trial, frames))
            made = explain(trial, movies[k])
            responses[k] = _with_noise(made, answers[chosen], trial.responses[:, :frames])
            advance(1)
    return Pairs(responses, movies)


def _explained(encoder: Encoder, index: int, frames: int) -> Callable[[Trial, NDArray[np.uint8]], Floats]:
    """How the encoder answers a movie during a trial's behaviour."""

    def explain(trial: Trial, movie: NDArray[np.uint8]) -> Floats:
        video = np.moveaxis(movie, 0, -1).astype(np.float32)
        return encoder.predict(video, trial.behavior[:, :frames], trial.pupil_center[:, :frames], index)

    return explain


def _with_noise(made: Floats, predicted: Floats, measured: Floats) -> Floats:
    """Add to made responses what was not predicted in a trial; noise grows as the root of the response."""
    ratio = np.sqrt((made + 1e-3) / (np.maximum(predicted, 0.0) + 1e-3))
    scale = np.clip(ratio, 1 / _MOST_SCALING, _MOST_SCALING)
    noisy: Floats = np.maximum(made + scale * (measured - predicted), np.float32(0.0))
    return noisy
