"""The published run/rest data set: Ajioka, Nakai, Yamashita, Takumi, PLoS Comput Biol 20(3): e1011074 (2024).

Zenodo record 10408334 and the authors' code: a table of sessions and mice, one TIFF and one MATLAB file each.
"""

import csv
import itertools
import logging
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.datasets.behavior import BehaviorRecording, LabelRule
from decoders.datasets.matlab import matrices
from decoders.datasets.reading import MM_S, ReadingOptions
from decoders.datasets.speed import refuse_nan
from decoders.datasets.tiff import tiff_frames
from rig.errors import DataError

_LOG = logging.getLogger(__name__)
TABLE = "data_64_5mice.csv"
_ID, _MOUSE = "Data_ID", "Mouse_#"
_BEHAVIOR, _FRAMES = "_behavior.mat", (".tif", ".tiff")
_RUNNING, _SPEED, _ROIS = "runrest", "speed_rs", "dat_roi"
_PUBLISHED = re.compile(r"(?P<month>\d{6})\d\d_Emx1G6_(?P<mark>LR|R|L|non)_\d+")
_BY_EAR_MARK = {"LR": "1", "non": "2", "R": "3", "L": "4"}
_SECOND_COHORT, _UNMARKED = "201803", "5"  # from March 2018 on, the mouse without an ear mark is another one
Pair = tuple[Path | None, Path | None]
_LISTED = 5  # sessions named in a message at most


@dataclass(frozen=True, slots=True)
class KobeSession:
    """One row of the table and its files; `others` are more MATLAB files of its name, one may hold ROI traces."""

    name: str
    mouse: str
    frames: Path
    behavior: Path
    others: tuple[Path, ...]


def behavior_recording(
    session: KobeSession, rule: LabelRule | None, options: ReadingOptions, stack: ExitStack
) -> BehaviorRecording:
    """Read one session; `stack` closes its frames.

    Raises
    ------
    DataError
        When a file is damaged or contradicts another.
    """
    behavior = matrices(session.behavior, (_RUNNING, _SPEED, _ROIS))
    frames = stack.enter_context(tiff_frames(session.frames))
    speed = _row(behavior, _SPEED, session.behavior) * MM_S[options.speed_unit or "cm/s"]
    refuse_nan(speed, _SPEED, session.behavior)
    return BehaviorRecording(
        mouse=session.mouse,
        session=session.name,
        path=session.frames,
        rate_hz=options.rate_hz,
        frames=frames,
        running=rule.label(speed, options.rate_hz) if rule else _labels(behavior, session.behavior),
        speed_mm_s=speed,
        rule=rule,
        roi_traces=_roi_traces(session, behavior, len(speed)),
    )


def _labels(behavior: dict[str, NDArray[np.float64]], path: Path) -> NDArray[np.bool_]:
    values = _row(behavior, _RUNNING, path)
    refuse_nan(values, _RUNNING, path)
    other = np.setdiff1d(values, (0.0, 1.0))
    if len(other):
        raise DataError(f"{path}: {_RUNNING} holds {other[0]:g}; valid are 0 (rest) and 1 (run)")
    labels: NDArray[np.bool_] = values == 1.0
    return labels


def _row(behavior: dict[str, NDArray[np.float64]], name: str, path: Path) -> NDArray[np.float64]:
    """Return a matrix of one row (or column) as (T,)."""
    if name not in behavior:
        raise DataError(f"{path}: no variable {name!r}; valid is a file with {_RUNNING} and {_SPEED}")
    matrix = behavior[name]
    if matrix.size != max(matrix.shape, default=0):
        raise DataError(f"{path}: {name} is {matrix.shape}; valid is one row, a number for each frame")
    return matrix.reshape(-1)


def _roi_traces(
    session: KobeSession, behavior: dict[str, NDArray[np.float64]], frames: int
) -> NDArray[np.float32] | None:
    """Traces (T, ROIs) from the behaviour file, or from another of the session's files, or None."""
    elsewhere = ((path, matrices(path, (_ROIS,))) for path in session.others)
    candidates = itertools.chain([(session.behavior, behavior)], elsewhere)
    path, traces = next(((path, read[_ROIS]) for path, read in candidates if _ROIS in read), (None, None))
    if traces is None:
        return None
    if traces.ndim != 2 or traces.shape[1] != frames:
        raise DataError(f"{path}: {_ROIS} is {traces.shape}; valid is (ROIs, {frames}), one value a frame")
    if not np.isfinite(traces).all():
        raise DataError(f"{path}: {_ROIS} holds NaN; valid are numbers")
    return np.ascontiguousarray(traces.T, np.float32)


