"""Our session files as training data: frames (read when asked for), run/rest labels, movie frames shown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rig.bouts import find_bouts, in_bouts
from rig.errors import DataError
from rig.recording.reader import SessionReader
from rig.recording.recorded_tables import FrameTable, SampleTable

_NS_PER_MS = 1_000_000
NOT_SHOWN = -1
ImagingKind = Literal["one_photon", "two_photon"]


@dataclass(frozen=True, slots=True)
class RunningRecording:
    """Frames of one session and whether the animal ran at each of them."""

    name: str
    frames: FrameTable
    rate_hz: float
    running: NDArray[np.bool_]  # (T,)


@dataclass(frozen=True, slots=True)
class MovieRecording:
    """Frames of one session and what was on the screen at each of them."""

    name: str
    frames: FrameTable
    rate_hz: float
    movies: NDArray[np.uint8]  # (clips, T, H, W)
    clip: NDArray[np.int64]  # (n,), -1: no clip on the screen
    movie_frame: NDArray[np.int64]  # (n,)


def session_files(data: Sequence[Path]) -> list[Path]:
    """Session files named, and those in the folders named, in order; raises `DataError` when there are none."""
    found = list(dict.fromkeys(path for given in data for path in _files(given)))
    if not found:
        looked_at = ", ".join(map(str, data))
        raise DataError(f"{looked_at}: no session file (*.nwb); make some with `rig simulate` or `rig run`")
    return found


def running_recording(reader: SessionReader, path: Path) -> RunningRecording:
    """Widefield frames and run/rest labels, by the rule `running` of the session's own configuration.

    Raises
    ------
    DataError
        When the session has no one-photon camera, no `running` section or no speed.
    """
    config = reader.description.config
    camera = _camera(reader, path, "one_photon")
    if config.running is None:
        raise DataError(
            f"{path}: its configuration has no section running, so run and rest cannot be told apart"
        )
    speed = reader.samples(config.running.source)
    bouts = find_bouts(
        speed.session_ns,
        speed.values[:, _column(speed, "running_speed", path)],
        config.running.threshold_mm_s,
        int(config.running.smoothing_ms * _NS_PER_MS),
        int(config.running.min_bout_ms * _NS_PER_MS),
    )
    frames = reader.frames(camera)
    rate_hz = reader.description.frame_stream(camera).rate_hz
    return RunningRecording(path.stem, frames, rate_hz, in_bouts(frames.session_ns, bouts))


def movie_recording(reader: SessionReader, path: Path) -> MovieRecording:
    """Two-photon frames and the movie frame on the screen at each.

    Raises
    ------
    DataError
        When the session has no two-photon camera or no stimulus.
    """
    config, movies = reader.description.config, reader.stimulus_movies()
    camera = _camera(reader, path, "two_photon")
    if config.stimulus is None or movies is None:
        raise DataError(f"{path}: has no stimulus; valid is a session with a section stimulus")
    shown = reader.samples(config.stimulus.source)
    frames = reader.frames(camera)
    clip, movie_frame = _shown_at(frames.session_ns, shown, path)
    rate_hz = reader.description.frame_stream(camera).rate_hz
    return MovieRecording(path.stem, frames, rate_hz, movies, clip, movie_frame)


def in_order(frames: FrameTable, batch: int = 64) -> Iterator[NDArray[np.generic]]:
    """Frames (H, W) one by one, read from the disk `batch` at a time."""
    for start in range(0, len(frames.index), batch):
        yield from frames.pixels[start : start + batch]


def _files(given: Path) -> list[Path]:
    if given.is_dir():
        return sorted(given.glob("*.nwb"))
    if not given.exists():
        raise DataError(
            f"{given}: no such file or folder; valid are session files (*.nwb) or a folder of them"
        )
    return [given]


def _camera(reader: SessionReader, path: Path, kind: ImagingKind) -> str:
    cameras = reader.description.config.cameras
    found = [name for name, camera in cameras.items() if camera.imaging.kind == kind]
    if not found:
        raise DataError(f"{path}: no camera with imaging kind {kind}; it has {', '.join(cameras)}")
    return found[0]


def _column(table: SampleTable, name: str, path: Path) -> int:
    if name not in table.columns:
        raise DataError(f"{path}: no column {name!r}; it has {', '.join(table.columns)}")
    return list(table.columns).index(name)


def _shown_at(at_ns: NDArray[np.int64], shown: SampleTable, path: Path) -> tuple[Any, Any]:
    """Clip and movie frame that were on the screen at each time: the last one reported before it."""
    last = np.searchsorted(shown.session_ns, at_ns, side="right") - 1
    columns = [_column(shown, name, path) for name in ("clip", "movie_frame")]
    if not len(shown.values):
        raise DataError(f"{path}: its stimulus stream is empty")
    clip, movie_frame = (shown.values[np.maximum(last, 0), column].astype(np.int64) for column in columns)
    return np.where(last < 0, NOT_SHOWN, clip), movie_frame
