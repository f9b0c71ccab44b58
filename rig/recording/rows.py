"""Messages to rows of the session file's tables, and texts to the fixed widths that HDF5 can append. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rig.messages import EndOfStream, Event, Frame, Gap, Output, Prediction, Samples, SampleStream
from rig.recording.layout import END_OF_STREAM, Table, is_stimulus, sample_series

Rows = dict[str, NDArray[np.generic]]
NO_GAP = -1
NOT_QUEUED = -1
"""Place among all messages of a row that was no message."""
NO_COMMAND = -1
"""Index of the row that stands in an output's table when no command was ever sent."""


def frame_rows(frame: Frame, sequence: int) -> Rows:
    """One row of a camera's table, without the pixels."""
    row = {name: getattr(frame, name) for name in ("index", "device_ticks", "arrival_ns", "session_ns")}
    return _one({**row, "uncertainty_ns": frame.uncertainty_ns, "sequence": sequence}, frame.session_ns)


def sample_rows(stream: SampleStream, samples: Samples, sequence: int, movie_frames: int) -> Rows:
    """Rows of a serial stream's table, one a sample; times that were not aligned are the arrival's."""
    count = len(samples.device_ticks)
    session_ns = samples.session_ns
    if len(session_ns) != count:
        session_ns = np.full(count, samples.arrival_ns, np.int64)
    return {
        "sequence": np.full(count, sequence, np.int64),
        "index": samples.index + np.arange(count, dtype=np.int64),
        "device_ticks": samples.device_ticks,
        "arrival_ns": np.full(count, samples.arrival_ns, np.int64),
        "session_ns": session_ns,
        "uncertainty_ns": np.full(count, samples.uncertainty_ns, np.int64),
        "timestamps": session_ns / 1e9,
        "values": samples.values,
        **_series_rows(stream, samples.values, movie_frames),
    }


def _series_rows(stream: SampleStream, values: NDArray[np.float64], movie_frames: int) -> Rows:
    if is_stimulus(stream):
        clip, movie_frame = values[:, sample_series(stream)[0].source].T
        shown = (clip >= 0) & (movie_frame >= 0)
        return {"movie": np.where(shown, clip * movie_frames + movie_frame, -1).astype(np.int32)}
    return {s.field: _squeeze(values[:, s.source] * s.scale) for s in sample_series(stream)}


def _squeeze(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 1) to (n,); (n, 2) as it is."""
    return values[:, 0] if values.shape[1] == 1 else values


def prediction_rows(prediction: Prediction, sequence: int, received_ns: int) -> Rows:
    """One row of a decoder's table."""
    plain = ("index", "generation", "source_index", "skipped", "frame_session_ns", "frame_arrival_ns")
    times = ("dequeue_ns", "inference_start_ns", "inference_end_ns")
    row = {name: getattr(prediction, name) for name in (*plain, *times, "status")}
    rows = _one({**row, "sequence": sequence, "received_ns": received_ns}, prediction.frame_session_ns)
    return {**rows, "values": np.asarray(prediction.values, np.float32)[np.newaxis]}


def output_rows(output: Output, sequence: int) -> Rows:
    """One row of an output's table, more when a text is long."""
    plain = ("index", "on", "prediction_index", "decided_ns", "written_ns", "answered_ns")
    row = {name: int(getattr(output, name)) for name in plain}
    return _with_texts(
        {**row, "sequence": sequence}, {"reason": (output.reason, 512), "answer": (output.answer, 512)}
    )


def no_command_rows(device: str, now_ns: int) -> Rows:
    """Make the row that says that an output was never switched."""
    return output_rows(
        Output(device, NO_COMMAND, False, "no command was sent", -1, now_ns, -1, -1, ""), NOT_QUEUED
    )


def event_rows(message: Event | Gap | EndOfStream, sequence: int) -> Rows:
    """One row of the session's log, more when a text is long."""
    first, last, session_ns = NO_GAP, NO_GAP, message.arrival_ns
    if isinstance(message, Gap):
        kind, text = "gap", message.reason
        first, last, session_ns = message.first, message.last, message.session_ns
    elif isinstance(message, EndOfStream):
        kind, text = END_OF_STREAM, message.reason
    else:
        kind, text, session_ns = message.kind, message.text, message.session_ns
    row = {"sequence": sequence, "first": first, "last": last, "arrival_ns": message.arrival_ns}
    texts = {"stream": (message.stream, 64), "kind": (kind, 64), "text": (text, 512)}
    rows = _with_texts({**row, "session_ns": session_ns}, texts)
    return {**rows, "timestamp": rows["session_ns"].astype(np.int64) / 1e9}


def bout_rows(start_ns: int, stop_ns: int, state: str) -> Rows:
    """One row of a table of run and rest."""
    times = {"start_time": np.array([start_ns / 1e9]), "stop_time": np.array([stop_ns / 1e9])}
    return {**times, "state": np.array([state.encode()])}


def row_count(rows: Rows) -> int:
    """How many rows these are."""
    return len(next(iter(rows.values())))


def join_rows(table: Table, parts: Sequence[Rows], first_id: int) -> Rows:
    """Rows of one table, one after the other, numbered from `first_id`; pixels are written elsewhere."""
    count = sum(row_count(rows) for rows in parts)
    fields = [c.field for c in table.columns if c.field not in ("id", "pixels")]
    joined = {field: np.concatenate([rows[field] for rows in parts]) for field in fields}
    return {**joined, "id": np.arange(first_id, first_id + count, dtype=np.int64)}


def split_text(text: str, width: int) -> list[bytes]:
    """Cut a text into pieces of at most `width` UTF-8 bytes, never inside a character; at least one piece.

    Fixed-width text ends at its first zero byte, so NUL is stored as its picture (U+2400).
    """
    data = text.replace("\0", "\u2400").encode("utf-8", "backslashreplace")
    pieces = []
    while len(data) > width:
        end = width
        while data[end] & 0xC0 == 0x80:  # a continuation byte: the character began before
            end -= 1
        pieces.append(data[:end])
        data = data[end:]
    return [*pieces, data]


def join_texts(part: NDArray[np.int64], texts: NDArray[np.bytes_]) -> list[str]:
    """Put texts together again that `split_text` has cut; rows with a `part` other than 0 continue."""
    joined: list[bytes] = []
    for number, piece in zip(part, texts, strict=True):
        if number == 0 or not joined:
            joined.append(piece)
        else:
            joined[-1] += piece
    return [data.decode("utf-8", "replace") for data in joined]


def _one(row: dict[str, int], session_ns: int) -> Rows:
    rows: Rows = {name: np.array([value], np.int64) for name, value in row.items()}
    return {**rows, "timestamps": np.array([session_ns / 1e9])}


def _with_texts(row: dict[str, int], texts: dict[str, tuple[str, int]]) -> Rows:
    """Rows for texts of these widths: as many as the longest needs, the numbers repeated in each."""
    pieces = {name: split_text(text, width) for name, (text, width) in texts.items()}
    count = max(map(len, pieces.values()))
    rows: Rows = {name: np.full(count, value, np.int64) for name, value in row.items()}
    rows["part"] = np.arange(count, dtype=np.int64)
    for name, (_, width) in texts.items():
        padded = pieces[name] + [b""] * (count - len(pieces[name]))
        rows[name] = np.array(padded, f"S{width}")
    return rows
