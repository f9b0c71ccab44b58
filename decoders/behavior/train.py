"""Training of the causal run/rest decoder: excerpts of recordings to a predictor."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from decoders.behavior.adaptation import AdaptationConfig
from decoders.behavior.augment import Variation, vary
from decoders.behavior.causal import CausalPredictor, input_size, view_of
from decoders.behavior.model import BehaviorNetwork, NetworkConfig
from decoders.behavior.predictor import FitOptions
from decoders.behavior.schemes import same_rate
from decoders.datasets.behavior import BehaviorRecording, Excerpt
from decoders.datasets.cache import labels_key, recording_key
from decoders.datasets.normalised import begun_at, normalised
from decoders.normalise import NormaliserConfig
from decoders.recipe import RECIPE, checked
from decoders.training import TrainingConfig, fix_seeds, train
from rig.errors import DataError

_LOG = logging.getLogger(__name__)
Clip = tuple[int, int]  # which excerpt, and its first frame
_SAMPLED, _SAMPLED_S = (
    10,
    40.0,
)  # stretches of a recording, and frames of each, that tell how much pixels vary
_UNPLACED = {"rotation_deg": 8.0, "log_scale": 0.08, "shift": 0.06}  # how differently mounts show the cortex


class Recipe(BaseModel):
    """Everything that a training can be asked to do otherwise; `rig evaluate behavior --set` names these."""

    model_config = RECIPE

    epochs: int = Field(default=28, ge=1)
    learning_rate: float = Field(default=1.5e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    channels: tuple[PositiveInt, ...] = Field(default=(24, 48), min_length=1)
    features: int = Field(default=48, ge=1)
    hidden: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    memory: Literal["carried", "windowed"] = "carried"
    window_s: float = Field(default=1.0, gt=0, le=60)
    """What a windowed memory joins."""
    mean_s: float = Field(default=10.0, gt=0)
    """Time constant of the running mean: the light drifts slowly, and the memory outlasts it."""
    std_s: float = Field(default=60.0, gt=0)
    common_mode: bool = False
    """Whether what all pixels do alike is left in the frames."""
    expected_std: float | None = Field(default=None, ge=0)
    """Where the running standard deviation begins, as a share of brightness; None: that of the training recordings."""
    adaptation_s: float = Field(default=240.0, gt=0)
    """Time constant of the adaptation to the animal, `decoders.behavior.adaptation`."""
    temperature: float = Field(default=1.0, gt=0)
    """Logits are divided by it."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    clip_s: float = Field(default=40.0, gt=0)
    """The memory is carried so far in training, then starts anew."""
    segment_s: float = Field(default=4.0, gt=0)
    """The gradient goes back so far."""
    batch: int = Field(default=4, ge=1)
    placed: bool | None = None
    """Whether frames are brought to the standard view by their landmarks; None: when all recordings have some."""
    rotation_deg: float = 5.0
    log_scale: float = 0.06
    shift: float = 0.045
    local_log_gain: float = 0.3
    global_log_gain: float = 0.3
    local_offset: float = 0.4
    drift: float = 0.5
    begun_share: float = Field(default=0.25, ge=0, le=1)
    """Share of clips that begin as a recording does, with statistics that know nothing yet."""

    @property
    def variation(self) -> Variation:
        """How clips are varied."""
        return Variation(
            self.rotation_deg,
            self.log_scale,
            self.shift,
            self.local_log_gain,
            self.global_log_gain,
            self.local_offset,
            self.drift,
        )


def recipe(options: FitOptions, placeable: bool) -> Recipe:
    """Our recipe with what the options ask for; raises `ConfigError` for a setting that does not exist."""
    given = dict(options.settings or {})
    placed = given.get("placed", placeable)
    asked = {**({} if placed else _UNPLACED), **given, "placed": placed}
    if options.epochs is not None:
        asked["epochs"] = options.epochs
    if options.window_s is not None:
        asked |= {"memory": "windowed", "window_s": options.window_s}
    return checked(Recipe, asked)


