"""Numbers of the published run/rest decoders' training, and what options change of them.

Ajioka, Nakai, Yamashita, Takumi, PLoS Comput Biol 20(3): e1011074 (2024), doi 10.1371/journal.pcbi.1011074.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import BaseModel, Field

from decoders.behavior.cnn_gru import RnnType
from decoders.behavior.predictor import FitOptions
from decoders.datasets.behavior import Excerpt
from decoders.recipe import RECIPE, checked

SEED = 2021  # the published one, for FitOptions.seed 0; other seeds count from it


class Recipe(BaseModel):
    """Numbers of the published training; each can be overridden by `FitOptions.settings`.

    Attributes
    ----------
    epochs, learning_rate
        Of both stages, one-cycle, best epoch by validation loss. In fewer than 1000 steps batch norms' running
        statistics cannot settle at the published momentum; they are then averaged anew over 512 images.
    batch
        Images in a step of stage 1, windows in one of stage 2. None: 512 and 32 as published (on the CPU 64 images,
        since 512 take 20 GB); 128 shared windows, which cost as much as 15 separate ones.
    half_window
        Images before and after the decoded one.
    rnn, cnn_fixed
        Recurrent layer; whether stage 2 leaves the CNN as stage 1 made it.
    windows
        "separate": single windows at random, each with its own 2 h + 1 images, as published. "shared": stretches of
        `stretch_windows` consecutive windows at random, each image through the CNN once. The labels of a
        stretch are much alike, so a batch tells less than as many separate windows, and batch norms take no
        statistics from it: they are averaged anew every 25 steps. The loss and its gradient are those of the
        same windows one by one.
    frames_per_epoch, validation_frames
        Labelled frames drawn at random in every epoch, and in every validation. None: all; as many as in an epoch.
    precision
        None: mixed 16-bit on a GPU, 32-bit on a CPU, where 16-bit training is slower.
    imagenet
        File of weights to start from, see `load_imagenet`. None: random weights.
    """

    model_config = RECIPE

    epochs: int = Field(3, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    batch: int | None = Field(None, ge=1)
    half_window: int = Field(5, ge=0)
    rnn: RnnType = "GRU"
    cnn_fixed: bool = False
    windows: Literal["shared", "separate"] = "shared"
    stretch_windows: int = Field(32, ge=1)
    frames_per_epoch: int | None = Field(None, ge=1)
    validation_frames: int | None = Field(None, ge=1)
    precision: Literal["fp32", "fp16", "bf16"] | None = None
    imagenet: Path | None = None

    def autocast(self, device: str) -> torch.autocast:
        """Context in which the forward pass runs."""
        precision = self.precision or ("fp16" if device == "cuda" else "fp32")
        dtype = torch.float16 if precision == "fp16" else torch.bfloat16
        return torch.autocast(device, dtype, enabled=precision != "fp32")


class RoiRecipe(BaseModel):
    """Numbers of the published training of ROI networks, overridden likewise.

    `half_window` is in frames. `rois` are the names of those traces that are used, see `decoders.behavior.rois`
    (None: all); `frames_per_epoch` are drawn at random in every epoch (None: all). Adam at Keras' defaults.
    """

    model_config = RECIPE

    epochs: int = Field(30, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    batch: int = Field(256, ge=1)
    half_window: int = Field(15, ge=0)
    rois: tuple[str, ...] | None = None
    frames_per_epoch: int | None = Field(None, ge=1)


AnyRecipe = TypeVar("AnyRecipe", Recipe, RoiRecipe)


def recipe_of(kind: type[AnyRecipe], options: FitOptions, rate_hz: float) -> AnyRecipe:
    """Published recipe with what `options` change.

    `options.window_s` is the whole span of frames that one answer sees: at 30 Hz 0.43 s are the 13 frames of the
    published CNN-GRU, 1.03 s the 31 of the ROI networks.

    Raises
    ------
    ConfigError
        For a setting that does not exist or has no valid value.
    """
    settings: dict[str, Any] = {} if options.epochs is None else {"epochs": options.epochs}
    if options.window_s is not None:
        least = 3 if kind is Recipe else 1  # an image alone is three frames
        settings["half_window"] = max(0, round((options.window_s * rate_hz - least) / 2))
    return checked(kind, {**settings, **(options.settings or {})})


def described(training: Sequence[Excerpt], validation: Sequence[Excerpt], seed: int) -> dict[str, str]:
    """Provenance of a model: what it was trained on, and the seed."""
    return {
        "data": ", ".join(sorted({excerpt.recording.origin for excerpt in training})),
        "trained_on": _named(training),
        "validated_on": _named(validation),
        "seed": str(seed),
    }


def _named(excerpts: Sequence[Excerpt]) -> str:
    return ", ".join(f"{e.recording.mouse}/{e.recording.session}[{e.start}:{e.stop}]" for e in excerpts)
