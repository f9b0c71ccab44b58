"""Numbers of the published run/rest decoders' training, and what options change of them.

Ajioka, Nakai, Yamashita, Takumi, PLoS Comput Biol 20(3): e1011074 (2024), doi 10.1371/journal.pcbi.1011074.
"""

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from decoders.behavior.cnn_gru import RnnType
from decoders.behavior.predictor import FitOptions
from rig.errors import DataError


class Recipe(BaseModel):
    """Numbers of the published training; each can be overridden by `FitOptions.settings`.

    Attributes
    ----------
    epochs, learning_rate
        Of both stages, one-cycle, best epoch by validation loss. In fewer than 1000 steps batch norms' running
        statistics cannot settle at the published momentum; they are then averaged anew over 1024 images.
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
        stretch are much alike, so a batch tells less than as many separate windows, and batch norms keep stage 1's
        statistics; the loss and its gradient are those of the same windows one by one.
    frames_per_epoch, validation_frames
        Labelled frames drawn at random in every epoch, and in every validation. None: all; as many as in an epoch.
    precision
        None: mixed 16-bit on a GPU, 32-bit on a CPU, where 16-bit training is slower.
    imagenet
        File of weights to start from, see `load_imagenet`. None: random weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

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


def recipe_of(options: FitOptions, rate_hz: float) -> Recipe:
    """Published recipe with what `options` change.

    `options.window_s` is the whole span of frames that one answer sees: 0.43 s is the published 13 frames at 30 Hz.

    Raises
    ------
    DataError
        For a setting that does not exist or has no valid value.
    """
    settings: dict[str, Any] = {} if options.epochs is None else {"epochs": options.epochs}
    if options.window_s is not None:
        settings["half_window"] = max(0, round((options.window_s * rate_hz - 3) / 2))
    try:
        return Recipe.model_validate({**settings, **(options.settings or {})})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise DataError(
            f"setting {name}: {first['msg']}; valid settings are {', '.join(Recipe.model_fields)}"
        ) from None