def placeable(recordings: Sequence[BehaviorRecording]) -> bool:
    """Whether all of them have the landmarks of the standard view; says which lack them where others have them."""
    lacking = {r.path.name for r in recordings if len(r.landmarks_px or {}) < 2}
    if lacking and len(lacking) < len({r.path.name for r in recordings}):
        _LOG.warning(
            "%s: fewer than two of imaging.landmarks_px, so no recording is seen in the standard view",
            ", ".join(sorted(lacking)),
        )
    return not lacking


def fit(training: Sequence[Excerpt], validation: Sequence[Excerpt], options: FitOptions) -> CausalPredictor:
    """Train the causal decoder; `validation` is not needed and not looked at.

    Raises
    ------
    DataError
        When recordings differ in size or rate, or lack one of run and rest.
    """
    asked = recipe(options, placeable([excerpt.recording for excerpt in training]))
    rate_hz, size = _one_kind(training, bool(asked.placed))
    config = TrainingConfig(
        epochs=asked.epochs,
        learning_rate=asked.learning_rate,
        weight_decay=asked.weight_decay,
        seed=options.seed,
        threads=options.threads,
    )
    fix_seeds(config)
    window = max(1, round(asked.window_s * rate_hz)) if asked.memory == "windowed" else 0
    sizes = NetworkConfig(*size, asked.channels, asked.features, asked.hidden, asked.dropout, window)
    network = BehaviorNetwork(sizes).to(options.device)
    network.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 1.3 x faster
    expected_std = _expected_std(training) if asked.expected_std is None else asked.expected_std
    normaliser = NormaliserConfig(asked.mean_s, asked.std_s, rate_hz, asked.common_mode, expected_std)
    clips = _Clips(training, asked, rate_hz, options.cache, normaliser)
    resume = options.cache / f"causal-{_digest(training, asked, options)}.resume"
    options.cache.mkdir(parents=True, exist_ok=True)
    train(network, lambda epoch: _losses(network, clips, options, epoch), clips.steps, config, resume)
    running = np.concatenate([excerpt.running for excerpt in training])
    adaptation = AdaptationConfig(float(running.mean()), asked.temperature, asked.adaptation_s, rate_hz)
    network.encoder.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return CausalPredictor(network.cpu().eval(), normaliser, adaptation, bool(asked.placed), options.cache)