def kobe_sessions(folder: Path) -> list[KobeSession]:
    """Sessions of the table in `folder`, or in a folder below it, whose files are there; says which are not.

    Raises
    ------
    DataError
        When there is no session, or the table is wrong.
    """
    files = _files(folder)
    mice = _mice(folder, files)
    others = _others(list(mice), files)
    pairs = {name: _pair(name, files) for name in mice}
    there = [
        KobeSession(name, mice[name], frames, behavior, tuple(others[name]))
        for name, (frames, behavior) in pairs.items()
        if frames is not None and behavior is not None
    ]
    _tell_unlisted(folder, mice, files)
    if not there:
        raise DataError(
            f"{folder}: none of the {len(mice)} sessions has its <id>.tif and <id>{_BEHAVIOR}; "
            "fetch them with `rig data kobe --to DIR`"
        )
    _tell_incomplete(folder, pairs)
    return there


def _tell_incomplete(folder: Path, pairs: Mapping[str, Pair]) -> None:
    """Warn of sessions of the table that are left out: by name, or by the one file that is missing."""
    gone = [name for name, pair in pairs.items() if pair == (None, None)]
    halves = [
        name + (_FRAMES[0] if frames is None else _BEHAVIOR)
        for name, (frames, behavior) in pairs.items()
        if (frames is None) != (behavior is None)
    ]
    for what, names in (("are not there and left out", gone), ("are left out, without their file", halves)):
        if names:
            _LOG.warning("%s: %d of %d sessions %s: %s", folder, len(names), len(pairs), what, _listed(names))


def _tell_unlisted(folder: Path, mice: Mapping[str, str], files: Mapping[str, Path]) -> None:
    """Warn of stacks whose session is not in the table, so that nobody thinks they took part."""
    unlisted = [
        file for file in files if file.endswith(_FRAMES) and file.removesuffix(Path(file).suffix) not in mice
    ]
    if unlisted:
        where = TABLE if TABLE in files else "the published names"
        _LOG.warning("%s: left out, not in %s: %s", folder, where, _listed(unlisted))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def _files(folder: Path) -> dict[str, Path]:
    """Every file below the folder by its name."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; valid is one with the published layout, see docs/data.md")
    return {path.name: path for path in sorted(folder.rglob("*")) if path.is_file()}


def _pair(name: str, files: Mapping[str, Path]) -> Pair:
    """Frames and behaviour of a session; None for a file that is not there."""
    frames = next((files[name + end] for end in _FRAMES if name + end in files), None)
    return frames, files.get(name + _BEHAVIOR)


def _others(names: list[str], files: dict[str, Path]) -> dict[str, list[Path]]:
    """Return the MATLAB files that begin with each session's name (the longest that fits), but for its behaviour."""
    others: dict[str, list[Path]] = {name: [] for name in names}
    for file, path in files.items():
        if file.endswith(".mat") and not file.endswith(_BEHAVIOR):
            owners = [name for name in names if file.startswith(name)]
            if owners:
                others[max(owners, key=len)].append(path)
    return others


def _mice(folder: Path, files: dict[str, Path]) -> dict[str, str]:
    """Mouse of every session, by the table; without one, by the published names, from which it can be told."""
    if TABLE in files:
        return _table(files[TABLE])
    names = [Path(file).stem for file in files if file.endswith(_FRAMES)]
    mice = {name: mouse for name in names if (mouse := published_mouse(name))}
    if not mice:
        raise DataError(f"{folder}: no {TABLE}; valid is a table with columns {_ID},{_MOUSE}")
    _LOG.warning("%s: no %s; mice are told by the sessions' published names", folder, TABLE)
    return mice


def published_mouse(name: str) -> str | None:
    """Mouse of a published session by the date and ear mark in its name, as in the authors' table; else None."""
    match = _PUBLISHED.fullmatch(name)
    if match is None:
        return None
    if match["mark"] == "non" and match["month"] >= _SECOND_COHORT:
        return _UNMARKED
    return _BY_EAR_MARK[match["mark"]]


def _table(path: Path) -> dict[str, str]:
    mice: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), list(reader.fieldnames or [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: no table: {error}; valid has columns {_ID},{_MOUSE}") from error
    if lacking := [column for column in (_ID, _MOUSE) if column not in columns]:
        found = ",".join(columns) or "empty"
        raise DataError(
            f"{path}: its header is {found}, without {', '.join(lacking)}; valid is {_ID},{_MOUSE}"
        )
    for number, row in enumerate(rows, start=2):
        name, mouse = ((row.get(column) or "").strip() for column in (_ID, _MOUSE))
        if not name or not mouse:
            missing = "mouse id" if name else "session id"
            raise DataError(f"{path}: row {number}: {missing} missing; valid is {_ID},{_MOUSE}")
        if name in mice:
            raise DataError(f"{path}: row {number}: {name} is there twice; valid is one row a session")
        mice[name] = mouse
    return mice
