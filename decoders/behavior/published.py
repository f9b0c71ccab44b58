"""Training of the published run/rest decoders, CNN and CNN-GRU, in their two stages.

Ajioka, Nakai, Yamashita, Takumi, PLoS Comput Biol 20(3): e1011074 (2024), doi 10.1371/journal.pcbi.1011074. Not
causal: six later frames take part, and the mean and standard deviation of the whole session.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from decoders.behavior.cnn_gru import CnnGruNetwork
from decoders.behavior.efficientnet import NORM_MOMENTUM, EfficientNetB0, load_imagenet
from decoders.behavior.images import SessionImages, Stretches, open_images
from decoders.behavior.predictor import FitOptions
from decoders.behavior.published_predictor import CNN_GRU_KIND, CNN_KIND, PublishedPredictor, build, load
from decoders.behavior.published_recipe import SEED, Recipe, described, recipe_of
from decoders.datasets.behavior import Excerpt
from decoders.datasets.cache import labels_key, recording_key
from decoders.training import BestEpoch, TrainingConfig, fix_seeds, read_ahead, train
from rig.errors import DataError

__all__ = ["CnnGruNetwork", "PublishedPredictor", "Recipe", "fit_cnn", "fit_cnn_gru", "load"]

_LOG = logging.getLogger(__name__)
_BATCH_1, _BATCH_2 = 512, 32  # published
_CPU_BATCH_1 = 64  # 512 images take 20 GB
_SHARED_BATCH = 128  # windows that cost as much as 15 separate ones
_SETTLING_STEPS = 1000  # batch norms' running means keep 1 % a step: they need so many to forget their start
_REFRESHED_STEPS = 25  # frozen statistics fall behind the weights: features would grow without bound
_SETTLING_IMAGES = 512
_VALIDATED_WINDOWS = 32  # consecutive ones, which share their images' features


def fit_cnn(
    training: Sequence[Excerpt], validation: Sequence[Excerpt], options: FitOptions
) -> PublishedPredictor:
    """Train stage 1, images of three frames to run or rest; without `validation` the last epoch counts.

    A finished or broken-off training of the same data and options is taken up from `options.cache`.

    Raises
    ------
    DataError
        For recordings of several sizes or rates, too short excerpts, or unknown settings.
    CheckpointError
        When the file of ImageNet weights does not fit.
    """
    return _Fit.of(training, validation, options).stage_1()


def fit_cnn_gru(
    training: Sequence[Excerpt], validation: Sequence[Excerpt], options: FitOptions
) -> PublishedPredictor:
    """Train stage 1, then stage 2 from its weights: windows of images to run or rest; see `fit_cnn`."""
    return _Fit.of(training, validation, options).stage_2()


@dataclass(frozen=True, slots=True)
class _Stage:
    """One stage's network, its stretches of `length` labels, and how many stretches make a step."""

    kind: str
    network: EfficientNetB0 | CnnGruNetwork
    half_window: int
    length: int
    batch: int


