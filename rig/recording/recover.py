"""After a crash: a clean session file with everything that was flushed."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rig.acquisition.states import FinishReason
from rig.config import RunningConfig
from rig.errors import RecordingError
from rig.messages import Event
from rig.recording import layout
from rig.recording.frame_chunks import COMPRESSIONS
from rig.recording.reader import SessionReader
from rig.recording.rows import NOT_QUEUED, Rows, event_rows, no_command_rows, row_count
from rig.recording.run_rest import RunRest
from rig.recording.session_file import reason_of
from rig.recording.skeleton import partial_name, publish, refuse_existing

_BLOCK_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class RecoveredStream:
    """What came back of one stream, and what was cut: rows that were begun but not complete."""

    recovered: int
    cut: int


@dataclass(frozen=True, slots=True)
class RecoverReport:
    """What came back of a session. `was_closed`: there was nothing to recover, the new file is a copy."""

    path: str
    out: str
    was_closed: bool
    streams: dict[str, RecoveredStream]
    last_ns: int
    """Session time of the last message that came back: what came after it is missing."""

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content


def recover(path: Path, out: Path) -> RecoverReport:
    """Write what was flushed of a session into a new file that any NWB tool opens; leave the old one alone.

    Raises
    ------
    SessionFileError
        When the old file cannot be read.
    RecordingError
        When the new file exists or cannot be written; nothing is left of it then.
    """
    with SessionReader(path) as session:
        refuse_existing(out)
        report = RecoverReport(
            str(path), str(out), session.was_closed, _recovered_streams(session), _last_ns(session)
        )
        partial = partial_name(out)
        try:
            with h5py.File(partial, "x", libver="latest") as file:
                _copy(session, file)
                if not session.was_closed:
                    _complete(session, file, report.last_ns)
            publish(partial, out)
        except (OSError, RuntimeError, KeyError) as error:
            raise RecordingError(f"{path} cannot be recovered into {out}: {reason_of(error)}") from error
        finally:
            partial.unlink(missing_ok=True)
    return report


def _recovered_streams(session: SessionReader) -> dict[str, RecoveredStream]:
    """Rows that are complete, and rows that only some of a table's datasets have, by stream."""
    streams = {}
    for (kind, name), columns in session.tables.items():
        if kind != layout.INTERVALS:  # they are made anew
            begun = max(len(session.file[path]) for path in columns.values())
            count = session.row_count(kind, name)
            streams[name or layout.LOG] = RecoveredStream(count, begun - count)
    return streams


def _last_ns(session: SessionReader) -> int:
    """Session time of the last arrival that came back."""
    ends = [0]
    for (kind, name), columns in session.tables.items():
        path = columns.get("arrival_ns", columns.get("received_ns"))
        count = session.row_count(kind, name)
        if path and count:
            ends.append(int(session.file[path][count - 1]))
    return max(ends)


def _copy(session: SessionReader, file: h5py.File) -> None:
    """Copy everything, of the datasets that grow the complete rows only."""
    rows = session.column_paths()
    if not session.was_closed:
        intervals = (columns for (kind, _), columns in session.tables.items() if kind == layout.INTERVALS)
        rows.update({path: 0 for columns in intervals for path in columns.values()})
    _copy_group(session.file, file, rows)
    _refer_again(session.file, file)
    session.file.visititems(lambda name, old: _refer_again(old, file[name]))


def _refer_again(old: h5py.HLObject, new: h5py.HLObject) -> None:
    """Point to the same objects: a reference is good in its own file only."""
    for name, value in old.attrs.items():
        if isinstance(value, h5py.Reference) and value:
            new.attrs[name] = new.file[old.file[value].name].ref


def _copy_group(old: h5py.Group, new: h5py.Group, rows: Mapping[str, int]) -> None:
    _copy_attributes(old, new)
    for name in old:
        link = old.get(name, getlink=True)
        if isinstance(link, h5py.SoftLink):
            new[name] = link
        elif isinstance(old[name], h5py.Group):
            _copy_group(old[name], new.create_group(name), rows)
        elif old[name].name in rows:
            _copy_rows(old[name], new, name, rows[old[name].name])
        else:
            old.copy(name, new)


def _copy_attributes(old: h5py.HLObject, new: h5py.HLObject) -> None:
    for name, value in old.attrs.items():
        if not isinstance(value, h5py.Reference):
            new.attrs.create(name, value, dtype=old.attrs.get_id(name).dtype)


def _copy_rows(old: h5py.Dataset, group: h5py.Group, name: str, count: int) -> None:
    """Copy the first rows of a dataset; frames as they are compressed."""
    compressed = old.id.get_create_plist().get_nfilters() > 0
    new = group.create_dataset(
        name,
        (count, *old.shape[1:]),
        old.dtype,
        maxshape=(None, *old.shape[1:]),
        chunks=old.chunks,
        **COMPRESSIONS["bitshuffle-lz4" if compressed else "none"],
    )
    _copy_attributes(old, new)
    if old.chunks[0] == 1:
        for k in range(count):
            place = (k, *(0,) * (old.ndim - 1))
            mask, chunk = old.id.read_direct_chunk(place)
            new.id.write_direct_chunk(place, chunk, mask)
    else:
        for start in range(0, count, _BLOCK_ROWS):
            stop = min(start + _BLOCK_ROWS, count)
            new[start:stop] = old[start:stop]


def _complete(session: SessionReader, file: h5py.File, last_ns: int) -> None:
    """Write what the recorder would have written at the end, and that it could not."""
    running = session.described["config"]["running"]
    config = RunningConfig.model_validate(running) if running else None
    for (kind, name), columns in session.tables.items():
        if kind == layout.INTERVALS:
            for rows in _run_rest(session, name, config, last_ns):
                _append(file, columns, rows)
        elif kind == layout.OUTPUTS and not session.row_count(kind, name):
            _append(file, columns, no_command_rows(name, last_ns))
    text = f"recovered from {session.path.name}: its recorder ended without closing it"
    error = Event(layout.RECORDER, layout.RUN_ERROR, text, last_ns, last_ns)
    _append(file, session.tables[layout.LOG, ""], event_rows(error, NOT_QUEUED))
    file[layout.FINISH_REASON][0] = FinishReason.FAILED.value.encode()
    lengths = [len(file[columns["id"]]) for columns in session.tables.values()]
    file[layout.ROWS][...] = np.array(lengths, np.int64)


def _run_rest(session: SessionReader, name: str, running: RunningConfig | None, last_ns: int) -> list[Rows]:
    """Run and rest again, from the signal that came back."""
    if name in session.names(layout.SAMPLES):
        samples = session.samples(name)
        signal = samples.session_ns, samples.values[:, samples.columns.index("running_speed")]
        return _followed(RunRest(running, is_speed=True), *signal, last_ns)
    answers = session.predictions(name)
    return _followed(RunRest(running, is_speed=False), answers.frame_session_ns, answers.values, last_ns)


def _followed(signal: RunRest, times: NDArray[Any], values: NDArray[Any], last_ns: int) -> list[Rows]:
    return [*signal.follow(times, values), *signal.finish(last_ns)]


def _append(file: h5py.File, columns: Mapping[str, str], rows: Rows) -> None:
    start = len(file[columns["id"]])
    stop = start + row_count(rows)
    for field, path in columns.items():
        dataset = file[path]
        dataset.resize(stop, axis=0)
        values = np.arange(start, stop) if field == "id" else rows[field]
        dataset[start:stop] = values.astype(dataset.dtype)
