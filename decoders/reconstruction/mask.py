"""Transparency masks: where on the screen the movie matters to a mouse's neurons, learnt through an encoder.

Published recipe: Bauer, Margrie, Clopath, eLife 14: RP105081 (2026), doi 10.7554/eLife.105081.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from decoders.datasets.movie_trials import MovieTrial, Trial
from decoders.reconstruction.encoder import (
    HEIGHT_PX,
    WIDTH_PX,
    Encoder,
    as_batch,
    check_clip,
    check_finite,
    check_shape,
    middle,
)
from decoders.reconstruction.progress import show_progress
from rig.errors import DataError

UPDATE_THRESHOLD = 0.5  # published: pixels at or above it are reconstructed
EVALUATION_THRESHOLD = 1.0  # published: pixels at or above it are scored
SIZES = (
    (HEIGHT_PX, WIDTH_PX),
    (64, 64),
)  # of the movie, and of the published planes with the movie in the middle

_FIRST_FRAME, _FRAMES = 50, 32  # published: the part of every trial that is used
_START = 0.05  # published: the mask begins as uniform noise up to this
_BLUR_PX = 5.0  # published: standard deviation of the blur of every gradient
_SMALLEST_NORM = 1e-6  # added to the norm of a gradient; published


def train_mask(
    encoder: Encoder,
    mouse: int,
    trials: Sequence[MovieTrial],
    *,
    steps: int = 1000,
    learning_rate: float = 10.0,
    seed: int = 0,
    area_penalty: bool = True,
    progress: bool = True,
) -> NDArray[np.float32]:
    """Learn a mouse's mask on the encoder's planes, (h, w); values may exceed 1.

    Every step shows a mixture of two movies, the first where the mask is opaque and the second elsewhere, and asks
    that the encoder's answer be what was recorded for the first. So the mask grows where the movie matters.

    Parameters
    ----------
    mouse
        Which of the encoder's mice it is.
    trials
        Two or more trials of this mouse, of 82 frames or more each; none that is reconstructed later.
    area_penalty
        Make the answer less in proportion to the mean of the mask, which holds the mask back elsewhere.

    Raises
    ------
    DataError
        For fewer than two trials, trials that do not fit the encoder or are too short, or a loss that is not finite.
    """
    if len(trials) < 2:
        raise DataError(f"{len(trials)} trials to learn a mask from; valid is 2 or more")
    draw = np.random.default_rng(seed)
    mask = (draw.random(encoder.input_size) * _START).astype(np.float32)
    with show_progress(steps, shown=progress, name="mask") as advance:
        for _ in range(steps):
            first, second = (trials[at] for at in draw.choice(len(trials), 2, replace=False))
            shown, other = (_Shown.of(encoder, mouse, trial) for trial in (first, second))
            gradient, loss = _step(shown, other, mask, area_penalty=area_penalty)
            if not math.isfinite(loss):
                raise DataError(
                    f"trial {first.name!r} of mouse {first.mouse!r}: the loss of the mask is {loss}"
                )
            mask -= np.float32(learning_rate) * gaussian_filter(gradient, _BLUR_PX, mode="constant")
            advance(loss, 1)
    return mask


@dataclass(frozen=True, slots=True)
class _Shown:
    """The part of one trial that is used: inputs (5, 32, h, w), responses (N, 32)."""

    encoder: Encoder
    mouse: int
    inputs: Tensor
    responses: Tensor

    @classmethod
    def of(cls, encoder: Encoder, mouse: int, source: MovieTrial) -> "_Shown":
        trial = source.load()
        part = _part(trial)
        try:
            check_clip(encoder, part.behavior, part.pupil_center, part.responses.shape[1], mouse)
            check_shape("responses", part.responses, (encoder.neurons[mouse], _FRAMES))
        except DataError as error:
            raise DataError(f"trial {source.name!r} of mouse {source.mouse!r}: {error}") from None
        video = as_batch(np.moveaxis(part.video, -1, 0))
        inputs = encoder.assemble(video, as_batch(part.behavior), as_batch(part.pupil_center))[0]
        return cls(encoder, mouse, inputs, as_batch(part.responses)[0].to(inputs))


def _part(trial: Trial) -> Trial:
    part = slice(_FIRST_FRAME, _FIRST_FRAME + _FRAMES)
    arrays = (trial.video, trial.responses, trial.behavior, trial.pupil_center)
    return Trial(*(array[..., part] for array in arrays))


def _step(
    shown: _Shown, other: _Shown, mask: NDArray[np.float32], *, area_penalty: bool
) -> tuple[NDArray[np.float32], float]:
    """Gradient of the loss for the mask, (h, w), and the loss; the gradient at unit norm with that of the inputs."""
    movie, behavior = shown.inputs[:1], shown.inputs[1:]
    every = (
        torch.from_numpy(mask).to(movie).expand(movie.shape)
    )  # (1, 32, h, w): each frame has its own gradient
    mixed = torch.cat([movie, every, behavior]).requires_grad_()
    opaque = mixed[1:2].clamp(0, 1)
    blend = mixed[:1] * opaque + other.inputs[:1] * (1 - opaque)
    answer = shown.encoder.respond(torch.cat([blend, mixed[2:]])[None], shown.mouse)[0]
    if area_penalty:
        answer = answer * (1 - opaque.mean())
    loss = (answer - shown.responses).square().mean()
    (gradient,) = torch.autograd.grad(loss, mixed)
    unit = (gradient / (gradient.norm() + _SMALLEST_NORM)).clamp(-1, 1)
    return unit[1].mean(dim=0).cpu().numpy(), float(loss.detach())


def selected(mask: NDArray[Any] | None, size: tuple[int, int], threshold: float) -> NDArray[np.bool_]:
    """Which pixels of planes of a size (h, w) a mask selects; None: all of the movie, and none of its padding."""
    values = np.ones((HEIGHT_PX, WIDTH_PX)) if mask is None else mask
    rows, columns = (max(0, wanted - has) for wanted, has in zip(size, values.shape, strict=True))
    padded = np.pad(values, ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)))
    return np.asarray(middle(padded, size) >= threshold)


def save_mask(path: Path, mask: NDArray[np.float32]) -> None:
    """Write a mask as .npy, whole or not at all; raises `DataError` when the file exists or cannot be written."""
    if path.exists():
        raise DataError(f"{path}: exists already; give --out another name or move the file away")
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            np.save(file, mask.astype(np.float32), allow_pickle=False)
        partial.rename(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written: {error}") from error


def load_mask(path: Path) -> NDArray[np.float32]:
    """Read a mask, (36, 64) or (64, 64), executing nothing in the file.

    Raises
    ------
    DataError
        When it is missing, cut short, no array of numbers, of another size, or selects no pixel.
    """
    try:
        mask = np.load(path, allow_pickle=False)
        values = np.asarray(mask, np.float32)
    except (OSError, EOFError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: not a mask, or cut short; valid is an .npy file of numbers: {reason}"
        ) from error
    try:
        check_mask(values, SIZES)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return values


def check_mask(mask: NDArray[np.float32], sizes: Sequence[tuple[int, int]]) -> None:
    """Raise `DataError` for a mask of another size, with values that are not finite, or that selects nothing."""
    if mask.shape not in sizes:
        valid = " or ".join(f"{height} x {width}" for height, width in dict.fromkeys(sizes))
        raise DataError(f"mask is {' x '.join(map(str, mask.shape))}; valid is {valid}")
    check_finite("mask", mask)
    if not (mask >= UPDATE_THRESHOLD).any():
        raise DataError(
            f"mask has no pixel of {UPDATE_THRESHOLD} or more, its largest is {mask.max():g};"
            " nothing would be reconstructed"
        )