class _Clips:
    """Stretches of the training excerpts, drawn anew every epoch and read from the disk batch by batch."""

    def __init__(
        self,
        training: Sequence[Excerpt],
        asked: Recipe,
        rate_hz: float,
        cache: Path | None,
        normaliser: NormaliserConfig,
    ) -> None:
        self.asked = asked
        self._excerpts, self._normaliser = training, normaliser
        shortest = min(len(excerpt) for excerpt in training)
        self._length = min(max(1, round(asked.clip_s * rate_hz)), shortest)
        self._segment = min(max(1, round(asked.segment_s * rate_hz)), self._length)
        self._views = [view_of(e.recording, bool(asked.placed)) for e in training]
        self._frames = [
            normalised(e.recording, cache, view, normaliser)
            for e, view in zip(training, self._views, strict=True)
        ]

    @property
    def steps(self) -> int:
        """Optimiser steps an epoch."""
        clips = sum(len(excerpt) // self._length for excerpt in self._excerpts)
        return -(-clips // self.asked.batch) * -(-self._length // self._segment)

    def batches(self, rng: np.random.Generator) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """Batches of varied clips, each as segments in order: frames (B, t, H, W) and labels (B, t)."""
        clips = self._drawn(rng)
        for batch in np.array_split(np.arange(len(clips)), -(-len(clips) // self.asked.batch)):
            chosen = [clips[k] for k in batch]
            frames = np.stack([self._clip(k, at, rng.random() < self.asked.begun_share) for k, at in chosen])
            running = np.stack(
                [self._excerpts[k].recording.running[at : at + self._length] for k, at in chosen]
            )
            varied = vary(torch.from_numpy(frames.astype(np.float32)), self.asked.variation, rng)
            labels = torch.from_numpy(running.astype(np.float32))
            parts = (torch.split(whole, self._segment, 1) for whole in (varied, labels))
            yield list(zip(*parts, strict=True))

    def _clip(self, k: int, at: int, begun: bool) -> NDArray[np.float16]:
        """Frames of a clip, in the middle of the recording or as if it began with them."""
        stop = at + self._length
        if not begun:
            return self._frames[k][at:stop]
        return begun_at(self._excerpts[k].recording, self._views[k], self._normaliser, at, stop)

    def _drawn(self, rng: np.random.Generator) -> list[Clip]:
        """As many clips as fit, from a random first frame of every excerpt, in random order."""
        clips: list[Clip] = []
        for k, excerpt in enumerate(self._excerpts):
            count = len(excerpt) // self._length
            first = excerpt.start + int(rng.integers(len(excerpt) - count * self._length + 1))
            clips += [(k, first + n * self._length) for n in range(count)]
        return [clips[k] for k in rng.permutation(len(clips))]


def _expected_std(training: Sequence[Excerpt]) -> float:
    """Median of the recordings' standard deviation over brightness, to one digit: the animals differ by less."""
    shares = []
    for excerpt in training:
        length = min(round(_SAMPLED_S * excerpt.recording.rate_hz), len(excerpt))
        starts = np.linspace(excerpt.start, excerpt.stop - length, _SAMPLED).astype(int)
        shares += [_relative_std(excerpt.recording, start, length) for start in starts]
    return float(f"{np.median(shares):.1g}")


def _relative_std(recording: BehaviorRecording, start: int, length: int) -> float:
    """Standard deviation over brightness of some frames of a stretch, less what all pixels do alike."""
    chosen = np.linspace(start, start + length - 1, _SAMPLED).astype(int)
    frames = np.stack([np.asarray(recording.frames[k : k + 1][0], np.float32) for k in chosen])
    deviation = frames - frames.mean(axis=0)
    deviation -= deviation.mean(axis=(1, 2), keepdims=True)
    return float(deviation.std() / max(float(frames.mean()), 1.0))


def _losses(network: BehaviorNetwork, clips: _Clips, options: FitOptions, epoch: int) -> Iterator[Tensor]:
    """One loss a segment; the state is carried over the segments of a clip, the gradient is not."""
    rng = np.random.default_rng((options.seed, epoch))
    smooth = clips.asked.label_smoothing
    for batch in clips.batches(rng):
        state = network.start(len(batch[0][0])).to(options.device)
        for frames, running in batch:
            logits, state = network(frames.to(options.device), state.detach())
            target = running.to(options.device) * (1 - 2 * smooth) + smooth
            yield F.binary_cross_entropy_with_logits(logits, target)


def _one_kind(training: Sequence[Excerpt], placed: bool) -> tuple[float, tuple[int, int]]:
    """Rate of the first recording, and input size; they must be those of all recordings."""
    kinds = sorted({(e.recording.rate_hz, input_size(*e.recording.size_px, placed)) for e in training})
    if not kinds or not same_rate(kinds[0][0], kinds[-1][0]) or len({size for _, size in kinds}) > 1:
        raise DataError(f"recordings differ in rate or size: {sorted(map(str, kinds))}; valid is one of each")
    if len(np.unique(np.concatenate([excerpt.running for excerpt in training]))) < 2:
        raise DataError(
            "the training recordings hold one behaviour only; valid are recordings with run and rest"
        )
    return training[0].recording.rate_hz, kinds[0][1]


def _digest(training: Sequence[Excerpt], asked: Recipe, options: FitOptions) -> str:
    """Name of a training's state: the same data, recipe and seed, the same name."""
    parts = [
        f"{recording_key(e.recording)} {e.recording.landmarks_px} {e.start} {e.stop} {labels_key(e.running)}"
        for e in training
    ]
    text = " ".join([*parts, asked.model_dump_json(), str(options.seed), options.device])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
