"""`decoder: linear`: the movie the animal saw a moment ago, read from the responses of its neurons."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from decoders.checkpoint import Checkpoint, load_checkpoint, resolve
from decoders.reconstruction.linear import LinearReader
from decoders.resample import FrameResampler
from decoders.traces.responses import BaselineConfig, RunningResponses
from decoders.traces.rois import RoiTraces
from decoders.windows import RecentFeatures
from rig.config import DecoderConfig
from rig.messages import Frame, FrameStream, PredictionStream

KIND = "reconstruction-linear"


class LinearReconstruction:
    """Live linear movie reconstruction, see `decoders.protocols.LiveDecoder`."""

    class Config(DecoderConfig):
        """Tag `linear`."""

        decoder: Literal["linear"]
        checkpoint: str = "shipped"
        """File that `rig train reconstruction` wrote, or shipped: the one for the simulated mouse of seed 7."""

    def __init__(self, name: str, config: Config) -> None:
        self._name = name
        self._path = resolve(config.checkpoint, "reconstruction.npz")

    def load(self, source: FrameStream) -> PredictionStream:
        """Load the checkpoint; raises `CheckpointError` when it is unreadable or does not fit the camera."""
        checkpoint = load_checkpoint(self._path, KIND)
        self._resample = FrameResampler(checkpoint, self._path, source)
        self._responses = ResponseWindows(checkpoint)
        self._read = load_reader(checkpoint)
        height, width = checkpoint.settings["movie_height_px"], checkpoint.settings["movie_width_px"]
        lag_frames = checkpoint.settings["lag_frames"]
        self._answer = np.full((height, width), np.nan, np.float32)
        return PredictionStream(
            name=self._name,
            source=source.name,
            shape=(height, width),
            unit="grey level",
            description=(
                f"movie frame shown {lag_frames / checkpoint.rate_hz:.3f} s ({lag_frames} camera frames)"
                " before this frame, 0 to 255"
            ),
            provenance={
                "checkpoint": str(self._path),
                "lag_frames": str(lag_frames),
                **checkpoint.provenance,
            },
        )

    def step(self, frame: Frame) -> NDArray[np.float32]:
        """Movie frame (36, 64) in grey levels as shown one lag ago; NaN until the window is full."""
        pixels = self._resample(frame)
        if pixels is not None:
            window = self._responses.step(pixels, self._resample.missed)
            if self._responses.full:
                self._answer = self._read(window.ravel()).reshape(self._answer.shape)
        return self._answer

    def forget(self) -> None:
        """Begin with an empty window; the running baseline, which is of a minute, is kept."""
        self._answer = np.full_like(self._answer, np.nan)
        self._responses.forget()


class ResponseWindows:
    """Frames to causal windows of responses; the same code makes the training data.

    Parameters
    ----------
    checkpoint
        Holds the label image and the settings `bins`, `bin_frames`, `neuropil_px` and `baseline`.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        settings = checkpoint.settings
        self._traces = RoiTraces(checkpoint.arrays["labels"], settings["neuropil_px"])
        self._responses = RunningResponses(BaselineConfig(**settings["baseline"]))
        self._bins, self._bin_frames = settings["bins"], settings["bin_frames"]
        self._length = self._bins * self._bin_frames
        self._recent = RecentFeatures(self._length, self._traces.count)
        self._newest: NDArray[np.float32] | None = None

    def forget(self) -> None:
        """Empty the window; the baseline is kept."""
        self._recent = RecentFeatures(self._length, self._traces.count)
        self._newest = None

    @property
    def full(self) -> bool:
        """Whether the window has no gap at its old end."""
        return self._recent.full

    def step(self, pixels: NDArray[np.generic], missed: int = 0) -> NDArray[np.float32]:
        """Take one frame (H, W) and return the window (bins, N) that ends with it, oldest first.

        Each bin is the mean of `bin_frames` frames: single ones are mostly shot noise. For each of `missed` frames
        before this one the last response is held, so that the window keeps its length.
        """
        if self._newest is not None:
            for _ in range(min(missed, self._length)):
                self._recent.push(self._newest)
        self._newest = self._responses.step(self._traces(pixels))
        window = self._recent.push(self._newest)
        binned: NDArray[np.float32] = window.reshape(self._bins, self._bin_frames, -1).mean(axis=1)
        return binned


def load_reader(checkpoint: Checkpoint) -> LinearReader:
    """Rebuild the regression of a checkpoint."""
    names = ("weights", "offset", "components", "mean_frame")
    return LinearReader(*(checkpoint.arrays[name].astype(np.float32) for name in names))
