"""A trained published run/rest decoder: what it answers for a recording, and its checkpoint."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from decoders.behavior.cnn_gru import CnnGruNetwork
from decoders.behavior.efficientnet import EfficientNetB0
from decoders.behavior.images import SessionImages, Statistics, session_statistics
from decoders.behavior.published_recipe import Recipe
from decoders.behavior.schemes import same_rate
from decoders.checkpoint import Checkpoint, read_checkpoint
from decoders.datasets.behavior import BehaviorRecording
from decoders.datasets.cache import recording_key
from decoders.runtime import OnnxEngine, export_onnx
from rig.errors import CheckpointError, DataError

CNN_KIND, CNN_GRU_KIND = "behavior-cnn", "behavior-cnn-gru-published"
_PREDICTED_IMAGES = 16  # through the CNN at once; more does not make it faster on a CPU
_PREDICTED_WINDOWS = 512


@dataclass(slots=True)
class PublishedPredictor:
    """A trained CNN (`kind` "behavior-cnn") or CNN-GRU; see `decoders.behavior.predictor.Predictor`.

    `cache` keeps the means and standard deviations of predicted sessions; None: the predictor alone remembers
    them. `provenance` is saved with the model.
    """

    network: EfficientNetB0 | CnnGruNetwork
    recipe: Recipe
    size_px: tuple[int, int]
    rate_hz: float
    cache: Path | None = None
    device: str = "cpu"
    threads: int = 1
    provenance: dict[str, str] = field(default_factory=dict)
    _statistics: dict[str, Statistics] = field(default_factory=dict)
    _engine: Callable[[Tensor], Tensor] | None = None

    @property
    def kind(self) -> str:
        """Kind of the checkpoint."""
        return CNN_GRU_KIND if isinstance(self.network, CnnGruNetwork) else CNN_KIND

    def predict(
        self, recording: BehaviorRecording, occluded: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Probability of running at every frame, (T,); NaN at the first and last (CNN: 1, CNN-GRU: 6) frames.

        Raises
        ------
        DataError
            When the frames are of another size or rate than the model was trained on, or too few.
        """
        half = self.network.half_window if isinstance(self.network, CnnGruNetwork) else 0
        self._check(recording, half)
        source = SessionImages(recording, self._known(recording), occluded)
        logits = self._decode(self._features(source, len(recording)))
        probability = np.full(len(recording), np.nan, np.float32)
        probability[half + 1 : len(recording) - half - 1] = torch.sigmoid(logits).numpy()
        return probability

    def save(self, path: Path) -> None:
        """Write the model as a checkpoint; raises `CheckpointError` when the file exists."""
        arrays = {name: value.cpu().numpy() for name, value in self.network.state_dict().items()}
        settings = self.recipe.model_dump(mode="json")
        height, width = self.size_px
        checkpoint = Checkpoint(self.kind, height, width, self.rate_hz, arrays, settings, self.provenance)
        checkpoint.save(path)

    def _known(self, recording: BehaviorRecording) -> Statistics:
        key = recording_key(recording)
        if key not in self._statistics:
            self._statistics[key] = session_statistics(recording, self.cache)
        return self._statistics[key]

    def _check(self, recording: BehaviorRecording, half: int) -> None:
        if recording.size_px != self.size_px or not same_rate(recording.rate_hz, self.rate_hz):
            has, valid = (
                f"{height}x{width} pixels at {rate:g} Hz"
                for (height, width), rate in (
                    (recording.size_px, recording.rate_hz),
                    (self.size_px, self.rate_hz),
                )
            )
            raise DataError(f"{recording.path}: frames of {has}; this model was trained on {valid}")
        if len(recording) < 2 * half + 3:
            raise DataError(f"{recording.path}: {len(recording)} frames; valid is {2 * half + 3} or more")

    def _features(self, source: SessionImages, frames: int) -> Tensor:
        """Features of every image of a session, (T - 2, 1280)."""
        self._engine = self._engine or self._start()
        starts = range(1, frames - 1, _PREDICTED_IMAGES)
        engine = self._engine
        return torch.cat(
            [engine(source.images(at, min(at + _PREDICTED_IMAGES, frames - 1))) for at in starts]
        )

    def _decode(self, features: Tensor) -> Tensor:
        """Features (n, 1280) to logits, (n,) or (n - 2 h,)."""
        network = self.network.eval()
        with torch.no_grad():
            if isinstance(network, EfficientNetB0):
                logits: Tensor = network.classifier(features).squeeze(-1)
                return logits
            overlap = 2 * network.half_window
            starts = range(0, len(features) - overlap, _PREDICTED_WINDOWS)
            stretches = [features[None, at : at + _PREDICTED_WINDOWS + overlap] for at in starts]
            return torch.cat([network.decode(stretch)[0] for stretch in stretches])

    def _start(self) -> Callable[[Tensor], Tensor]:
        cnn = self.network.cnn if isinstance(self.network, CnnGruNetwork) else self.network
        return (
            _torch_features(cnn) if self.device == "cuda" else _onnx_features(cnn, self.size_px, self.threads)
        )


