"""NWB files of other programs: a one-photon series and a running speed, found or named.

Read through h5py, so that files whose extensions are not installed here are read as well.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  registers compressions that other programs use
import numpy as np
from numpy.typing import NDArray

from decoders.datasets.behavior import BehaviorRecording, LabelRule
from decoders.datasets.reading import MM_S, ReadingOptions, SpeedUnit
from decoders.datasets.speed import NS_PER_S, speed_trace
from rig.errors import DataError
from rig.recording.recorded_tables import LazyFrames

_SERIES = "OnePhotonSeries"
_SPEED_WORDS = ("speed", "velocity")
_SUBJECT = "/general/subject/subject_id"
_PER_SECOND = {"persecond": "/s", "/second": "/s", "/sec": "/s", "s-1": "/s", "s^-1": "/s", "ps": "/s"}
_LENGTHS = {
    "m": ("m", "meter", "metre"),
    "cm": ("cm", "centimeter", "centimetre"),
    "mm": ("mm", "millimeter", "millimetre"),
}
_LOST = 1.5  # an interval longer than so many periods lacks frames
_LOG = logging.getLogger(__name__)


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open the file for reading; raises `DataError` when it cannot be."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: damaged, or no NWB file: {error}") from error
    with file:
        yield file


def behavior_recording(
    file: h5py.File, path: Path, rule: LabelRule | None, options: ReadingOptions
) -> BehaviorRecording:
    """Frames as they are stored, (T, rows, columns), speed and labels; frames are read while `file` is open.

    Raises
    ------
    DataError
        When there is no mouse, no series or no speed, more than one of them and none is named, or they are unusable.
    """
    try:
        return _recording(file, path, rule, options)
    except (
        KeyError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:  # what h5py raises on broken files
        raise DataError(f"{path}: damaged, or no NWB file: {error}") from error


def _recording(
    file: h5py.File, path: Path, rule: LabelRule | None, options: ReadingOptions
) -> BehaviorRecording:
    series = _one(file, path, _is_one_photon, options.series, _SERIES)
    speed = _one(
        file,
        path,
        _is_speed,
        options.speed,
        "running speed (a TimeSeries called ...speed... or ...velocity...)",
    )
    frames = _frames(series, path)
    frame_ns = _times_ns(series, path)
    if len(frame_ns) != frames.shape[0]:
        raise DataError(
            f"{path}: {frames.shape[0]} frames, {len(frame_ns)} times of frames; valid is one each"
        )
    trace = speed_trace(_times_ns(speed, path), _speed_mm_s(speed, path, options.speed_unit), frame_ns, path)
    labels = rule or LabelRule()
    return BehaviorRecording(
        mouse=_mouse(file, path),
        session=path.stem,
        path=path,
        rate_hz=_rate_hz(series, frame_ns, path),
        frames=frames,
        running=trace.running(frame_ns, labels),
        speed_mm_s=trace.at(frame_ns),
        rule=labels,
    )


def _mouse(file: h5py.File, path: Path) -> str:
    value = file[_SUBJECT][()] if _SUBJECT in file else b""
    mouse = (value.decode() if isinstance(value, bytes) else str(value)).strip()
    if not mouse:
        raise DataError(f"{path}: mouse id missing; valid is an NWB file with {_SUBJECT}")
    return mouse


def _one(
    file: h5py.File, path: Path, wanted: Callable[[str, Any], bool], name: str | None, what: str
) -> h5py.Group:
    """Return the one object that is wanted: the one named, else the only one there is."""
    found: dict[str, h5py.Group] = {}

    def look(place: str, node: Any) -> None:
        if wanted(place, node) or (name is not None and _is_series(node) and _called(place, name)):
            found[place] = node

    file.visititems(look)
    named = {place: node for place, node in found.items() if name is None or _called(place, name)}
    if len(named) == 1:
        return next(iter(named.values()))
    there = ", ".join(found) or "none"
    asked = f"no {what}" if name is None else f"{name!r} is no {what}"
    if len(named) > 1:
        asked = f"more than one {what}" if name is None else f"more than one {what} is called {name!r}"
    raise DataError(f"{path}: {asked}; there: {there}; valid is one, or the path of one")


def _called(place: str, name: str) -> bool:
    return place == name.strip("/") or place.rsplit("/", 1)[-1] == name


def _is_series(node: Any) -> bool:
    return isinstance(node, h5py.Group) and "data" in node and "neurodata_type" in node.attrs


def _is_one_photon(place: str, node: Any) -> bool:
    return isinstance(node, h5py.Group) and _type(node) == _SERIES


def _is_speed(place: str, node: Any) -> bool:
    """Whether a series of one number a sample has speed or velocity in its own name or that of its container."""
    if not _is_series(node) or _type(node) == _SERIES or node["data"].size != len(node["data"]):
        return False
    return any(word in part for part in place.lower().split("/")[-2:] for word in _SPEED_WORDS)


def _type(node: h5py.Group) -> str:
    value = node.attrs.get("neurodata_type", "")
    return value.decode() if isinstance(value, bytes) else str(value)


def _frames(series: h5py.Group, path: Path) -> LazyFrames:
    if "data" not in series or series["data"].ndim != 3 or series["data"].shape[0] == 0:
        shape = series["data"].shape if "data" in series else "nothing"
        elsewhere = "; its frames lie in external files" if "external_file" in series else ""
        raise DataError(
            f"{path}: {series.name} holds {shape}{elsewhere}; valid are frames (T, rows, columns) in the file"
        )
    return LazyFrames(series["data"], series["data"].shape[0])


def _times_ns(series: h5py.Group, path: Path) -> NDArray[np.int64]:
    """Time of every sample on the session's clock, ns."""
    if "timestamps" in series:
        times = np.asarray(series["timestamps"][()], np.float64)
        if not np.isfinite(times).all():
            raise DataError(f"{path}: {series.name}/timestamps holds NaN; valid are seconds")
    elif "starting_time" in series:
        start = series["starting_time"]
        times = float(start[()]) + np.arange(len(series["data"])) / float(start.attrs["rate"])
    else:
        raise DataError(f"{path}: {series.name} has neither timestamps nor a rate; valid is one of them")
    return np.rint(times * NS_PER_S).astype(np.int64)