@dataclass(frozen=True, slots=True)
class _Fit:
    """The data and numbers of one training; `sources` are of the training's excerpts, then the validation's."""

    training: Sequence[Excerpt]
    validation: Sequence[Excerpt]
    options: FitOptions
    recipe: Recipe
    sources: list[SessionImages]

    @classmethod
    def of(cls, training: Sequence[Excerpt], validation: Sequence[Excerpt], options: FitOptions) -> "_Fit":
        if not training:
            raise DataError("nothing to train on; valid is one excerpt of a recording or more")
        recipe = recipe_of(Recipe, options, training[0].recording.rate_hz)
        sources = open_images([*training, *validation], options.cache)
        return cls(training, validation, options, recipe, sources)

    def stage_1(self) -> PublishedPredictor:
        kept = self.options.cache / f"stage-1-{self._digest(CNN_KIND)}.npz"
        if not kept.exists():
            self._train_stage_1().save(kept)
        predictor = load(kept, self.options.cache)
        return replace(predictor, device=self.options.device, threads=self.options.threads)

    def stage_2(self) -> PublishedPredictor:
        recipe, config = self.recipe, self._config()
        length = recipe.stretch_windows if recipe.windows == "shared" else 1
        self._stretches(
            self.training, self.sources, length, recipe.half_window
        )  # refused before hours of stage 1
        first = self.stage_1()
        fix_seeds(config)
        network = build(
            CNN_GRU_KIND, recipe, first.network if isinstance(first.network, EfficientNetB0) else None
        )
        windows = recipe.batch or (_SHARED_BATCH if length > 1 else _BATCH_2)
        stage = _Stage(CNN_GRU_KIND, network, recipe.half_window, length, max(1, windows // length))
        return self._predictor(network, first.provenance | self._train(stage, config))

    def _train_stage_1(self) -> PublishedPredictor:
        config = self._config()
        fix_seeds(config)
        cnn = EfficientNetB0()
        started_from = self._start(cnn)
        batch = self.recipe.batch or (_BATCH_1 if self.options.device == "cuda" else _CPU_BATCH_1)
        losses = self._train(_Stage(CNN_KIND, cnn, 0, 1, batch), config)
        return self._predictor(cnn, {"started_from": started_from, **losses})

    def _start(self, cnn: EfficientNetB0) -> str:
        """Load ImageNet weights if there are any; say what the training starts from."""
        path = self.recipe.imagenet
        if path is None:
            _LOG.warning(
                "the CNN starts from random weights, not from ImageNet's as published: no file was given"
            )
            return "random weights"
        return f"ImageNet weights of {load_imagenet(cnn, path)} ({path.name})"

    def _train(self, stage: _Stage, config: TrainingConfig) -> dict[str, str]:
        """Train one stage; return its losses as provenance."""
        stretches = self._stretches(self.training, self.sources, stage.length, stage.half_window)
        limit = _limit(self.recipe.frames_per_epoch, stage.length)
        frozen = stage.length > 1  # batch norms do not learn from a batch of few stretches
        steps = -(-min(len(stretches), limit or len(stretches)) // stage.batch)

        def losses(epoch: int) -> Iterator[Tensor]:
            drawn = stretches.draw(np.random.default_rng((config.seed, epoch)), limit)
            for step, loaded in enumerate(self._loaded(stretches, drawn, steps)):
                if frozen and step and step % _REFRESHED_STEPS == 0:
                    self._settle_norms(stage)
                yield self._loss(stage.network, loaded)

        settle = frozen or steps * self.recipe.epochs < _SETTLING_STEPS
        best = BestEpoch(self._validator(stage, settle)) if self.validation else None
        _lay_out(stage.network.to(self.options.device), torch.channels_last)  # a fifth faster on CPUs
        resume = self.options.cache / f"{self._digest(stage.kind)}.resume"
        history = train(stage.network, losses, steps, config, resume, best)
        if settle and not best:
            self._settle_norms(stage)
        _lay_out(stage.network.to("cpu").eval(), torch.contiguous_format)
        told = {
            "batch": stage.batch * stage.length,
            "losses": history,
            "validation_losses": best and best.losses,
        }
        return {f"{stage.kind}_training": json.dumps(told)}

    def _validator(self, stage: _Stage, settle: bool) -> Callable[[], float]:
        """Mean loss over the same frames of the validation excerpts every time."""
        length = _VALIDATED_WINDOWS if stage.half_window else 1
        sources = self.sources[len(self.training) :]
        stretches = self._stretches(self.validation, sources, length, stage.half_window)
        limit = _limit(self.recipe.validation_frames or self.recipe.frames_per_epoch, length)
        drawn = stretches.draw(np.random.default_rng(SEED), limit)
        batches = -(-len(drawn) * length // _CPU_BATCH_1)

        def validate() -> float:
            if settle:
                self._settle_norms(stage)
            with torch.no_grad():
                losses = [
                    len(loaded[1]) * float(self._loss(stage.network, loaded))
                    for loaded in self._loaded(stretches, drawn, batches)
                ]
            return sum(losses) / len(drawn)

        return validate

    def _settle_norms(self, stage: _Stage) -> None:
        """Average batch-norm statistics anew with the present weights, over images from all over the data."""
        network = stage.network
        cnn = network.cnn if isinstance(network, CnnGruNetwork) else network
        norms = [part for part in cnn.modules() if isinstance(part, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average
            norm.train()
        stretches = self._stretches(self.training, self.sources, 1, 0)
        drawn = stretches.draw(np.random.default_rng(SEED), _SETTLING_IMAGES)
        with torch.no_grad(), self.recipe.autocast(self.options.device):
            for images, _ in self._loaded(stretches, drawn, -(-len(drawn) // _CPU_BATCH_1)):
                cnn.features(images.flatten(0, 1).to(self.options.device))
        for norm in norms:
            norm.momentum = NORM_MOMENTUM
            norm.eval()

    def _loaded(
        self, stretches: Stretches, drawn: Sequence[tuple[int, int]], batches: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of drawn stretches in so many batches, or in fewer where there are not enough."""
        rows = np.array_split(np.arange(len(drawn)), min(batches, len(drawn)))
        parts = ([drawn[row] for row in part] for part in rows)
        return read_ahead(stretches.load, parts, self.options.device)

    def _loss(self, network: EfficientNetB0 | CnnGruNetwork, loaded: tuple[Tensor, Tensor]) -> Tensor:
        """Binary cross-entropy of images (B, n, 3, H, W) and labels (B, L)."""
        images, labels = (part.to(self.options.device) for part in loaded)
        with self.recipe.autocast(self.options.device):
            single = isinstance(network, EfficientNetB0)
            logits = network(images.flatten(0, 1)).view(labels.shape) if single else network(images)
        return F.binary_cross_entropy_with_logits(logits.float(), labels)

    @staticmethod
    def _stretches(
        excerpts: Sequence[Excerpt], sources: Sequence[SessionImages], length: int, half_window: int
    ) -> Stretches:
        return Stretches.of(excerpts, sources[: len(excerpts)], length, half_window)

    def _config(self) -> TrainingConfig:
        """Optimiser and schedule of fastai 2.5.2's `fit_one_cycle`, which the published training calls."""
        return TrainingConfig(
            epochs=self.recipe.epochs,
            learning_rate=self.recipe.learning_rate,
            weight_decay=1e-2,
            seed=SEED + self.options.seed,
            threads=self.options.threads,
            betas=(0.9, 0.99),
            epsilon=1e-5,
            warm_up_share=0.25,
            final_division=1e5 / 25,  # fastai counts from the largest learning rate, torch from the first
            largest_gradient=None,
            decay_biases=False,
        )

    def _predictor(self, network: EfficientNetB0 | CnnGruNetwork, told: dict[str, str]) -> PublishedPredictor:
        recording = self.training[0].recording
        provenance = {
            **told,
            **described(self.training, self.validation, SEED + self.options.seed),
            "normalisation": "each pixel's mean and one standard deviation of the whole session",
        }
        options = self.options
        return PublishedPredictor(
            network.eval(), self.recipe, recording.size_px, recording.rate_hz, options.cache, options.device,
            options.threads, provenance,
        )  # fmt: skip

    def _digest(self, kind: str) -> str:
        """Name of this training's files in the cache: differs with all that its result depends on."""
        recipe = self.recipe.model_dump(mode="json", include=_STAGE_1 if kind == CNN_KIND else None)
        imagenet = self.recipe.imagenet
        weights = hashlib.sha256(imagenet.read_bytes()).hexdigest() if imagenet and imagenet.exists() else ""
        excerpts = [
            [[recording_key(e.recording), e.start, e.stop, labels_key(e.running)] for e in part]
            for part in (self.training, self.validation)
        ]
        device = [self.options.device, self.options.seed, self.options.threads]
        told = json.dumps([kind, recipe, weights, excerpts, device])
        return hashlib.sha256(told.encode()).hexdigest()[:16]


_STAGE_1 = {
    "epochs",
    "learning_rate",
    "batch",
    "frames_per_epoch",
    "validation_frames",
    "precision",
    "imagenet",
}


def _lay_out(network: nn.Module, order: torch.memory_format) -> None:
    """Order of the weights in memory; inputs follow it by themselves."""
    network.to(memory_format=order)  # type: ignore[call-overload]  # missing in torch's stubs


def _limit(frames: int | None, length: int) -> int | None:
    return None if frames is None else max(1, frames // length)
