"""The live preview of the movie: responses to one frame after another, by a network that was trained beforehand.

Light to import: the network is a graph for ONNX Runtime. How it is trained: `amortized_training`.
"""

from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.checkpoint import Checkpoint, load_checkpoint
from decoders.runtime import OnnxEngine
from decoders.windows import RecentFeatures
from rig.errors import DataError

KIND = "reconstruction-preview"
SETTINGS = (
    "neurons",
    "window_frames",
    "lag_frames",
    "movie_height_px",
    "movie_width_px",
    "traces",
)  # of a checkpoint of this kind
RATE_HZ = 30.0  # of responses and movies

Floats = NDArray[np.float32]


class PreviewReader:
    """Responses of N neurons at 30 Hz, one moment at a time, to the movie frame shown `lag_frames` before.

    No later response takes part in an answer. The same code offline and live.

    Parameters
    ----------
    checkpoint
        Of kind `KIND`; `path` is what errors call it.

    Raises
    ------
    CheckpointError
        When its network cannot be loaded.
    """

    def __init__(self, checkpoint: Checkpoint, path: Path, threads: int = 1) -> None:
        settings = checkpoint.settings
        self.neurons: int = settings["neurons"]
        self.lag_frames: int = settings["lag_frames"]
        self.size_px: tuple[int, int] = (settings["movie_height_px"], settings["movie_width_px"])
        self._length: int = settings["window_frames"]
        self._engine = OnnxEngine(checkpoint.arrays["onnx"].tobytes(), threads, str(path))
        self._usual = checkpoint.arrays["usual_responses"].astype(np.float32)
        self._newest = self._usual
        self.forget()

    @property
    def full(self) -> bool:
        """Whether as many moments as the window holds were measured since it began; a few missing ones may be held."""
        return self._measured >= self._length

    def forget(self) -> None:
        """Fill the window with the neurons' usual responses."""
        self._measured = self._held = 0
        self._recent = RecentFeatures(self._length, self.neurons)
        for _ in range(self._length):
            self._recent.push(self._usual)

    def step(self, responses: Floats, missed: int = 0) -> Floats:
        """Take one moment's responses (N,) and return a movie frame (H, W), grey levels.

        For each of `missed` moments before this one the last responses are held.
        """
        for _ in range(min(missed, self._length)):
            self.hold()
        self._newest, self._held = responses, 0
        self._measured += 1
        return self._engine(self._recent.push(responses))[0].copy()

    def hold(self) -> None:
        """Let a moment pass whose responses are not known; after a whole window of them it begins anew."""
        self._recent.push(self._newest)
        self._held += 1
        if self._held >= self._length:
            self.forget()

    def movie(self, moments: Iterable[Floats]) -> Iterator[Floats]:
        """Movie frames (H, W) of a clip's responses (N,) in order, as many as there are moments, without the lag."""
        self.forget()
        shown = chain(moments, repeat(None, self.lag_frames))
        for k, responses in enumerate(shown):
            known = self._newest if responses is None else _known(responses, self._usual)
            frame = self.step(known)
            if k >= self.lag_frames:
                yield frame


def _known(responses: Floats, usual: Floats) -> Floats:
    return np.where(np.isfinite(responses), responses, usual).astype(np.float32)


def preview_movie(
    checkpoint: Path | str,
    responses: Floats,
    behavior: Floats | None = None,
    pupil_center: Floats | None = None,
) -> Floats:
    """Movie (T, 36, 64) in grey levels that the live preview would have shown of a clip, frame for frame.

    Each frame was read from responses up to the preview's lag after it; for the last frames, of which those responses
    lie beyond the clip, its last ones are held. Nothing is smoothed.

    Parameters
    ----------
    checkpoint
        File that `rig train preview` wrote.
    responses
        (N, T); a response that is NaN is taken as the neuron's usual one.
    behavior, pupil_center
        Taken for the sake of `invert`'s interface, and not used: the preview reads responses alone.

    Raises
    ------
    CheckpointError
        When the file is not a preview.
    DataError
        For another number of neurons, or no frame.
    """
    path = Path(checkpoint)
    return read_movie(load_checkpoint(path, KIND, SETTINGS), path, responses)


def read_movie(checkpoint: Checkpoint, path: Path, responses: Floats) -> Floats:
    """`preview_movie` of a checkpoint that is loaded already; `path` is what errors call it."""
    reader = PreviewReader(checkpoint, path)
    measured = np.asarray(responses, np.float32)
    if measured.ndim != 2 or len(measured) != reader.neurons or not measured.shape[1]:
        raise DataError(f"responses are {measured.shape}; valid for {path} is ({reader.neurons}, frames)")
    return np.stack(list(reader.movie(measured.T)))
