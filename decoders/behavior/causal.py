"""The causal run/rest decoder once it is trained: what it answers for a recording, and its checkpoint."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from decoders.atlas import place
from decoders.behavior.adaptation import Adaptation, AdaptationConfig
from decoders.behavior.live import KIND, SETTINGS
from decoders.behavior.model import BehaviorNetwork, NetworkConfig, Step, step_inputs
from decoders.behavior.schemes import same_rate
from decoders.checkpoint import Checkpoint, load_checkpoint
from decoders.datasets.behavior import BehaviorRecording
from decoders.datasets.normalised import normalised
from decoders.normalise import NormaliserConfig
from decoders.runtime import export_onnx
from decoders.view import VIEW_PX, BinnedView, FrameView, StandardView
from rig.errors import DataError

WARM_UP_S = 3.0  # no answer until the running normalisation knows the animal
_READ_FRAMES = 256
_ONNX = "onnx"


@dataclass(slots=True)
class CausalPredictor:
    """A trained network with the normalisation and the adaptation that belong to it.

    See `decoders.behavior.predictor.Predictor`. With `placed` it sees the standard view of the cortex, so recordings
    need landmarks. `cache` keeps normalised frames; None: they are made anew.
    """

    network: BehaviorNetwork
    normaliser: NormaliserConfig
    adaptation: AdaptationConfig
    placed: bool = False
    cache: Path | None = None
    provenance: dict[str, str] = field(default_factory=dict)

    def predict(
        self, recording: BehaviorRecording, occluded: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Probability of running at every frame, (T,), as the live decoder gives it; NaN in the warm-up.

        Raises
        ------
        DataError
            When the frames are of another size or rate than was trained on.
        """
        logits = self.logits(recording, occluded)
        probability = np.full(len(recording), np.nan, np.float32)
        start = round(WARM_UP_S * recording.rate_hz)
        probability[start:] = Adaptation(self.adaptation).sequence(logits[start:])
        return probability

    def logits(
        self, recording: BehaviorRecording, occluded: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """What the network says of every frame, (T,)."""
        self._check(recording)
        view = view_of(recording, self.placed)
        frames = normalised(recording, self.cache, view, self.normaliser)
        seen = np.ones(frames.shape[1:], np.float32)
        if occluded is not None:
            seen -= view(occluded)
        state, answers = self.network.start(1), []
        with torch.no_grad():
            for at in range(0, len(frames), _READ_FRAMES):
                part = torch.from_numpy(frames[at : at + _READ_FRAMES] * seen)
                logits, state = self.network(part.unsqueeze(0), state)
                answers.append(logits[0])
        joined: NDArray[np.float32] = torch.cat(answers).numpy()
        return joined

    def save(self, path: Path) -> None:
        """Write the model as a checkpoint that the live decoder loads; `CheckpointError` when the file exists."""
        weights = {name: tensor.numpy() for name, tensor in self.network.state_dict().items()}
        graph = export_onnx(Step(self.network), step_inputs(self.network.config))
        settings = {
            "network": {**asdict(self.network.config), "state_shape": self.network.config.state_shape},
            "normaliser": asdict(self.normaliser),
            "adaptation": asdict(self.adaptation),
            "placed": self.placed,
        }
        size = (self.network.config.height_px, self.network.config.width_px)
        arrays = {**weights, _ONNX: np.frombuffer(graph, np.uint8)}
        Checkpoint(KIND, *size, self.normaliser.rate_hz, arrays, settings, self.provenance).save(path)

    def _check(self, recording: BehaviorRecording) -> None:
        """A network of one size and rate decodes no other."""
        config, rate_hz = self.network.config, self.normaliser.rate_hz
        size = input_size(*recording.size_px, self.placed)
        if size != (config.height_px, config.width_px) or not same_rate(recording.rate_hz, rate_hz):
            height, width = recording.size_px
            valid = "any size" if self.placed else f"multiples of {config.height_px}x{config.width_px}"
            raise DataError(
                f"{recording.path}: frames of {height}x{width} pixels at {recording.rate_hz:g} Hz; this model was"
                f" trained on {valid} at {rate_hz:g} Hz"
            )


def load(path: Path, cache: Path | None = None) -> CausalPredictor:
    """Read a trained model; raises `CheckpointError` when the file is damaged or of another kind."""
    checkpoint = load_checkpoint(path, KIND, SETTINGS)
    return CausalPredictor(
        load_network(checkpoint),
        NormaliserConfig(**checkpoint.settings["normaliser"]),
        AdaptationConfig(**checkpoint.settings["adaptation"]),
        checkpoint.settings["placed"],
        cache,
        dict(checkpoint.provenance),
    )


def load_network(checkpoint: Checkpoint) -> BehaviorNetwork:
    """Rebuild the network of a checkpoint, in evaluation mode."""
    sizes = {k: v for k, v in checkpoint.settings["network"].items() if k != "state_shape"}
    network = BehaviorNetwork(NetworkConfig(**{**sizes, "channels": tuple(sizes["channels"])}))
    weights = {name: torch.from_numpy(array) for name, array in checkpoint.arrays.items() if name != _ONNX}
    network.load_state_dict(weights)
    return network.eval()


def input_size(height_px: int, width_px: int, placed: bool = False) -> tuple[int, int]:
    """Size that the network sees: the standard view's, or the camera's divided by a whole number to about 32 pixels.

    Raises
    ------
    DataError
        When that number does not divide the camera's frames.
    """
    if placed:
        return VIEW_PX, VIEW_PX
    factor = max(1, min(height_px, width_px) // VIEW_PX)
    if height_px % factor or width_px % factor:
        size = f"{height_px}x{width_px}"
        raise DataError(f"frames of {size} pixels cannot be binned by {factor}; valid are multiples of it")
    return height_px // factor, width_px // factor


def view_of(recording: BehaviorRecording, placed: bool) -> FrameView:
    """How a recording's frames are shown to the network; raises `DataError` when landmarks are needed and missing."""
    if placed:
        return StandardView(place(recording.landmarks_px, recording.path), *recording.size_px)
    return BinnedView(*input_size(*recording.size_px))
