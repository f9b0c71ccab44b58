"""`decoder: causal`: the probability that the animal runs, from the present frame and what came before."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from decoders.atlas import place
from decoders.behavior.adaptation import Adaptation, AdaptationConfig
from decoders.behavior.importance import LiveImportance
from decoders.checkpoint import Checkpoint, load_checkpoint, resolve
from decoders.normalise import NormaliserConfig, RunningNormaliser
from decoders.resample import FrameResampler
from decoders.runtime import CudaGraphEngine, Engine, OnnxEngine
from decoders.view import StandardView
from rig.config import DecoderConfig
from rig.errors import CheckpointError
from rig.messages import Frame, FrameStream, PredictionStream

KIND = "behavior-cnn-gru"
SETTINGS = ("network", "normaliser", "adaptation", "placed")  # of a checkpoint of this kind
_MEMORY_S = 0.5  # after lost frames, until the network has seen enough of the present again


class CausalBehavior:
    """Live run/rest decoder, see `decoders.protocols.LiveDecoder`."""

    class Config(DecoderConfig):
        """Tag `causal`."""

        decoder: Literal["causal"]
        checkpoint: str = "shipped"
        """File that `rig train behavior` wrote, or shipped: the one for the simulated mouse."""
        warm_up_s: float = Field(default=3.0, ge=0.0)
        """Answers are NaN so long, until the running normalisation knows the animal."""
        window_s: float | None = Field(default=None, gt=0.0)
        """What the memory must join: a checkpoint with another window is refused. Left out: the checkpoint's own."""
        stride_frames: int = Field(default=1, ge=1)
        """Decide anew every so many frames; all of them pass the network, those between repeat the last answer."""
        device: Literal["cpu", "cuda"] = "cpu"
        importance: bool = True
        """Work out in idle time, while a window shows it, which part of the image the decoder uses."""

    def __init__(self, name: str, config: Config) -> None:
        self._name = name
        self._config = config
        self._path = resolve(config.checkpoint, "behavior.npz")

    def load(self, source: FrameStream) -> PredictionStream:
        """Load the checkpoint; raises `CheckpointError` when it is unreadable or does not fit the camera."""
        checkpoint = load_checkpoint(self._path, KIND, SETTINGS)
        view = self._view(source) if checkpoint.settings["placed"] else None
        self._resample = FrameResampler(checkpoint, self._path, source, view)
        self._check_window(checkpoint)
        normaliser = NormaliserConfig(**checkpoint.settings["normaliser"])
        self._normalise = RunningNormaliser(checkpoint.height_px, checkpoint.width_px, normaliser)
        self._engine = self._make_engine(checkpoint)
        self._adaptation = Adaptation(AdaptationConfig(**checkpoint.settings["adaptation"]))
        self._no_memory = np.zeros(checkpoint.settings["network"]["state_shape"], np.float32)
        self._warm_up_frames = math.ceil(self._config.warm_up_s * checkpoint.rate_hz)
        self._memory_frames = math.ceil(_MEMORY_S * checkpoint.rate_hz)
        self._state = self._no_memory
        self._known_from = self._warm_up_frames
        self._answer = np.array(np.nan, np.float32)
        size = (checkpoint.height_px, checkpoint.width_px)
        self._importance = LiveImportance(self._ask, *size, checkpoint.rate_hz)
        return PredictionStream(
            name=self._name,
            source=source.name,
            shape=(),
            unit="probability",
            description="probability that the animal runs, from this frame and earlier ones",
            provenance={"checkpoint": str(self._path), **checkpoint.provenance},
            importance=self._config.importance,
        )

    def step(self, frame: Frame) -> NDArray[np.float32]:
        """Probability of running, shape (); NaN while warming up."""
        pixels = self._resample(frame)
        if pixels is not None:
            normalised = self._normalise.step(pixels)
            before = self._state
            logit, state = self._engine(normalised, before)
            self._state = state.copy()  # the importance map asks the same engine
            if self._normalise.seen > self._known_from:
                answer = self._adaptation.step(float(logit[0]))
                self._importance.follow(normalised, before, answer)
                if self._normalise.seen % self._config.stride_frames == 0:
                    self._answer = np.array(answer, np.float32)
        return self._answer

    def forget(self) -> None:
        """Begin with an empty memory; the running normalisation, which is of minutes, is kept."""
        self._state = self._no_memory
        self._answer = np.array(np.nan, np.float32)
        self._known_from = max(self._warm_up_frames, self._normalise.seen + self._memory_frames)
        self._importance.forget()

    @property
    def has_work(self) -> bool:
        """Whether the importance map can go on, see `decoders.protocols.Explaining`."""
        return self._config.importance and self._importance.has_work

    def work(self) -> NDArray[np.float32] | None:
        """One call of the network for the importance map; the map (H, W) when it is new."""
        return self._resample.view.back(self._importance.image()) if self._importance.work() else None

    def _ask(
        self, pixels: NDArray[np.float32], before: NDArray[np.float32]
    ) -> tuple[float, NDArray[np.float32]]:
        """Probability and state after a normalised frame; changes nothing of the decoder's own."""
        logit, after = self._engine(pixels, before)
        return self._adaptation.probability(float(logit[0])), after.copy()

    def _check_window(self, checkpoint: Checkpoint) -> None:
        window, asked_s = checkpoint.settings["network"]["window"], self._config.window_s
        if asked_s is not None and round(asked_s * checkpoint.rate_hz) != window:
            has = (
                f"a window of {window / checkpoint.rate_hz:.3g} s"
                if window
                else "a memory carried without end"
            )
            raise CheckpointError(
                f"{self._path}: window_s {asked_s:g}, but it was trained with {has}; leave window_s out, or train"
                f" with --set memory=windowed --set window_s={asked_s:g}"
            )

    def _view(self, source: FrameStream) -> StandardView:
        """Bring the cortex to its standard place; the landmarks are those of the rig's YAML."""
        where = f"{self._path}: needs cameras.{source.name}.imaging.landmarks_px"
        return StandardView(place(source.landmarks_px, where), source.height_px, source.width_px)

    def _make_engine(self, checkpoint: Checkpoint) -> Engine:
        if self._config.device == "cpu":
            return OnnxEngine(checkpoint.arrays["onnx"].tobytes(), self._config.threads, str(self._path))
        from decoders.behavior.causal import load_network
        from decoders.behavior.model import Step, step_inputs

        network = load_network(checkpoint)
        return CudaGraphEngine(Step(network), step_inputs(network.config), str(self._path))
