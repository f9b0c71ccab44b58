"""Training of DwiseNeuro as published (R. Baikulov, Zenodo 10.5281/zenodo.10155151; github.com/lRomul/sensorium).

One network for all mice, each sample a random window of one of them, all mice alike often; CutMix within a mouse;
the Poisson loss summed over neurons and frames; AdamW with a linear warm-up, then a cosine; moving average of the
weights. Half precision on a GPU.

Published was one GPU. Several, a process each, share every batch. Published too was a second stage, distillation, in
which each sample trains the readouts of all mice: those of the other mice on what networks of the first stage predict
(gained 0.007 in single models, nothing in ensembles).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from pydantic import BaseModel, Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from decoders.datasets.movies import MovieMouse
from decoders.peers import ALONE, Peer, run_peers
from decoders.recipe import RECIPE, checked
from decoders.reconstruction.averaging import MovingAverage
from decoders.reconstruction.distillation import Teachers
from decoders.reconstruction.dwiseneuro import DwiseNeuro, DwiseNeuroConfig, initialise
from decoders.reconstruction.dwiseneuro_encoder import DwiseNeuroEncoder
from decoders.reconstruction.encoder_clips import MouseClips, Stretch
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
from decoders.training import TrainingConfig, check_device, fix_seeds, read_ahead
from rig.errors import CheckpointError, ConfigError

_RATE_PER_SAMPLE = 3e-4 / 4  # published: 3e-4 for a batch of 4, in proportion
_LOWEST = 100.0  # published: the cosine ends at a hundredth of the learning rate
_SIZE, _STEP = 16, 2  # published: frames of a window, every second one
_PLANE = (64, 64)


class PublishedRecipe(BaseModel):
    """The published numbers (configuration `true_batch_001`), and what can be asked for otherwise."""

    model_config = RECIPE

    epochs: int = Field(default=21, ge=1)
    warm_up_epochs: int = Field(default=3, ge=0)
    samples: int = Field(default=72_000, ge=1)
    """An epoch, over all mice."""
    batch: int = Field(default=32, ge=1)
    weight_decay: float = Field(default=0.05, ge=0)
    averaging: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the moving average of the weights."""
    cut_mix: float = Field(default=0.5, ge=0, le=1)
    """Share of samples into which a box of another is cut."""
    cut_mix_alpha: float = Field(default=1.0, gt=0)
    kept_gb: float = Field(default=4.0, ge=0)
    """Of trials in memory, all mice together; the others are read from the disk whenever they are drawn."""
    held_out_share: float = Field(default=1 / 7, gt=0, lt=1)
    distilled_share: float = Field(default=0.36, ge=0, le=1)
    """Weight in a sample's loss of what the teachers predict, the same for each other mouse; without teachers 0.

    Published as `ratio` 0.36 of `distillation_001`. That every sample is distilled, and that this is a share of the
    loss, is from the README (which writes 0.36%); how the other mice share it is our reading.
    """
    core_features: tuple[PositiveInt, ...] = (64, 64, 64, 64, 128, 128, 128, 256, 256)
    spatial_strides: tuple[PositiveInt, ...] = (2, 1, 1, 1, 2, 1, 1, 2, 1)
    expansion_ratio: int = Field(default=7, ge=1)
    se_reduce_ratio: int = Field(default=32, ge=1)
    cortex_features: tuple[PositiveInt, ...] = (1024, 2048, 4096)

    def network(self, neurons: tuple[int, ...]) -> DwiseNeuroConfig:
        """Sizes of the network."""
        names = ("core_features", "spatial_strides", "expansion_ratio", "se_reduce_ratio", "cortex_features")
        return DwiseNeuroConfig(neurons, **{name: getattr(self, name) for name in names})