def load(path: Path, cache: Path | None = None) -> PublishedPredictor:
    """Read a CNN or a CNN-GRU from its checkpoint.

    Raises
    ------
    CheckpointError
        When the file is damaged, of another kind, or its weights do not fit its settings.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.kind not in (CNN_KIND, CNN_GRU_KIND):
        valid = f"{CNN_KIND!r} or {CNN_GRU_KIND!r}"
        raise CheckpointError(f"{path}: holds a {checkpoint.kind!r} decoder; valid here is {valid}")
    try:
        recipe = Recipe.model_validate(checkpoint.settings)
        network = build(checkpoint.kind, recipe)
        network.load_state_dict({name: torch.from_numpy(value) for name, value in checkpoint.arrays.items()})
    except (ValidationError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{path}: its weights or settings are not a {checkpoint.kind}: {reason}"
        ) from None
    size_px = (checkpoint.height_px, checkpoint.width_px)
    told = dict(checkpoint.provenance)
    return PublishedPredictor(network.eval(), recipe, size_px, checkpoint.rate_hz, cache, provenance=told)


def build(kind: str, recipe: Recipe, cnn: EfficientNetB0 | None = None) -> EfficientNetB0 | CnnGruNetwork:
    """Network of a kind, with random weights but for those of `cnn`."""
    cnn = cnn or EfficientNetB0()
    if kind == CNN_KIND:
        return cnn
    shared = recipe.windows == "shared"
    return CnnGruNetwork(cnn, recipe.half_window, recipe.rnn, recipe.cnn_fixed, norms_frozen=shared)


class _Features(nn.Module):
    """The CNN without its classifier: images (n, 3, H, W) to (n, 1280)."""

    def __init__(self, cnn: EfficientNetB0) -> None:
        super().__init__()
        self.cnn = cnn

    def forward(self, images: Tensor) -> Tensor:
        return self.cnn.features(images)


def _onnx_features(cnn: EfficientNetB0, size_px: tuple[int, int], threads: int) -> Callable[[Tensor], Tensor]:
    """ONNX Runtime takes a quarter of eager torch's time; the graph is for `_PREDICTED_IMAGES` images."""
    example = np.zeros((_PREDICTED_IMAGES, 3, *size_px), np.float32)
    engine = OnnxEngine(export_onnx(_Features(cnn), [example]), threads, "features")

    def features(images: Tensor) -> Tensor:
        padded = np.zeros_like(example)
        padded[: len(images)] = images.numpy()
        return torch.from_numpy(engine(padded)[0][: len(images)].copy())

    return features


def _torch_features(cnn: EfficientNetB0) -> Callable[[Tensor], Tensor]:
    """On the GPU; the network itself stays on the CPU."""
    placed = copy.deepcopy(cnn).cuda().eval()

    def features(images: Tensor) -> Tensor:
        with torch.no_grad():
            return placed.features(images.cuda()).cpu()

    return features
