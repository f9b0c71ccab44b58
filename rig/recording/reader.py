"""Reads a session file: finished, still being written, or left behind by a writer that was killed."""

import json
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from rig.acquisition.states import FinishReason
from rig.description import SessionDescription
from rig.errors import CortexrigError, SessionFileError
from rig.messages import Event, Gap, Output, PredictionStatus
from rig.recording import layout
from rig.recording.opening import OpenedFile
from rig.recording.recorded_messages import Recorded, SessionLog, recorded_messages
from rig.recording.recorded_tables import FrameTable, LazyFrames, PredictionTable, SampleTable
from rig.recording.rows import NO_COMMAND, join_texts
from rig.recording.session_file import Key, reason_of


class SessionReader:
    """A session file, read only. Use as a context manager.

    Of a file whose writer is still at work, or was killed, it shows what had been flushed when it was opened.

    Raises
    ------
    SessionFileError
        When the file is missing, damaged, or not one of ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened = OpenedFile(path)
        self._file = self._opened.hdf5
        try:
            self._read_contents()
            if self._opened.lacks_end and self.finish_reason is not None:  # it was whole once
                raise SessionFileError(f"{path} is cut off: it ends after {path.stat().st_size} bytes")
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            self.close()
            what = f"damaged or no session file of cortexrig: {reason_of(error)}"
            raise SessionFileError(f"{path} is {what}") from error
        except SessionFileError:
            self.close()
            raise

    def _read_contents(self) -> None:
        if layout.TABLES not in self._file:
            raise SessionFileError(f"{self.path} is no session file of cortexrig: it has no {layout.TABLES}")
        self.tables: dict[Key, dict[str, str]] = {
            (t["kind"], t["name"]): t["columns"] for t in json.loads(self.text(layout.TABLES))
        }
        self._rows: dict[Key, int] = dict(zip(self.tables, self._file[layout.ROWS][:].tolist(), strict=True))
        self._check_whole()
        self.finish_reason = self._finish_reason()
        self.errors = [
            e.text for e in self.events() if (e.stream, e.kind) == (layout.RECORDER, layout.RUN_ERROR)
        ]

    @cached_property
    def description(self) -> SessionDescription:
        """The session as it was described before its first message.

        Raises
        ------
        SessionFileError
            When it names a driver or decoder that is not installed here.
        """
        try:
            return SessionDescription.from_json(self.text(layout.SESSION))
        except CortexrigError as error:
            raise SessionFileError(f"{self.path}: its configuration cannot be read here: {error}") from error

    @cached_property
    def described(self) -> dict[str, Any]:
        """The same as plain JSON, readable even where the session's drivers are not installed."""
        content: dict[str, Any] = json.loads(self.text(layout.SESSION))
        return content

    @property
    def was_closed(self) -> bool:
        """Whether the recorder finished the file."""
        return self.finish_reason is not None

    def names(self, kind: str) -> list[str]:
        """Names of the streams of one kind: `layout.FRAMES`, SAMPLES, PREDICTIONS, OUTPUTS or INTERVALS."""
        return [name for table_kind, name in self.tables if table_kind == kind]

    def row_count(self, kind: str, name: str) -> int:
        """Return how many rows of a table are complete."""
        return self._rows[self._key(kind, name)]

    def text(self, path: str) -> str:
        """Return one of the texts under ``/scratch``."""
        value = self._file[path][()]
        return value.decode() if isinstance(value, bytes) else str(value)

    def scalar(self, path: str) -> int:
        """Return one of the numbers under ``/scratch``."""
        return int(self._file[path][0])

    def frames(self, camera: str) -> FrameTable:
        """Frames of one camera."""
        columns, count = self._columns(layout.FRAMES, camera)
        names = ("sequence", "index", "device_ticks", "arrival_ns", "session_ns", "uncertainty_ns")
        pixels = LazyFrames(self._file[columns["pixels"]], count)
        return FrameTable(pixels, *(self._read(columns[name], count) for name in names))

    def samples(self, stream: str) -> SampleTable:
        """Return the samples of one serial stream, as the driver gave them."""
        columns, count = self._columns(layout.SAMPLES, stream)
        names = ("sequence", "index", "device_ticks", "arrival_ns", "session_ns", "uncertainty_ns", "values")
        described = next(entry for entry in self.described["samples"] if entry["name"] == stream)
        return SampleTable(tuple(described["columns"]), *(self._read(columns[name], count) for name in names))

    def predictions(self, decoder: str) -> PredictionTable:
        """Answers of one decoder; of a file older than their status, NaN is read as warming up."""
        columns, count = self._columns(layout.PREDICTIONS, decoder)
        names = [name for name in PredictionTable.__slots__ if name != "status" or name in columns]
        data = {name: self._read(columns[name], count) for name in names}
        if "status" not in data:
            unknown = np.isnan(data["values"].reshape(count, -1)).all(axis=1)
            data["status"] = np.where(unknown, PredictionStatus.WARMING_UP, PredictionStatus.OK)
        return PredictionTable(**data)

    def gaps(self, stream: str) -> list[Gap]:
        """Gaps of one stream, in order."""
        return [gap for _, gap in self.log.gaps if gap.stream == stream]

    def events(self) -> list[Event]:
        """Everything that happened, in order, without the gaps."""
        return [event for _, event in self.log.events]

    def outputs(self, device: str) -> list[Output]:
        """Commands sent to one output device, in order."""
        columns, count = self._columns(layout.OUTPUTS, device)
        data = {name: self._read(path, count) for name, path in columns.items()}
        first = data["part"] == 0
        texts = {name: join_texts(data["part"], data[name]) for name in ("reason", "answer")}
        names = ("index", "prediction_index", "decided_ns", "written_ns", "answered_ns", "on")
        rows = zip(
            *(data[name][first].tolist() for name in names), texts["reason"], texts["answer"], strict=True
        )
        return [
            Output(device, index, bool(on), reason, caused_by, decided, written, answered, answer)
            for index, caused_by, decided, written, answered, on, reason, answer in rows
            if index != NO_COMMAND
        ]

    def intervals(self, name: str) -> list[tuple[float, float, str]]:
        """Start and stop (session time, s) and state (run, rest, unknown) by one signal, see `names`."""
        columns, count = self._columns(layout.INTERVALS, name)
        data = [self._read(columns[field], count) for field in ("start_time", "stop_time", "state")]
        return [
            (start, stop, state.decode())
            for start, stop, state in zip(*(d.tolist() for d in data), strict=True)
        ]

    def stimulus_movies(self) -> NDArray[np.uint8] | None:
        """Movies shown, (clips, T, H, W), if the session had any."""
        frames = self.scalar(layout.MOVIE_FRAMES)
        if not frames:
            return None
        flat = self._file[f"{layout.MOVIES}/data"][:]  # (clips * T, H, W)
        movies: NDArray[np.uint8] = flat.reshape(-1, frames, *flat.shape[1:])
        return movies

    def messages(self, streams: Collection[str] | None = None) -> Iterator[Recorded]:
        """Give what the devices (or some of them) said, as `rig.recording.recorded_messages` does."""
        return recorded_messages(self, streams)

    def column_paths(self) -> dict[str, int]:
        """Every dataset that grows, with the number of its rows that are complete."""
        return {path: self._rows[key] for key, columns in self.tables.items() for path in columns.values()}

    @property
    def file(self) -> h5py.File:
        """The open HDF5 file."""
        return self._file

    def close(self) -> None:
        """Close the file; safe twice."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _key(self, kind: str, name: str) -> Key:
        if (kind, name) not in self.tables:
            valid = ", ".join(self.names(kind)) or "none was recorded"
            raise SessionFileError(f"{self.path} holds no {kind} of {name!r}; valid: {valid}")
        return kind, name

    def _columns(self, kind: str, name: str) -> tuple[dict[str, str], int]:
        key = self._key(kind, name)
        return self.tables[key], self._rows[key]

    def _read(self, path: str, count: int) -> NDArray[Any]:
        try:
            values: NDArray[Any] = self._file[path][:count]
        except (OSError, RuntimeError, KeyError) as error:
            raise SessionFileError(f"{self.path}: {path} is damaged: {reason_of(error)}") from error
        return values

    def _check_whole(self) -> None:
        """Check that every dataset has the rows it should have, the last of them inside the file."""
        size = self.path.stat().st_size
        for path, count in self.column_paths().items():
            dataset = self._file[path]
            if len(dataset) < count:
                raise SessionFileError(f"{self.path} is damaged: {path} has {len(dataset)} of {count} rows")
            if count:
                place = (count - 1) // dataset.chunks[0] * dataset.chunks[0]
                chunk = dataset.id.get_chunk_info_by_coord((place, *(0,) * (dataset.ndim - 1)))
                if chunk.byte_offset is None or chunk.byte_offset + chunk.size > size:
                    raise SessionFileError(
                        f"{self.path} is cut off: row {count - 1} of {path} lies beyond its end"
                    )

    def _finish_reason(self) -> FinishReason | None:
        text = self._file[layout.FINISH_REASON][0].decode()
        return FinishReason(text) if text else None

    @cached_property
    def log(self) -> SessionLog:
        """The session's log: events and gaps with their places among all messages."""
        columns, count = self._columns(layout.LOG, "")
        return SessionLog({name: self._read(path, count) for name, path in columns.items()})