def _rate_hz(series: h5py.Group, frame_ns: NDArray[np.int64], path: Path) -> float:
    """Frame rate as stated, else from the timestamps."""
    if "timestamps" not in series:
        return float(series["starting_time"].attrs["rate"])
    intervals = np.diff(frame_ns)
    if not len(intervals) or intervals.min() <= 0:
        raise DataError(
            f"{path}: {series.name}/timestamps do not rise; valid is one time a frame, each later"
        )
    period = np.median(intervals)
    lost = int(np.rint(intervals[intervals > _LOST * period] / period - 1).sum())
    if lost:
        _LOG.warning("%s: about %d frames were lost; those left are taken as if in a row", path, lost)
    return float(NS_PER_S / period)


def _speed_mm_s(series: h5py.Group, path: Path, unit: SpeedUnit | None) -> NDArray[np.float64]:
    """Speed in mm/s; NWB: number in `unit` = stored number * conversion + offset."""
    data = series["data"]
    stated = data.attrs.get("unit", "")
    stated = stated.decode() if isinstance(stated, bytes) else str(stated)
    known = unit or _speed_unit(stated)
    if known is None:
        raise DataError(f"{path}: {series.name} has the unit {stated!r}; valid: {', '.join(MM_S)}")
    values = np.asarray(data[()], np.float64).reshape(-1)
    converted = values * float(data.attrs.get("conversion", 1.0)) + float(data.attrs.get("offset", 0.0))
    return converted * MM_S[known]


def _speed_unit(stated: str) -> SpeedUnit | None:
    """Return the unit meant by "cm/s", "meters/second", "m s-1", "mm per second" and the like, or None."""
    text = stated.lower().replace(" ", "").replace(".", "")
    for spelling, short in _PER_SECOND.items():
        text = text.replace(spelling, short)
    return next((unit for unit in MM_S if text in _spellings(unit)), None)


def _spellings(unit: SpeedUnit) -> set[str]:
    return {f"{length}{plural}/s" for length in _LENGTHS[unit.split("/")[0]] for plural in ("", "s")}
