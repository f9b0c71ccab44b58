"""`decoder: preview`: the movie the animal saw a moment ago, by a network trained beforehand, frame by frame."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from decoders.checkpoint import Checkpoint, load_checkpoint
from decoders.reconstruction.amortized import KIND, SETTINGS, PreviewReader
from decoders.traces.live import RoiActivity
from decoders.traces.pipeline import LiveTraces, TraceSettings
from decoders.traces.rois import label_masks
from rig.config import DecoderConfig
from rig.errors import CheckpointError
from rig.messages import Frame, FrameStream, PredictionStatus, PredictionStream

if TYPE_CHECKING:
    from decoders.reconstruction.refinement import Refinement


class Preview:
    """Live movie reconstruction, see `decoders.protocols.LiveDecoder`."""

    class Config(DecoderConfig):
        """Tag `preview`."""

        decoder: Literal["preview"]
        checkpoint: str
        """File that `rig train preview` wrote for this field of neurons."""
        rois: str | None = None
        """Folder of suite2p, or label image (.npy), as `decoder: traces` reads; left out: what it was trained with."""
        refine: str | None = None
        """Encoder that `rig train encoder` wrote for these neurons: refines what the window shows, in idle time."""

    def __init__(self, name: str, config: Config) -> None:
        self._name, self._config = name, config
        self._path = Path(config.checkpoint)
        self._period: int | None = None
        self._refinement: Refinement | None = None

    def load(self, source: FrameStream) -> PredictionStream:
        """Load checkpoint and regions; raises `CheckpointError` or `DataError` when they do not fit the camera."""
        checkpoint = load_checkpoint(self._path, KIND, SETTINGS)
        checkpoint.check_fits(self._path, source, any_size=True)  # regions demand their own
        self._reader = PreviewReader(checkpoint, self._path, self._config.threads)
        self._neurons = self._make_neurons(checkpoint, source)
        self._periods_per_frame = min(1.0, checkpoint.rate_hz / source.rate_hz)
        self._unknown = np.full(self._reader.size_px, np.nan, np.float32)
        self._answer = self._unknown
        self._refinement = self._load_refinement(checkpoint)
        lag = self._reader.lag_frames
        return PredictionStream(
            name=self._name,
            source=source.name,
            shape=self._reader.size_px,
            unit="grey level",
            description=f"movie frame shown {lag / checkpoint.rate_hz:.3f} s before this frame, 0 to 255",
            provenance={
                "checkpoint": str(self._path),
                "lag_frames": str(round(lag / self._periods_per_frame)),  # of the camera
                **self._refined_provenance(),
                **checkpoint.provenance,
            },
            refined=self._refinement is not None,
        )

    def step(self, frame: Frame) -> NDArray[np.float32]:
        """Movie frame (36, 64) in grey levels as shown one lag ago; NaN until the window is full."""
        responses = self._neurons.step(frame)
        period = int(frame.index * self._periods_per_frame + 1e-9)
        last, self._period = self._period, period
        if last != period:
            missed = 0 if last is None else max(period - last - 1, 0)
            self._answer = self._read(responses, missed)
        return self._answer

    def forget(self) -> None:
        """Begin with an empty window; the running baseline, which is of a minute, is kept."""
        self._answer = self._unknown
        self._period = None  # what is missing now is not held: the window begins with the next frame
        self._reader.forget()
        if self._refinement is not None:
            self._refinement.forget()

    @property
    def has_work(self) -> bool:
        """Whether the shown movie can be refined, see `decoders.protocols.Explaining`."""
        return self._refinement is not None and self._refinement.has_work

    def work(self) -> NDArray[np.float32] | None:
        """One piece of a step of the inversion; a refined picture (36, 64) when it is new."""
        return None if self._refinement is None else self._refinement.work()

    @property
    def doubt(self) -> PredictionStatus | None:
        """Why the last answer is not known."""
        return self._neurons.doubt

    def _read(self, responses: NDArray[np.float32], missed: int) -> NDArray[np.float32]:
        if np.isnan(responses).any():
            self._reader.hold()
            if self._refinement is not None:
                self._refinement.forget()
            return self._unknown
        shown = self._reader.step(responses, missed)
        if not self._reader.full:
            return self._unknown
        if self._refinement is not None:
            self._refinement.follow(responses, shown, missed)
        return shown

    def _load_refinement(self, checkpoint: Checkpoint) -> "Refinement | None":
        if self._config.refine is None:
            return None
        from decoders.reconstruction.refinement import load_refinement

        return load_refinement(Path(self._config.refine), checkpoint, self._path, self._config.threads)

    def _refined_provenance(self) -> dict[str, str]:
        if self._refinement is None:
            return {}
        lag_frames = round(self._refinement.lag_frames / self._periods_per_frame)
        return {"refined_lag_frames": str(lag_frames), "refined_with": str(self._config.refine)}

    def _make_neurons(self, checkpoint: Checkpoint, source: FrameStream) -> "_Neurons":
        """From frames to the responses that the network was trained on."""
        trained: dict[str, Any] = checkpoint.settings["traces"]
        rois = self._config.rois or trained.get("rois")
        if rois is None and "labels" not in checkpoint.arrays:
            raise CheckpointError(
                f"{self._path}: trained on responses alone; the decoder needs rois: a suite2p folder or label image"
            )
        neurons: _Neurons = (
            _LabelledNeurons(checkpoint, self._path, source)
            if rois is None
            else _Regions(trained | {"decoder": "traces", "camera": source.name, "rois": rois}, source)
        )
        if neurons.count != self._reader.neurons:
            has = f"{rois or 'its label image'} has {neurons.count}"
            raise CheckpointError(f"{self._path}: made for {self._reader.neurons} neurons; {has}")
        return neurons


class _Neurons(Protocol):
    """Frames to spikes (N,), NaN where not known."""

    count: int

    @property
    def doubt(self) -> PredictionStatus | None: ...

    def step(self, frame: Frame) -> NDArray[np.float32]: ...


class _Regions:
    """The decoder of traces, which this one carries inside."""

    def __init__(self, settings: dict[str, Any], source: FrameStream) -> None:
        self._activity = RoiActivity("neurons", RoiActivity.Config(**settings))
        (self.count,) = self._activity.load(source).shape

    @property
    def doubt(self) -> PredictionStatus | None:
        return self._activity.doubt

    def step(self, frame: Frame) -> NDArray[np.float32]:
        return self._activity.step(frame)


class _LabelledNeurons:
    """Means of the checkpoint's label image, as `decoders.datasets.movie_sessions` makes responses of a session."""

    doubt = None

    def __init__(self, checkpoint: Checkpoint, path: Path, source: FrameStream) -> None:
        labels, tau_s = checkpoint.arrays["labels"], checkpoint.settings["traces"]["tau_s"]
        if labels.shape != (source.height_px, source.width_px):  # frames are not binned
            raise CheckpointError(
                f"{path}: camera {source.name!r} has {source.height_px}x{source.width_px} pixels;"
                f" valid are {labels.shape[0]}x{labels.shape[1]}, as its label image has"
            )
        settings = TraceSettings(source.rate_hz, tau_s, neuropil_share=0.0, max_shift_px=0)
        self._traces = LiveTraces(label_masks(labels), settings)
        self.count = self._traces.count
        self._last: int | None = None

    def step(self, frame: Frame) -> NDArray[np.float32]:
        missed = 0 if self._last is None else max(frame.index - self._last - 1, 0)
        self._last = frame.index
        signals = self._traces.step(frame.pixels, missed)
        return np.full(self.count, np.nan, np.float32) if signals is None else signals.spikes