def train_published(
    mice: Sequence[MovieMouse], options: EncoderOptions, out: Path, provenance: Mapping[str, str]
) -> EncoderReport:
    """Train DwiseNeuro on the training tier of some mice, and write the published layout.

    Raises
    ------
    ConfigError
        For a setting that does not exist or does not fit, or GPUs that are not there.
    DataError
        When there are too few movies, a trial is shorter than a window, or the loss stops being finite.
    CheckpointError
        When the file exists, a teacher cannot teach, or a training that was broken off cannot be resumed.
    """
    check_device(options.device, options.processes)
    recipe = _recipe(mice, options)
    report = run_peers(
        options.processes, options.device, _train_as, list(mice), recipe, options, out, dict(provenance)
    )
    return cast("EncoderReport", report)  # the first process has one


def _recipe(mice: Sequence[MovieMouse], options: EncoderOptions) -> PublishedRecipe:
    recipe = checked(PublishedRecipe, options.settings)
    try:
        recipe.network(tuple(mouse.neurons for mouse in mice))
    except ValueError as error:
        raise ConfigError(f"the network's settings do not fit: {error}") from error
    if recipe.batch < options.processes:
        raise ConfigError(f"setting batch={recipe.batch}: valid is one sample or more for each process")
    if options.teachers and len(mice) < 2:
        raise ConfigError(
            "--teacher: they teach what other mice respond, and there is one; valid is 2 or more"
        )
    if "distilled_share" in options.settings and not options.teachers:
        raise ConfigError("setting distilled_share: valid with --teacher alone")
    return recipe


