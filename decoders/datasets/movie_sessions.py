"""Our two-photon sessions as movies and responses: frames to neurons by `decoders.traces`, all on one clock.

Everything is resampled to 30 Hz by holding the last sample at or before each instant, so that nothing later takes part.
"""

import hashlib
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.datasets import sessions
from decoders.datasets.clips import same_movies, thumbnail
from decoders.datasets.movie_trials import MOVIE_PX, TRAIN, MovieMouse, MovieTrial, Trial
from decoders.datasets.recordings import refuse_same_names
from decoders.datasets.speed import speed_trace
from decoders.traces.responses import BaselineConfig, RunningResponses
from decoders.traces.rois import RoiTraces
from rig.config import RigConfig
from rig.errors import DataError
from rig.recording.reader import SessionReader
from rig.recording.recorded_tables import FrameTable, SampleTable

RATE_HZ = 30.0
_BASELINE_S = (2.0, 60.0)  # falls over, rises over
_TESTED_SHARE = 0.2  # of the clips makes the tier oracle, as much as `rig train reconstruction` holds out
_LONGEST_HOLE_NS = 300_000_000  # chosen: presentations with no response for longer are left out
_SHORTEST_FRAMES = 30  # a presentation that was broken off within a second is left out
_NEUROPIL_PX = 0  # as the linear reconstruction does
_PUPIL = ("diameter", "x", "y")
_DECAY_S = {"GCaMP6f": 0.7, "GCaMP6m": 1.0, "GCaMP6s": 1.25}  # advice of suite2p's manual
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Samples:
    """Samples (n, columns) at session times (n,), in order."""

    session_ns: NDArray[np.int64]
    values: NDArray[np.floating]

    def at(self, at_ns: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the last sample at or before each time, (T, columns); before the first, the first."""
        last = np.searchsorted(self.session_ns, at_ns, side="right") - 1
        return np.asarray(self.values[np.maximum(last, 0)], np.float32)


@dataclass(frozen=True, slots=True)
class _Session:
    """What one session holds, on its own clock; `movies` are (clips, T, H, W)."""

    path: Path
    animal: str
    origin: str
    movies: NDArray[np.uint8]
    responses: _Samples
    shown: _Samples  # clip, movie frame
    speed: _Samples
    pupil: _Samples  # diameter, x, y
    presentations: tuple[tuple[int, int, int], ...]  # clip, session time of its first frame, frames at 30 Hz

    def trial(self, clip: int, start_ns: int, frames: int) -> Trial:
        """Resample one presentation."""
        at_ns = start_ns + np.rint(np.arange(frames) / RATE_HZ * 1e9).astype(np.int64)
        movie = self.movies[clip][self.shown.at(at_ns)[:, 1].astype(np.int64)]
        pupil = self.pupil.at(at_ns)
        behavior = np.stack([pupil[:, 0], self.speed.at(at_ns)[:, 0]])
        video = np.ascontiguousarray(np.moveaxis(movie, 0, -1), np.float32)
        responses = np.ascontiguousarray(self.responses.at(at_ns).T)
        return Trial(video, responses, behavior, np.ascontiguousarray(pupil[:, 1:].T))


def session_mice(data: Path, labels: Path | None) -> list[MovieMouse]:
    """One mouse a session file; see `decoders.datasets.movies.open_movies`."""
    paths = sessions.session_files([data])
    refuse_same_names([(path.stem, path) for path in paths])
    found = [_session(path, labels) for path in paths]
    named = _name_clips(found)
    shown = {names[clip] for s, names in zip(found, named, strict=True) for clip, _, _ in s.presentations}
    tested = _tested(shown)
    return [_mouse(session, names, tested) for session, names in zip(found, named, strict=True)]


def _tested(clips: set[str]) -> set[str]:
    """Which clips make the tier oracle: told by each one's own digest, so that they are the same in every session.

    Of few clips at least one, and never all.
    """
    if len(clips) < 2:
        return set()
    ordered = sorted(clips)
    count = sum(int(name, 16) < _TESTED_SHARE * 16 ** len(name) for name in ordered)
    return set(ordered[: min(max(count, 1), len(ordered) - 1)])


def response_source(path: Path, labels: Path | None) -> tuple[dict[str, Any], NDArray[np.integer] | None]:
    """How a session's responses were made from its frames.

    Settings of the `decoder: traces` that ran, or `tau_s` alone and the label image; see `open_movies` for `labels`.
    """
    with SessionReader(path) as reader:
        config = reader.description.config
        recorded = _recorded_responses(reader) if labels is None else None
        if recorded is not None:
            return config.decoders[recorded[0]].model_dump(mode="json"), None
        recording = sessions.movie_recording(reader, path)
        size = recording.frames.pixels.shape[1:]
        image = field_labels(labels, config, size, recording.rate_hz, path)
        return {"tau_s": _decay_s(config)}, image


def field_labels(
    given: Path | None, config: RigConfig, size: tuple[int, ...], rate_hz: float, path: Path
) -> NDArray[np.integer]:
    """Label image from a file, or from the simulated field that was recorded; raises `DataError`."""
    from decoders.traces.rois import read_label_image

    if given is not None:
        return read_label_image(given)
    if config.simulation is None or config.stimulus is None:
        raise DataError(f"{path}: not of the simulated microscope, so --labels FILE.npy has to give the ROIs")
    from rig.simulation.mouse import Mouse
    from rig.simulation.visual_cortex import VisualCortex

    simulation = config.simulation
    mouse = Mouse(simulation.seed, simulation.run_fraction)
    grey = np.full((1, 1, *MOVIE_PX), 127, np.uint8)  # where neurons lie is the same whatever they see
    height, width = size
    return VisualCortex(grey, mouse, simulation.seed, simulation.neurons, height, width, rate_hz).label_image


def _session(path: Path, labels: Path | None) -> _Session:
    with SessionReader(path) as reader:
        recording = sessions.movie_recording(reader, path)
        config = reader.description.config
        if recording.movies.shape[2:] != MOVIE_PX:
            raise DataError(f"{path}: its movies are {recording.movies.shape[2:]} px; valid is {MOVIE_PX}")
        shown = _stream(reader, ("clip", "movie_frame"), path)
        frame_ns = recording.frames.session_ns
        recorded = _recorded_responses(reader) if labels is None else None
        if recorded is not None:
            responses = recorded[1]
        else:
            size = recording.frames.pixels.shape[1:]
            image = field_labels(labels, config, size, recording.rate_hz, path)
            responses = _Samples(frame_ns, _responses(path, recording, image, _decay_s(config)))
        return _Session(
            path=path,
            animal=config.session.subject.subject_id.strip(),
            origin="simulated" if config.simulation is not None else "recorded",
            movies=recording.movies,
            responses=responses,
            shown=_columns(shown, ("clip", "movie_frame"), path),
            speed=_speed(_stream(reader, ("running_speed",), path), frame_ns, path),
            pupil=_pupil(reader, path),
            presentations=tuple(_presentations(shown, responses.session_ns, path)),
        )


def _columns(table: SampleTable, names: Sequence[str], path: Path) -> _Samples:
    places = [sessions.column(table, name, path) for name in names]
    return _Samples(table.session_ns, table.values[:, places])


def _speed(table: SampleTable, frame_ns: NDArray[np.int64], path: Path) -> _Samples:
    mm_s = table.values[:, sessions.column(table, "running_speed", path)]
    trace = speed_trace(table.session_ns, mm_s, frame_ns, path)
    return _Samples(trace.session_ns, trace.mm_s[:, None] / 10)  # cm/s, as in the published data


def _pupil(reader: SessionReader, path: Path) -> _Samples:
    """Pupil's diameter and place; while they are unknown, as in a blink, the last known sample holds."""
    pupil = _columns(_stream(reader, _PUPIL, path), _PUPIL, path)
    known = np.isfinite(pupil.values).all(axis=1)
    if not known.any():
        raise DataError(f"{path}: its pupil has {len(known)} samples, none of them finite; valid are numbers")
    return _Samples(pupil.session_ns[known], pupil.values[known])


def _stream(reader: SessionReader, columns: Sequence[str], path: Path) -> SampleTable:
    """Return the first serial stream that has these columns."""
    for stream in reader.described["samples"]:
        if set(columns) <= set(stream["columns"]):
            return reader.samples(stream["name"])
    raise DataError(f"{path}: no serial stream with columns {', '.join(columns)}; encoding models need them")


def _decay_s(config: RigConfig) -> float:
    """Decay time of the two-photon camera's indicator; of an unknown one, that of GCaMP6s."""
    indicators = [c.imaging.indicator for c in config.cameras.values() if c.imaging.kind == "two_photon"]
    return next((_DECAY_S[name] for name in indicators if name in _DECAY_S), _DECAY_S["GCaMP6s"])


def _recorded_responses(reader: SessionReader) -> tuple[str, _Samples] | None:
    """The first decoder of traces that gave spikes during the session, and what it gave; None without one."""
    decoders = reader.description.config.decoders
    for stream in reader.description.predictions:
        if stream.per_roi and getattr(decoders.get(stream.name), "signal", None) == "spikes":
            table = reader.predictions(stream.name)
            known = table.answers & np.isfinite(table.values.reshape(len(table.values), -1)).all(axis=1)
            if known.any():
                return stream.name, _Samples(table.frame_session_ns[known], table.values[known])
    return None


def _responses(
    path: Path, recording: sessions.MovieRecording, labels: NDArray[np.integer], decay_s: float
) -> NDArray[np.float32]:
    """Deconvolved responses at each camera frame, (frames, N), in a file that goes with the process."""
    from decoders.traces.deconvolution import CausalDeconvolution
    from rig import terminal

    frames: FrameTable = recording.frames
    traces = RoiTraces(labels, _NEUROPIL_PX)
    dff = RunningResponses(BaselineConfig(*_BASELINE_S, recording.rate_hz))
    spikes = CausalDeconvolution(decay_s, recording.rate_hz)
    shape = (len(frames.index), traces.count)
    with tempfile.TemporaryFile() as file:  # the map outlives the name
        responses: NDArray[np.float32] = np.memmap(file, np.float32, "w+", shape=shape)
    missed = np.diff(frames.index, prepend=frames.index[:1] - 1) - 1
    with terminal.bar(f"{path.name}: frames to neurons", shape[0]) as advance:
        for k, frame in enumerate(sessions.in_order(frames)):
            responses[k] = spikes.step(dff.step(traces(frame)), int(missed[k]))
            advance(1)
    return responses


def _presentations(
    shown: SampleTable, response_ns: NDArray[np.int64], path: Path
) -> list[tuple[int, int, int]]:
    """Clip, start and frames at 30 Hz of every presentation during which the responses are known."""
    clip, frame = _columns(shown, ("clip", "movie_frame"), path).values.T.astype(np.int64)
    begins = np.flatnonzero((np.diff(clip, prepend=-1) != 0) | (np.diff(frame, prepend=0) < 0))
    ends = np.append(begins[1:], len(clip) - 1)
    found = []
    for begin, end in zip(begins, ends, strict=True):
        start_ns = int(shown.session_ns[begin])
        stop_ns = min(int(shown.session_ns[end]), int(response_ns[-1]))
        frames = int((stop_ns - start_ns) * RATE_HZ / 1e9)
        if clip[begin] < 0 or frames < _SHORTEST_FRAMES or start_ns < response_ns[0]:
            continue
        if _longest_hole_ns(response_ns, start_ns, stop_ns) > _LONGEST_HOLE_NS:
            _LOG.warning(
                "%s: clip %d at %.1f s left out: responses are missing", path, clip[begin], start_ns / 1e9
            )
            continue
        found.append((int(clip[begin]), start_ns, frames))
    if not found:
        raise DataError(f"{path}: no clip was shown for a second; record longer sessions")
    return found


def _longest_hole_ns(times_ns: NDArray[np.int64], start_ns: int, stop_ns: int) -> int:
    """Longest time between two samples, of those that a stretch of time is filled with."""
    first = int(np.searchsorted(times_ns, start_ns, side="right")) - 1
    last = int(np.searchsorted(times_ns, stop_ns))
    return int(np.diff(times_ns[first : last + 1]).max(initial=0))


def _name_clips(found: Sequence[_Session]) -> list[list[str]]:
    """Name of every clip of every session, by content: near duplicates have one name."""
    movies: dict[str, NDArray[np.uint8]] = {}
    digests = []
    for session in found:
        digests.append([hashlib.sha256(movie.tobytes()).hexdigest()[:12] for movie in session.movies])
        movies |= dict(zip(digests[-1], session.movies, strict=True))
    known = sorted(movies)
    first = same_movies(thumbnail(np.moveaxis(movies[digest], 0, -1).astype(np.float32)) for digest in known)
    name = {digest: known[k] for digest, k in zip(known, first, strict=True)}
    return [[name[digest] for digest in of_session] for of_session in digests]


def _mouse(session: _Session, clips: Sequence[str], tested: set[str]) -> MovieMouse:
    """Trials in the order shown."""
    trials = tuple(
        MovieTrial(
            mouse=session.path.stem,
            name=str(k),
            tier="oracle" if clips[clip] in tested else TRAIN,
            clip=clips[clip],
            read=partial(session.trial, clip, start_ns, frames),
        )
        for k, (clip, start_ns, frames) in enumerate(session.presentations)
    )
    std = session.responses.values.std(axis=0)
    response_std = np.asarray(std, np.float32)
    return MovieMouse(
        name=session.path.stem,
        animal=session.animal,
        path=session.path,
        neurons=len(std),
        rate_hz=RATE_HZ,
        trials=trials,
        response_std=response_std,
        origin=session.origin,
    )
