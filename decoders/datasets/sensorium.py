"""The published layout of Sensorium 2023 (Turishcheva et al., arXiv 2305.19654), one folder a mouse.

``data/{videos,responses,behavior,pupil_center}/<trial>.npy``, padded with NaN to the longest trial;
``meta/trials/tiers.npy``; ``meta/statistics/responses/all/std.npy``.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.datasets.clips import same_movies, thumbnail
from decoders.datasets.movie_trials import MOVIE_PX, TIERS, TRAIN, MovieMouse, MovieTrial, Trial
from rig.errors import DataError

RATE_HZ = 30.0  # of the published data; no file says it
_TRUTH = "truth"  # what `rig simulate-movies` knows beside the data
_TIERS = Path("meta", "trials", "tiers.npy")
_STD = Path("meta", "statistics", "responses", "all", "std.npy")
_KINDS = ("videos", "responses", "behavior", "pupil_center")
_SIZES = {"videos": MOVIE_PX, "behavior": (2,), "pupil_center": (2,)}  # of one frame
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Folder:
    """One mouse's folder, and the trials of it that were recorded whole: name and tier."""

    path: Path
    neurons: int
    trials: tuple[tuple[str, str], ...]


def sensorium_mice(data: Path) -> list[MovieMouse]:
    """Mice of a folder, sorted by name; see `decoders.datasets.movies.open_movies`."""
    folders = [_folder(path) for path in _mouse_folders(data)]
    clips = _clips(folders)
    return [_mouse(folder, clips[folder.path]) for folder in folders]


def read_trial(folder: Path, name: str, neurons: int) -> Trial:
    """Read one trial of a mouse's folder of so many neurons, its padding cut off.

    Raises
    ------
    DataError
        When a file is missing, cut short, not finite, or disagrees with the others in shape.
    """
    files = {kind: _file(folder, kind, name) for kind in _KINDS}
    arrays = {kind: _array(file) for kind, file in files.items()}
    _check_shapes(arrays, files)
    if len(arrays["responses"]) != neurons:
        found = len(arrays["responses"])
        raise DataError(f"{files['responses']}: {found} neurons, the mouse's first trial has {neurons}")
    frames = _recorded_frames(arrays, files)
    cut = {kind: np.ascontiguousarray(array[..., :frames], np.float32) for kind, array in arrays.items()}
    for kind, array in cut.items():
        _refuse_unknown(array, files[kind])
    least, most = float(cut["videos"].min()), float(cut["videos"].max())
    if least < 0 or most > 255:
        raise DataError(f"{files['videos']}: {least:g} to {most:g}; valid are grey levels, 0 to 255")
    return Trial(cut["videos"], cut["responses"], cut["behavior"], cut["pupil_center"])


# --- folders ---


def _mouse_folders(data: Path) -> list[Path]:
    if not data.is_dir():
        raise DataError(
            f"{data}: no such folder; valid is a mouse's folder with data/ and meta/, or one of them"
        )
    found = [data] if (data / "data").is_dir() else sorted(path.parent for path in data.glob("*/data"))
    if not found:
        raise DataError(
            f"{data}: no mouse in it; valid are folders <mouse>/data and <mouse>/meta, see docs/data.md"
        )
    return found


def _folder(path: Path) -> _Folder:
    tiers = _tiers(path)
    for kind in _KINDS:
        if not (path / "data" / kind).is_dir():
            raise DataError(f"{path / 'data' / kind}: missing; valid is a folder with one .npy a trial")
    responses = {file.stem for file in (path / "data" / "responses").glob("*.npy")}
    recorded = tuple((str(k), tier) for k, tier in enumerate(tiers) if str(k) in responses)
    if without := [name for name in responses if name.isdecimal() and int(name) >= len(tiers)]:
        file = _file(path, "responses", min(without))
        raise DataError(f"{file}: a trial without a tier; valid is one of the {len(tiers)} in {_TIERS}")
    if not recorded:
        raise DataError(f"{path / 'data' / 'responses'}: no trial of the {len(tiers)} in {_TIERS}")
    if len(recorded) < len(tiers):
        _LOG.info("%s: %d of %d trials have no responses", path, len(tiers) - len(recorded), len(tiers))
    for kind in _KINDS:
        _refuse_missing(path, kind, recorded)
    responses_shape = _array(_file(path, "responses", recorded[0][0])).shape
    return _Folder(path, responses_shape[0], recorded)


def _tiers(path: Path) -> list[str]:
    tiers = _array(path / _TIERS)
    if tiers.ndim != 1 or tiers.dtype.kind not in "US":
        raise DataError(f"{path / _TIERS}: {tiers.dtype} {tiers.shape}; valid are strings, one a trial")
    names = [str(tier) for tier in tiers.astype(np.str_)]
    for k, tier in enumerate(names):
        if tier not in TIERS:
            raise DataError(f"{path / _TIERS}: trial {k} has tier {tier!r}; valid are {', '.join(TIERS)}")
    return names


def _refuse_missing(path: Path, kind: str, recorded: Sequence[tuple[str, str]]) -> None:
    there = {file.stem for file in (path / "data" / kind).glob("*.npy")}
    missing = [name for name, _ in recorded if name not in there]
    if missing:
        file = _file(path, kind, missing[0])
        raise DataError(f"{file}: missing, as {kind} of {len(missing)} trials that have responses")