def _train_as(
    peer: Peer,
    mice: Sequence[MovieMouse],
    recipe: PublishedRecipe,
    options: EncoderOptions,
    out: Path,
    provenance: Mapping[str, str],
) -> EncoderReport | None:
    """Take part in a training; the first process writes the encoder and reports."""
    deadline = Deadline(options.minutes)
    training = _schedule(recipe, options)
    fix_seeds(training)
    network = DwiseNeuro(recipe.network(tuple(mouse.neurons for mouse in mice)))
    initialise(network)
    network.to(options.device)
    names = tuple(mouse.name for mouse in mice)
    course = _Course.of(mice, recipe, options, _encoder(network, names), peer)

    def loss_of_average(averaged: nn.Module) -> float:
        return -mean(held_out_correlation(_encoder(averaged, names), course.clips))

    steps = -(-recipe.samples // recipe.batch)
    average = MovingAverage(network, recipe.averaging, loss_of_average) if peer.leads else None
    loop = Loop(network, lambda model, epoch: _losses(model, course, (options.seed, epoch)), steps)
    state = options.cache / f"published-{digest(mice, recipe.model_dump_json(), options)}"
    epochs = run(loop, training, average, state, deadline, peer)
    if not peer.leads:
        return None
    save_published(_encoder(network.cpu(), names), out, provenance)
    scores = held_out_correlation(_encoder(network.to(options.device), names), course.clips)
    return EncoderReport.of(scores, course.clips, epochs, deadline)


def _schedule(recipe: PublishedRecipe, options: EncoderOptions) -> TrainingConfig:
    return TrainingConfig(
        epochs=recipe.epochs,
        learning_rate=_RATE_PER_SAMPLE * recipe.batch,
        weight_decay=recipe.weight_decay,
        seed=options.seed,
        threads=options.threads,
        schedule="warm-up-cosine",
        warm_up_share=recipe.warm_up_epochs / recipe.epochs,
        final_division=_LOWEST,
        largest_gradient=None,
    )


def save_published(encoder: DwiseNeuroEncoder, path: Path, provenance: Mapping[str, str]) -> None:
    """Write the published layout, whole or not at all.

    Raises
    ------
    CheckpointError
        When the file exists or cannot be written.
    """
    if path.exists():
        raise CheckpointError(f"{path}: exists already; give --out another name or move the file away")
    params = {
        "nn_module": ("dwiseneuro", asdict(encoder.network.config)),
        "frame_stack": {"size": encoder.size, "step": encoder.step, "position": "last"},
        "inputs_processor": (
            "stack_inputs",
            {"size": encoder.input_size[::-1], "pad_fill_value": encoder.padding},
        ),
        "responses_processor": ("identity", {}),
    }
    content = {
        "model_name": "MouseModel",
        "params": params,
        "nn_state_dict": encoder.network.state_dict(),
        "mice": list(encoder.mice),
        "provenance": dict(provenance),
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(content, partial)
        partial.rename(path)
    except (OSError, RuntimeError) as error:  # torch's own when the disk is full
        partial.unlink(missing_ok=True)
        raise CheckpointError(f"{path}: cannot be written: {error}") from error


def _encoder(network: nn.Module, names: tuple[str, ...]) -> DwiseNeuroEncoder:
    return DwiseNeuroEncoder(cast("DwiseNeuro", network).eval(), _SIZE, _STEP, _PLANE, mice=names)


@dataclass(frozen=True, slots=True)
class _Box:
    """A box of the planes in which another window is shown."""

    shown: Stretch
    rows: slice
    columns: slice


@dataclass(frozen=True, slots=True)
class _Sample:
    """A window of a mouse, what is cut into it, and the responses (N, 16) to both together.

    Planes are made of it where the network is: on their way to a GPU they would be nine times the data.
    """

    mouse: int
    shown: Stretch
    responses: Tensor
    box: _Box | None = None


@dataclass(frozen=True, slots=True)
class _Course:
    """What the samples are drawn from, how, what is to be answered to them, and which process's part this is."""

    clips: Sequence[MouseClips]
    recipe: PublishedRecipe
    teachers: Teachers | None = None
    peer: Peer = ALONE

    @classmethod
    def of(
        cls,
        mice: Sequence[MovieMouse],
        recipe: PublishedRecipe,
        options: EncoderOptions,
        student: DwiseNeuroEncoder,
        peer: Peer,
    ) -> "_Course":
        """Open the data and the teachers."""
        kept_gb = recipe.kept_gb / (len(mice) * peer.count)
        share, shortest = recipe.held_out_share, student.shortest
        clips = [MouseClips(mouse, share, options.seed, shortest, kept_gb) for mouse in mice]
        teachers = Teachers.load(options.teachers, mice, student) if options.teachers else None
        return cls(clips, recipe, teachers if recipe.distilled_share else None, peer)


def _losses(network: nn.Module, course: _Course, seed: tuple[int, int]) -> Iterator[Tensor]:
    """Losses of an epoch: summed over neurons and frames of a sample, the mean over the batch's samples.

    Several processes deal out the samples of a batch, and the mean of their losses is the batch's. What a sample is
    depends on its number alone, not on who draws it. Batch norms see the samples of their own process only; the running
    statistics that are kept are those of the first.
    """
    model = cast("DwiseNeuro", network)
    device = next(model.parameters()).device
    encoder = DwiseNeuroEncoder(model, _SIZE, _STEP, _PLANE)
    recipe, peer = course.recipe, course.peer
    starts = range(0, recipe.samples, recipe.batch)
    drawn = [range(start, min(start + recipe.batch, recipe.samples)) for start in starts]

    def draw(numbers: range) -> list[_Sample]:
        own = numbers[peer.rank :: peer.count]
        return [_draw(encoder, course.clips, recipe, np.random.default_rng((*seed, n))) for n in own]

    for numbers, batch in zip(drawn, read_ahead(draw, drawn, device.type), strict=True):
        if not batch:  # the last one is too small for all processes
            yield torch.zeros((), device=device, requires_grad=True)
            continue
        windows = _windows(encoder, batch).permute(0, 2, 3, 4, 1)
        with torch.autocast(device.type, enabled=device.type == "cuda"):
            features = model.features(windows)
            total = _recorded_loss(model, features, batch)
            if course.teachers:
                share = recipe.distilled_share
                taught = _taught_loss(model, features, batch, course.teachers.respond(windows))
                total = (1 - share) * total + share * taught
        yield finite(total * peer.count / len(numbers), [sample.shown for sample in batch])


def _windows(encoder: DwiseNeuroEncoder, batch: Sequence[_Sample]) -> Tensor:
    """Planes (B, 5, 16, 64, 64) of samples, boxes cut in, on the network's device."""
    planes = _planes(encoder, [sample.shown for sample in batch])
    cut = [(at, sample.box) for at, sample in enumerate(batch) if sample.box]
    if cut:
        others = _planes(encoder, [box.shown for _, box in cut])
        for (at, box), other in zip(cut, others, strict=True):
            planes[at, ..., box.rows, box.columns] = other[..., box.rows, box.columns]
    return planes


def _planes(encoder: DwiseNeuroEncoder, shown: Sequence[Stretch]) -> Tensor:
    signals = torch.stack([stretch.signals for stretch in shown])
    return encoder.assemble(torch.stack([stretch.video for stretch in shown]), signals[:, :2], signals[:, 2:])


def _recorded_loss(model: DwiseNeuro, features: Tensor, batch: Sequence[_Sample]) -> Tensor:
    """Loss of each sample's own mouse on what was recorded, summed over the samples."""
    total = torch.zeros((), device=features.device)
    for mouse in sorted({sample.mouse for sample in batch}):
        own = [k for k, sample in enumerate(batch) if sample.mouse == mouse]
        recorded = torch.stack([batch[k].responses for k in own])
        total = total + _poisson(model.readouts[mouse](features[own]), recorded.to(features.device))
    return total


def _taught_loss(
    model: DwiseNeuro, features: Tensor, batch: Sequence[_Sample], taught: Sequence[Tensor]
) -> Tensor:
    """Loss of each sample's other mice on what the teachers predict: their mean, summed over the samples.

    The teachers saw the planes with the box cut in, so their predictions need no mixing.
    """
    total = torch.zeros((), device=features.device)
    for mouse, predicted in enumerate(taught):
        others = [k for k, sample in enumerate(batch) if sample.mouse != mouse]
        if others:
            answer = model.readouts[mouse](features[others])
            total = total + _poisson(answer, predicted[others].transpose(1, 2))
    return total / (len(taught) - 1)


def _poisson(answer: Tensor, recorded: Tensor) -> Tensor:
    """Poisson loss of answers (B, T, N) to responses (B, N, T), summed over everything, in full precision."""
    return F.poisson_nll_loss(
        answer.float().transpose(1, 2), recorded, log_input=False, full=False, reduction="sum"
    )


def _draw(
    encoder: DwiseNeuroEncoder,
    clips: Sequence[MouseClips],
    recipe: PublishedRecipe,
    rng: np.random.Generator,
) -> _Sample:
    """A random window of a random mouse, into which a box of another window may be cut."""
    mouse = int(rng.integers(len(clips)))

    def draw() -> tuple[Stretch, Tensor]:
        shown = clips[mouse].draw(rng, encoder.shortest, encoder.step)
        return shown, shown.responses.clamp(min=0)  # published: negative responses are 0

    shown, responses = draw()
    if rng.random() >= recipe.cut_mix:
        return _Sample(mouse, shown, responses)
    other, theirs = draw()
    rows, columns = _box(rng, recipe.cut_mix_alpha)
    share = (rows.stop - rows.start) * (columns.stop - columns.start) / (_PLANE[0] * _PLANE[1])
    return _Sample(mouse, shown, (1 - share) * responses + share * theirs, _Box(other, rows, columns))


def _box(rng: np.random.Generator, alpha: float) -> tuple[slice, slice]:
    """A random box whose share of the plane is drawn from a beta distribution, cut at the edges (Yun et al. 2019)."""
    cut = np.sqrt(1 - rng.beta(alpha, alpha))
    sides = []
    for length in _PLANE:
        half, centre = int(length * cut) // 2, int(rng.integers(length))
        sides.append(slice(max(0, centre - half), min(length, centre + half)))
    return sides[0], sides[1]
