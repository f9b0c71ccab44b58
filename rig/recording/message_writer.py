"""Sorts messages into the tables of a session file, and derives run and rest from the signals among them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rig.acquisition.states import FinishReason
from rig.description import SessionDescription
from rig.errors import RecordingError
from rig.messages import (
    Event,
    Frame,
    FrameStream,
    ImportanceMap,
    Message,
    Output,
    Prediction,
    Samples,
    SampleStream,
)
from rig.recording import layout
from rig.recording.layout import Table
from rig.recording.message_queue import Queued
from rig.recording.roi_responses import load_roi_masks
from rig.recording.rows import (
    NOT_QUEUED,
    event_rows,
    frame_rows,
    no_command_rows,
    output_rows,
    prediction_rows,
    sample_rows,
)
from rig.recording.run_rest import RunRest
from rig.recording.session_file import Key, SessionFile, reason_of
from rig.recording.skeleton import create_session_file
from rig.stimulus import load_movies

_LOG_KEY: Key = (layout.LOG, "")


def open_writer(path: Path, session: SessionDescription) -> "MessageWriter":
    """Create a session file and open it to append; nothing is left of it when that fails.

    Raises
    ------
    RecordingError
        When it exists, or cannot be written.
    ConfigError
        When the movies cannot be read.
    DataError
        When the regions of interest of a decoder cannot be read.
    """
    config = session.config
    outputs = [name for name, _ in session.outputs]
    tables = layout.session_tables(
        session.frames, session.samples, session.predictions, outputs, running_source(session)
    )
    movies = load_movies(config.stimulus.movie) if config.stimulus else None
    create_session_file(path, session, tables, movies, load_roi_masks(session))
    try:
        file = SessionFile(path, tables, config.recording.compression)
    except (OSError, RuntimeError) as error:
        path.unlink(missing_ok=True)
        raise RecordingError(f"{path} cannot be opened to append: {reason_of(error)}") from error
    return MessageWriter(file, session, tables, movies.shape[1] if movies is not None else 0)


def running_source(session: SessionDescription) -> str | None:
    """Name the serial stream that tells when the animal runs, if there is one."""
    sources = [stream.name for stream in session.samples if "running_speed" in stream.columns]
    running = session.config.running
    return running.source if running is not None and running.source in sources else None


class MessageWriter:
    """Writes messages to an open session file. `check` may be called from any thread, all else from one."""

    def __init__(
        self, file: SessionFile, session: SessionDescription, tables: tuple[Table, ...], movie_frames: int
    ) -> None:
        self._file = file
        self._movie_frames = movie_frames
        self._streams: dict[str, FrameStream | SampleStream] = {s.name: s for s in session.frames}
        self._streams.update({s.name: s for s in session.samples})
        self._shapes = {stream.name: stream.shape for stream in session.predictions}
        self._outputs = {name for name, _ in session.outputs}
        self._bouts = {
            table.name: RunRest(session.config.running, table.name == running_source(session))
            for table in tables
            if table.kind == layout.INTERVALS
        }
        self.written = {table.name or layout.LOG: 0 for table in tables if table.kind != layout.INTERVALS}

    def check(self, message: Message) -> None:
        """Refuse what does not belong into this file.

        Raises
        ------
        RecordingError
            When the stream is unknown, or the data are not as it was described.
        """
        name = message.stream
        if isinstance(message, Frame):
            self._expect_frame(message)
        elif isinstance(message, Samples):
            stream = self._streams.get(name)
            columns = len(stream.columns) if isinstance(stream, SampleStream) else -1
            self._expect(name, message.values.shape, (len(message.device_ticks), columns))
        elif isinstance(message, Prediction):
            self._expect(name, message.values.shape, self._shapes.get(name, (-1,)))
        elif isinstance(message, ImportanceMap):
            raise RecordingError(f"{name!r}: importance maps are shown, not recorded")
        elif isinstance(message, Output) and name not in self._outputs:
            raise RecordingError(f"{name!r} is no output of this session; valid: {sorted(self._outputs)}")

    def _expect_frame(self, frame: Frame) -> None:
        stream = self._streams.get(frame.stream)
        if isinstance(stream, FrameStream):
            self._expect(frame.stream, frame.pixels.shape, (stream.height_px, stream.width_px))
            self._expect(frame.stream, frame.pixels.dtype, np.dtype(stream.dtype))
        else:
            self._expect(frame.stream, frame.pixels.shape, (-1, -1))

    def _expect(self, name: str, found: object, valid: object) -> None:
        if found != valid:
            known = ", ".join(self.written)
            raise RecordingError(
                f"{name!r} sent {found}, the session was described with {valid} (-1: not at all); "
                f"its streams: {known}"
            )

    def write(self, queued: Queued) -> None:
        """Write a message's pixels, and keep its row for the next flush."""
        message, sequence = queued.message, queued.sequence
        if isinstance(message, Frame):
            self._file.append_frame(
                (layout.FRAMES, message.stream), message.pixels, frame_rows(message, sequence)
            )
        elif isinstance(message, Samples):
            self._write_samples(message, sequence)
        elif isinstance(message, Prediction):
            self._write_prediction(message, sequence, queued.received_ns)
        elif isinstance(message, Output):
            self._file.append((layout.OUTPUTS, message.stream), output_rows(message, sequence))
        elif not isinstance(message, ImportanceMap):
            self._file.append(_LOG_KEY, event_rows(message, sequence))
        self._count(message)

    def _count(self, message: Message) -> None:
        is_data = isinstance(message, Frame | Samples | Prediction | Output)
        count = len(message.device_ticks) if isinstance(message, Samples) else 1
        self.written[message.stream if is_data else layout.LOG] += count

    def _write_samples(self, samples: Samples, sequence: int) -> None:
        stream = self._streams[samples.stream]
        if not isinstance(stream, SampleStream) or not len(samples.device_ticks):
            return
        rows = sample_rows(stream, samples, sequence, self._movie_frames)
        self._file.append((layout.SAMPLES, samples.stream), rows)
        if samples.stream in self._bouts:
            speed = samples.values[:, stream.columns.index("running_speed")]
            self._follow(samples.stream, rows["session_ns"], speed)

    def _write_prediction(self, prediction: Prediction, sequence: int, received_ns: int) -> None:
        self._file.append(
            (layout.PREDICTIONS, prediction.stream), prediction_rows(prediction, sequence, received_ns)
        )
        if prediction.stream in self._bouts:
            times = np.array([prediction.frame_session_ns])
            self._follow(prediction.stream, times, prediction.values.reshape(1))

    def _follow(self, signal: str, session_ns: NDArray[Any], values: NDArray[Any]) -> None:
        for rows in self._bouts[signal].follow(session_ns, values):
            self._file.append((layout.INTERVALS, signal), rows)

    def flush(self) -> None:
        """Bring everything written so far to the disk."""
        self._file.flush()

    def end(self, reason: FinishReason, errors: list[str], now_ns: int, high_water_bytes: int) -> None:
        """Write how the session ended."""
        for signal, bouts in self._bouts.items():
            for rows in bouts.finish(now_ns):
                self._file.append((layout.INTERVALS, signal), rows)
        for text in errors:
            self._file.append(
                _LOG_KEY,
                event_rows(Event(layout.RECORDER, layout.RUN_ERROR, text, now_ns, now_ns), NOT_QUEUED),
            )
        for name in self._outputs:
            if self._file.is_empty((layout.OUTPUTS, name)):
                self._file.append((layout.OUTPUTS, name), no_command_rows(name, now_ns))
        self._file.finish(reason.value, high_water_bytes)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
