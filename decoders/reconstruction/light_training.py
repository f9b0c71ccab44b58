"""Training of the light encoder: movies and responses of some mice to an encoder, in minutes on a CPU."""

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional as F

from decoders.datasets.movies import MovieMouse
from decoders.recipe import RECIPE, checked
from decoders.reconstruction import knowledge
from decoders.reconstruction.averaging import MovingAverage
from decoders.reconstruction.encoder_clips import MouseClips
from decoders.reconstruction.encoder_training import (
    Deadline,
    EncoderOptions,
    EncoderReport,
    Loop,
    digest,
    finite,
    held_out_correlation,
    mean,
    run,
)
from decoders.reconstruction.light_encoder import LightConfig, LightEncoder, LightNetwork
from decoders.reconstruction.light_start import begin
from decoders.training import TrainingConfig, check_device, fix_seeds
from rig.errors import DataError

_START_CLIPS = 90  # tell where a neuron looks; more only take longer, and the training sees them all


class LightRecipe(BaseModel):
    """Everything that a training of the light encoder can be asked to do otherwise."""

    model_config = RECIPE

    epochs: int = Field(default=20, ge=1)
    """At most: `--minutes` can leave fewer."""
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    batch: int = Field(default=2, ge=1)
    frames: int = Field(default=100, ge=1)
    """Of each stretch, beside those that it takes to know the past."""
    averaging: float = Field(default=0.98, ge=0, lt=1)
    """Decay of the moving average of the weights."""
    kept_gb: float = Field(default=4.0, ge=0)
    """Of trials in memory, all mice together; the others are read from the disk whenever they are drawn."""
    held_out_share: float = Field(default=0.1, gt=0, lt=1)
    stride_px: int = Field(default=3, ge=1)
    taps: int = Field(default=12, ge=4)
    features: int = Field(default=32, ge=1)
    hidden: int = Field(default=12, ge=1)


def fit_light(mice: Sequence[MovieMouse], options: EncoderOptions) -> tuple[LightEncoder, EncoderReport]:
    """Train a light encoder on the training tier of some mice, and measure what an inversion needs to know.

    Raises
    ------
    ConfigError
        For a setting that does not exist, or a GPU that is not there.
    DataError
        When there are too few movies, a trial is shorter than a stretch, or the loss stops being finite.
    """
    check_device(options.device)
    deadline = Deadline(options.minutes)
    recipe = checked(LightRecipe, options.settings)
    config = _config(mice, recipe)
    shortest = config.memory + recipe.frames
    kept_gb = recipe.kept_gb / len(mice)
    clips = [MouseClips(mouse, recipe.held_out_share, options.seed, shortest, kept_gb) for mouse in mice]
    training = TrainingConfig(
        recipe.epochs, recipe.learning_rate, recipe.weight_decay, options.seed, options.threads
    )
    fix_seeds(training)
    state = options.cache / f"light-{digest(mice, recipe.model_dump_json(), options)}"
    network = LightNetwork(config).to(options.device)
    if not state.with_suffix(".resume").exists():
        for mouse, found in enumerate(clips):
            _start(network, mouse, found)
    names = tuple(mouse.name for mouse in mice)

    def loss_of_average(averaged: nn.Module) -> float:
        return -mean(held_out_correlation(_encoder(averaged, names), clips))

    frames = sum(found.training_frames for found in clips)
    steps = max(1, frames // (recipe.batch * recipe.frames))
    average = MovingAverage(network, recipe.averaging, loss_of_average)
    loop = Loop(
        network, lambda model, epoch: _losses(model, clips, recipe, (options.seed, epoch), steps), steps
    )
    epochs = run(loop, training, average, state, deadline)
    encoder = _encoder(network.cpu(), names)
    scores = held_out_correlation(encoder, clips)
    report = EncoderReport.of(scores, clips, epochs, deadline)
    return LightEncoder(encoder.network, names, _known(encoder, clips)), report


def _config(mice: Sequence[MovieMouse], recipe: LightRecipe) -> LightConfig:
    rates = {mouse.rate_hz for mouse in mice}
    if len(rates) != 1:
        raise DataError(f"mice were recorded at {sorted(rates)} Hz; valid is one rate")
    sizes = recipe.model_dump(include={"stride_px", "taps", "features", "hidden"})
    return LightConfig(tuple(mouse.neurons for mouse in mice), rates.pop(), **sizes)


def _start(network: LightNetwork, mouse: int, clips: MouseClips) -> None:
    """Standardise what the network takes and gives, and find where each neuron looks."""
    readout = network.readout(mouse)
    signal_mean, signal_std = clips.behaviour()
    readout.signal_mean.copy_(signal_mean)
    readout.signal_std.copy_(signal_std)
    readout.response_std.copy_(torch.from_numpy(clips.response_std))
    std = readout.response_std[:, None].cpu()
    count = len(clips.training)
    some = [clips.training[k] for k in np.linspace(0, count - 1, min(count, _START_CLIPS)).astype(int)]
    begin(network, mouse, lambda: ((s.video, s.responses / std) for s in clips.whole(some)))


def _losses(
    network: nn.Module, clips: Sequence[MouseClips], recipe: LightRecipe, seed: tuple[int, int], steps: int
) -> Iterator[Tensor]:
    """Losses of an epoch; each is of stretches of one mouse, the mice in turn."""
    model = cast("LightNetwork", network)
    rng = np.random.default_rng(seed)
    settled = model.config.memory
    for step in range(steps):
        mouse = step % len(clips)
        drawn = [clips[mouse].draw(rng, settled + recipe.frames) for _ in range(recipe.batch)]
        std = model.readout(mouse).response_std
        video, signals, responses = (
            torch.stack([getattr(stretch, part) for stretch in drawn]).to(std.device)
            for part in ("video", "signals", "responses")
        )
        predicted = model(video, signals, mouse)[..., settled:]
        recorded = responses[..., settled:] / std[:, None]
        yield finite(F.poisson_nll_loss(predicted, recorded, log_input=False), drawn)


def _encoder(network: nn.Module, names: tuple[str, ...]) -> LightEncoder:
    return LightEncoder(cast("LightNetwork", network).eval(), names)


def _known(encoder: LightEncoder, clips: Sequence[MouseClips]) -> knowledge.Arrays:
    videos = (stretch.video.numpy() for found in clips for stretch in found.whole(found.training))
    known = knowledge.movies(videos)
    for mouse, found in enumerate(clips):
        known |= knowledge.neurons(encoder, mouse, found)
    return known