def _file(folder: Path, kind: str, name: str) -> Path:
    return folder / "data" / kind / f"{name}.npy"


def _mouse(folder: _Folder, clips: Sequence[str]) -> MovieMouse:
    trials = tuple(
        MovieTrial(folder.path.name, name, tier, clip, partial(read_trial, folder.path, name, folder.neurons))
        for (name, tier), clip in zip(folder.trials, clips, strict=True)
    )
    origin = "simulated" if (folder.path / _TRUTH).is_dir() else "recorded"
    name = folder.path.name
    return MovieMouse(name, name, folder.path, folder.neurons, RATE_HZ, trials, _std(folder), origin)


# --- which movie ---


def _clips(folders: Sequence[_Folder]) -> dict[Path, list[str]]:
    """Name of the movie of each trial: that of the first trial which shows it, in any mouse."""
    from rig import terminal

    every = [(folder.path, name) for folder in folders for name, _ in folder.trials]
    with terminal.bar("comparing movies", len(every)) as advance:
        small = []
        for path, name in every:
            small.append(_thumbnail(path, name))
            advance(1)
    first = same_movies(small)
    clips: dict[Path, list[str]] = {folder.path: [] for folder in folders}
    for (path, _), k in zip(every, first, strict=True):
        clips[path].append(f"{every[k][0].name}/{every[k][1]}")
    return clips


def _thumbnail(path: Path, name: str) -> NDArray[np.float32]:
    file = _file(path, "videos", name)
    video = _array(file)
    if video.ndim != 3 or 0 in video.shape or video.dtype.kind not in "fiu":
        raise DataError(f"{file}: is {video.dtype} {video.shape}; valid are numbers (36, 64, T)")
    shown = np.isfinite(video[0, 0])
    frames = len(shown) if shown.all() else int(shown.argmin())
    if not frames:
        raise DataError(f"{file}: all NaN; valid is a movie")
    return thumbnail(video[..., :frames])


# --- statistics ---


def _std(folder: _Folder) -> NDArray[np.float32]:
    """Standard deviation of each neuron's responses: as published with the data, or computed."""
    file = folder.path / _STD
    if not file.exists():
        return _computed_std(folder)
    std = _array(file)
    if std.shape != (folder.neurons,) or not np.isfinite(std).all():
        raise DataError(
            f"{file}: is {std.dtype} {std.shape}; valid are {folder.neurons} numbers, one a neuron"
        )
    return np.asarray(std, np.float32)


def _computed_std(folder: _Folder) -> NDArray[np.float32]:
    from rig import terminal

    trained = [name for name, tier in folder.trials if tier == TRAIN] or [name for name, _ in folder.trials]
    sums, frames = np.zeros((2, folder.neurons)), 0
    with terminal.bar(f"{folder.path.name}: statistics", len(trained)) as advance:
        for name in trained:
            responses = read_trial(folder.path, name, folder.neurons).responses.astype(np.float64)
            sums += np.stack([responses.sum(axis=1), (responses**2).sum(axis=1)])
            frames += responses.shape[1]
            advance(1)
    mean, square = sums / frames
    return np.asarray(np.sqrt(np.maximum(square - mean**2, 0.0)), np.float32)


# --- trials ---


def _array(file: Path) -> NDArray[Any]:
    """Map one array; nothing in it is executed, so arrays of Python objects are refused."""
    try:
        array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"{file}: missing") from error
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file}: cut short, or no array of numbers or strings: {error}") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{file}: an archive; valid is one array")
    return array


def _check_shapes(arrays: dict[str, NDArray[Any]], files: dict[str, Path]) -> None:
    for kind, array in arrays.items():
        dimensions = 3 if kind == "videos" else 2
        if array.ndim != dimensions or array.dtype.kind not in "fiu":
            raise DataError(
                f"{files[kind]}: {array.dtype} {array.shape}; valid are numbers in {dimensions} dimensions"
            )
        if array.shape[:-1] != _SIZES.get(kind, array.shape[:-1]):
            valid = ", ".join(map(str, _SIZES[kind]))
            raise DataError(f"{files[kind]}: is {array.shape}; valid is ({valid}, T)")
        if array.shape[-1] != arrays["videos"].shape[-1]:
            shown = arrays["videos"].shape[-1]
            raise DataError(
                f"{files[kind]}: {array.shape[-1]} frames, its video has {shown}; valid is the same number"
            )


def _recorded_frames(arrays: dict[str, NDArray[Any]], files: dict[str, Path]) -> int:
    """Frames before the padding, which begins with the first NaN of behaviour or responses."""
    frames = int(arrays["videos"].shape[-1])
    for kind in ("behavior", "responses"):
        padding = np.flatnonzero(np.isnan(arrays[kind][0]))
        if len(padding) and not padding[0]:
            raise DataError(f"{files[kind]}: all NaN; valid is a trial that was recorded")
        frames = min(frames, int(padding[0]) if len(padding) else frames)
    if not frames:
        raise DataError(f"{files['videos']}: no frame; valid is one or more")
    return frames


def _refuse_unknown(array: NDArray[np.float32], file: Path) -> None:
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        place = ", ".join(str(k) for k in bad[0])
        raise DataError(
            f"{file}: {len(bad)} values before the padding are NaN or infinite, first at ({place})"
        )
