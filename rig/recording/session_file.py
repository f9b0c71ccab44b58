"""Appends to a session file in SWMR mode. One thread owns it; every h5py call of a recording is in here.

What is appended is on disk after `flush`, in this order: pixels and rows, then the count of rows that are
complete. A reader that goes by that count never sees half a row, whenever the writer is killed.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from rig.recording import layout
from rig.recording.frame_chunks import frame_chunk
from rig.recording.layout import Table
from rig.recording.rows import Rows, join_rows, row_count

Key = tuple[str, str]


class SessionFile:
    """An open session file that grows; `create_session_file` has made it."""

    def __init__(self, path: Path, tables: Sequence[Table], compression: str) -> None:
        self._path = path
        self._compression = compression
        self._file = h5py.File(path, "r+", libver="latest")
        self._file.swmr_mode = True
        self._tables = {(table.kind, table.name): table for table in tables}
        self._datasets = {c.path: self._file[c.path] for table in tables for c in table.columns}
        self._pending: dict[Key, list[Rows]] = {key: [] for key in self._tables}
        self._rows = dict.fromkeys(self._tables, 0)
        self._frames = dict.fromkeys(self._tables, 0)

    def append(self, key: Key, rows: Rows) -> None:
        """Keep rows of one table for the next flush."""
        self._pending[key].append(rows)

    def append_frame(self, key: Key, pixels: NDArray[np.generic], rows: Rows) -> None:
        """Write one frame's chunk now, and keep its row for the next flush."""
        dataset = self._datasets[self._tables[key].column("pixels").path]
        place = self._frames[key]
        dataset.resize(place + 1, axis=0)
        dataset.id.write_direct_chunk((place, 0, 0), frame_chunk(pixels, self._compression))
        self._frames[key] = place + 1
        self.append(key, rows)

    def is_empty(self, key: Key) -> bool:
        """Whether a table has no row yet."""
        return not self._rows[key] and not self._pending[key]

    def flush(self) -> None:
        """Bring everything appended so far to the file, then say that it is complete."""
        for key, parts in self._pending.items():
            if parts:
                self._write_rows(key, parts)
        self._file.flush()
        self._file[layout.ROWS][...] = np.array(list(self._rows.values()), np.int64)
        self._file.flush()

    def _write_rows(self, key: Key, parts: list[Rows]) -> None:
        table, start = self._tables[key], self._rows[key]
        stop = start + sum(row_count(rows) for rows in parts)
        joined = join_rows(table, parts, start)
        for column in table.columns:
            if column.field != "pixels":
                dataset = self._datasets[column.path]
                dataset.resize(stop, axis=0)
                dataset[start:stop] = joined[column.field].astype(dataset.dtype)
        self._rows[key] = stop
        parts.clear()

    def finish(self, reason: str, high_water_bytes: int) -> None:
        """Write how the session ended; the last thing before `close`."""
        self.flush()
        self._file[layout.FINISH_REASON][0] = reason.encode()
        self._file[layout.HIGH_WATER][0] = high_water_bytes
        self._file.flush()

    def close(self) -> None:
        """Close the file, and wait until the disk has it."""
        self._file.close()
        descriptor = os.open(self._path, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def reason_of(error: Exception) -> str:
    """Return the system's words for an error of h5py, without HDF5's."""
    text = " ".join(str(error).split())
    return text.split("error message = '")[1].split("'")[0] if "error message = '" in text else text
