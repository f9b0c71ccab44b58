"""What every run/rest model is to those that train, score and explain it: fit on excerpts, then predict a recording."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from decoders.datasets.behavior import BehaviorRecording, Excerpt
from rig.errors import ConfigError, DataError

MODELS = {
    "causal": "decoders.behavior.train:fit",
    "cnn": "decoders.behavior.published:fit_cnn",
    "cnn-gru": "decoders.behavior.published:fit_cnn_gru",
    "roi-gru": "decoders.behavior.roi_networks:fit_gru",
    "roi-lstm": "decoders.behavior.roi_networks:fit_lstm",
    "roi-rnn": "decoders.behavior.roi_networks:fit_rnn",
    "majority": "decoders.behavior.baselines:fit_majority",
    "brightness": "decoders.behavior.baselines:fit_brightness",
    "logistic": "decoders.behavior.baselines:fit_logistic",
    "svm": "decoders.behavior.baselines:fit_svm",
}
"""Models by name, and where the function lies that fits each."""
_RECIPES = {
    "causal": "decoders.behavior.train:Recipe",
    "cnn": "decoders.behavior.published_recipe:Recipe",
    "cnn-gru": "decoders.behavior.published_recipe:Recipe",
    "roi-gru": "decoders.behavior.published_recipe:RoiRecipe",
    "roi-lstm": "decoders.behavior.published_recipe:RoiRecipe",
    "roi-rnn": "decoders.behavior.published_recipe:RoiRecipe",
}


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How to fit a model; None leaves a number to the model's own recipe.

    `cache` is a folder for what can be used again: normalised frames, and the state of a training that was broken
    off. `settings` override single numbers of a model's recipe by name.
    """

    cache: Path
    seed: int = 0
    epochs: int | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 2
    window_s: float | None = None
    settings: dict[str, Any] | None = None


class Predictor(Protocol):
    """A fitted model."""

    def predict(
        self, recording: BehaviorRecording, occluded: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Probability of running at every frame, (T,), NaN where the model has no answer (warm-up, edges).

        Parameters
        ----------
        recording
            Of the rate and size that was trained on.
        occluded
            (H, W), pixels of the camera's frame to set to zero after normalisation; for models without an image,
            a `DataError`.
        """
        ...

    def save(self, path: Path) -> None:
        """Write the model as a checkpoint; raises `CheckpointError` when the file exists."""
        ...


def check_model(name: str, settings: Mapping[str, Any] | None = None) -> None:
    """Refuse what no data can make right: a name that is no model's, and settings that the model does not have.

    Raises
    ------
    DataError
        For the name.
    ConfigError
        For a setting's name or value.
    """
    if name not in MODELS:
        raise DataError(f"no model {name!r}; valid: {', '.join(MODELS)}")
    if not settings:
        return
    if name not in _RECIPES:
        first, valid = next(iter(settings)), ", ".join(_RECIPES)
        raise ConfigError(
            f"setting {first}={settings[first]}: {name} has no settings; those that have: {valid}"
        )
    from decoders.recipe import checked

    checked(_named(_RECIPES[name]), settings)


def fit(
    name: str, training: Sequence[Excerpt], validation: Sequence[Excerpt], options: FitOptions
) -> Predictor:
    """Fit the model called `name`; `validation` serves to choose (epoch, threshold), never to score.

    Raises
    ------
    DataError
        For an unknown name, or data that the model cannot be fitted to.
    """
    check_model(name)
    predictor: Predictor = _named(MODELS[name])(training, validation, options)
    return predictor


def _named(place: str) -> Any:
    """Import what lies at "module:name"."""
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)
