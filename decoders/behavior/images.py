"""Images of the published run/rest decoder: three frames as three channels, normalised over the whole session.

Ajioka et al. 2024 (doi 10.1371/journal.pcbi.1011074): each pixel's mean over the session is subtracted, and the
result divided by the standard deviation of all pixels of all frames. Frames t-1, t and t+1 are the channels of image
t. The frames stay on the disk and are normalised when they are asked for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decoders.behavior.schemes import same_rate
from decoders.datasets.behavior import BehaviorRecording, Excerpt
from decoders.datasets.cache import cached
from rig import terminal
from rig.errors import DataError

_CHUNK_FRAMES = 512  # read at once: 33 MB of float32 at 128x128
_SMALLEST_STD = 1e-6  # a camera with its cap on must not divide by zero


@dataclass(frozen=True, slots=True)
class Statistics:
    """A session's mean image, (H, W), and the standard deviation of all its pixels and frames."""

    mean: NDArray[np.float32]
    std: float


def session_statistics(recording: BehaviorRecording, cache: Path | None) -> Statistics:
    """Read the whole recording once, or the folder `cache` that keeps the result."""
    arrays = cached(cache, recording, "session-statistics", lambda: _statistics(recording))
    return Statistics(arrays["mean"].astype(np.float32), float(arrays["std"]))


class SessionImages:
    """Images of one recording: one a frame but the first and the last.

    `occluded` (H, W) are pixels that are zero after normalisation: as on the session's mean image.
    """

    def __init__(
        self, recording: BehaviorRecording, statistics: Statistics, occluded: NDArray[np.bool_] | None = None
    ) -> None:
        self.recording = recording
        self._mean = statistics.mean
        scale = np.float32(1.0 / max(statistics.std, _SMALLEST_STD))
        self._scale = scale if occluded is None else np.where(occluded, np.float32(0), scale)

    def images(self, start: int, stop: int) -> Tensor:
        """Images of frames `start` to `stop` (excluded), (n, 3, H, W); needs one frame either side."""
        frames = np.asarray(self.recording.frames[start - 1 : stop + 1])
        normalised = torch.from_numpy((frames.astype(np.float32) - self._mean) * self._scale)
        return normalised.unfold(0, 3, 1).movedim(-1, 1).contiguous()  # (n, H, W, 3) to (n, 3, H, W)


def _statistics(recording: BehaviorRecording) -> dict[str, NDArray[np.generic]]:
    """Mean of every pixel and standard deviation of the raw stack, in one pass, in double precision."""
    size, centre = recording.size_px, float(np.asarray(recording.frames[:1], np.float64).mean())
    total, squares = np.zeros(size), 0.0
    for start in range(0, len(recording), _CHUNK_FRAMES):
        deviation = np.asarray(recording.frames[start : start + _CHUNK_FRAMES], np.float64) - centre
        total += deviation.sum(axis=0)
        squares += float(np.square(deviation).sum())
    mean = total / len(recording)
    variance = squares / (len(recording) * mean.size) - mean.mean() ** 2
    return {"mean": mean + centre, "std": np.array(np.sqrt(max(variance, 0.0)))}


@dataclass(frozen=True, slots=True)
class Stretches:
    """Where stretches of `length` consecutive labels may lie whose windows stay within their excerpts.

    A label's window is `half_window` images either side, so that `half_window` + 1 frames either side are needed.
    `places` are (recording, first label, end of labels), one an excerpt.
    """

    places: tuple[tuple[SessionImages, int, int], ...]
    length: int
    half_window: int

    @classmethod
    def of(
        cls, excerpts: Sequence[Excerpt], sources: Sequence[SessionImages], length: int, half_window: int
    ) -> "Stretches":
        """Collect the excerpts' places; raises `DataError` when none is long enough."""
        margin = half_window + 1
        places = tuple(
            (source, excerpt.start + margin, excerpt.stop - margin)
            for source, excerpt in zip(sources, excerpts, strict=True)
            if len(excerpt) >= length + 2 * margin
        )
        if not places:
            longest = max(map(len, excerpts), default=0)
            raise DataError(
                f"no stretch of frames is longer than {longest}; valid is {length + 2 * margin} or more"
            )
        return cls(places, length, half_window)

    def __len__(self) -> int:
        return sum((stop - start) // self.length for _, start, stop in self.places)

    def draw(self, rng: np.random.Generator, limit: int | None) -> list[tuple[int, int]]:
        """Place and first label of every stretch, in random order, at most `limit`; what is left over differs."""
        drawn = []
        for index, (_, start, stop) in enumerate(self.places):
            count = (stop - start) // self.length
            first = start + int(rng.integers(stop - start - count * self.length + 1))
            drawn += [(index, first + k * self.length) for k in range(count)]
        return [drawn[k] for k in rng.permutation(len(drawn))[:limit]]

    def load(self, drawn: Iterable[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Images (B, length + 2 half windows, 3, H, W) and labels (B, length) of drawn stretches."""
        images, labels = [], []
        for index, first in drawn:
            source, stop = self.places[index][0], first + self.length
            images.append(source.images(first - self.half_window, stop + self.half_window))
            labels.append(torch.from_numpy(source.recording.running[first:stop].astype(np.float32)))
        return torch.stack(images), torch.stack(labels)


def open_images(excerpts: Sequence[Excerpt], cache: Path) -> list[SessionImages]:
    """Images of every excerpt's recording, made once for each recording.

    Raises
    ------
    DataError
        When the recordings differ in size or frame rate.
    """
    kinds = sorted({(excerpt.recording.size_px, excerpt.recording.rate_hz) for excerpt in excerpts})
    if any(size != kinds[0][0] or not same_rate(rate_hz, kinds[0][1]) for size, rate_hz in kinds):
        raise DataError(f"recordings differ in size or rate: {kinds}; valid is one of each")
    recordings = {id(excerpt.recording): excerpt.recording for excerpt in excerpts}
    opened = {}
    with terminal.bar("sessions", len(recordings), transient=True) as advance:
        for key, recording in recordings.items():
            opened[key] = SessionImages(recording, session_statistics(recording, cache))
            advance(1)
    return [opened[id(excerpt.recording)] for excerpt in excerpts]
