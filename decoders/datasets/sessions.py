"""Our session files as training data: frames (read when asked for), run/rest labels, movie frames shown."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from decoders.datasets.behavior import BehaviorRecording, LabelRule
from decoders.datasets.speed import speed_trace
from rig.config import RunningConfig
from rig.errors import DataError
from rig.recording import layout
from rig.recording.reader import SessionReader
from rig.recording.recorded_tables import FrameTable, SampleTable

_LOG = logging.getLogger(__name__)
_MS_PER_S = 1000
NOT_SHOWN = -1
ImagingKind = Literal["one_photon", "two_photon"]


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


def is_ours(path: Path) -> bool:
    """Whether a file is (or was meant to be) one of our sessions, rather than an NWB file of another program."""
    try:
        with h5py.File(path, "r") as file:
            return layout.TABLES in file
    except OSError:  # still being written, or damaged: `SessionReader` reads the one and explains the other
        return True


def behavior_recording(reader: SessionReader, path: Path, rule: LabelRule | None = None) -> BehaviorRecording:
    """Widefield frames, speed and run/rest labels of one of our sessions; frames are read while `reader` is open.

    Parameters
    ----------
    rule
        How to label; None takes the session's own section `running`.

    Raises
    ------
    DataError
        When the session names no mouse, or has no one-photon camera, no `running` section, no speed, or a speed that
        is NaN.
    """
    config = reader.description.config
    mouse = config.session.subject.subject_id.strip()
    if not mouse:
        raise DataError(f"{path}: mouse id missing; valid is a session with session.subject.subject_id")
    camera = _camera(reader, path, "one_photon")
    if config.running is None:
        raise DataError(
            f"{path}: its configuration has no section running, so run and rest cannot be told apart"
        )
    frames = reader.frames(camera)
    samples = reader.samples(config.running.source)
    place = column(samples, "running_speed", path)
    speed = speed_trace(samples.session_ns, samples.values[:, place], frames.session_ns, path)
    rule = rule or _own_rule(config.running)
    _say_what_is_lost(reader, camera, path)
    return BehaviorRecording(
        mouse=mouse,
        session=path.stem,
        path=path,
        rate_hz=reader.description.frame_stream(camera).rate_hz,
        frames=frames.pixels,
        running=speed.running(frames.session_ns, rule),
        speed_mm_s=speed.at(frames.session_ns),
        origin="simulated" if config.simulation is not None else "recorded",
        rule=rule,
        landmarks_px=config.cameras[camera].imaging.landmarks_px,
    )


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
    if given.is_dir():  # one folder a mouse is how DANDI lays data sets out
        return sorted(given.glob("*.nwb")) or sorted(given.glob("sub-*/*.nwb"))
    if not given.exists():
        raise DataError(
            f"{given}: no such file or folder; valid are session files (*.nwb) or a folder of them"
        )
    return [given]


def _own_rule(running: RunningConfig) -> LabelRule:
    return LabelRule(
        running.threshold_mm_s, running.smoothing_ms / _MS_PER_S, running.min_bout_ms / _MS_PER_S
    )


def _say_what_is_lost(reader: SessionReader, camera: str, path: Path) -> None:
    lost = sum(gap.count for gap in reader.gaps(camera))
    if lost:
        _LOG.warning("%s: %d frames of %s were lost; those left are taken as if in a row", path, lost, camera)


def _camera(reader: SessionReader, path: Path, kind: ImagingKind) -> str:
    cameras = reader.description.config.cameras
    found = [name for name, camera in cameras.items() if camera.imaging.kind == kind]
    if not found:
        raise DataError(f"{path}: no camera with imaging kind {kind}; it has {', '.join(cameras)}")
    return found[0]


def column(table: SampleTable, name: str, path: Path) -> int:
    """Place of a column in a stream's values; raises `DataError` naming those it has."""
    if name not in table.columns:
        raise DataError(f"{path}: no column {name!r}; it has {', '.join(table.columns)}")
    return list(table.columns).index(name)


def _shown_at(at_ns: NDArray[np.int64], shown: SampleTable, path: Path) -> tuple[Any, Any]:
    """Clip and movie frame that were on the screen at each time: the last one reported before it."""
    last = np.searchsorted(shown.session_ns, at_ns, side="right") - 1
    places = [column(shown, name, path) for name in ("clip", "movie_frame")]
    if not len(shown.values):
        raise DataError(f"{path}: its stimulus stream is empty")
    clip, movie_frame = (shown.values[np.maximum(last, 0), place].astype(np.int64) for place in places)
    return np.where(last < 0, NOT_SHOWN, clip), movie_frame
