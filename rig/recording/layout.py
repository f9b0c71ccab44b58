"""The one table of what a session file holds: path, type, unit and meaning of every dataset that grows.

Pure: stream descriptions in, paths out. A `Table` is a set of datasets that grow together, one row at a time,
each row one message or one sample. ``docs/session-file.md`` explains the same to readers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rig.messages import FrameStream, PredictionStatus, PredictionStream, SampleStream

FORMAT_VERSION = 1
TIMING = "/processing/timing"
BEHAVIOR = "/processing/behavior"
DECODING = "/processing/decoding"
OPHYS = "/processing/ophys"
_POSITION = "position"
DFF = "dF/F"  # unit of a decoder whose ROI responses are dF/F
CLOSED_LOOP = "/processing/closed_loop"
PROBABILITY = "probability"  # unit of a decoder that tells running from resting
EVENTS = "/processing/session_log/events"
PRESENTATION = "/stimulus/presentation"
MOVIES = "/stimulus/templates/movies"
TRUE_BOUTS = "/intervals/run_rest"
DECODED_BOUTS = "/intervals/run_rest_{decoder}"

SESSION = "/scratch/session_description"
CONFIGURATION = "/scratch/configuration"
CONFIGURATION_SHA256 = "/scratch/configuration_sha256"
PROVENANCE = "/scratch/provenance"
TABLES = "/scratch/tables"
ROWS = "/scratch/rows"
FINISH_REASON = "/scratch/finish_reason"
HIGH_WATER = "/scratch/queue_high_water_bytes"
MOVIE_FRAMES = "/scratch/movie_frames_per_clip"

FRAMES, SAMPLES, PREDICTIONS, OUTPUTS = "frames", "samples", "predictions", "outputs"
LOG, INTERVALS = "events", "intervals"

RECORDER = "recorder"
"""Stream of the recorder's own events."""
RUN_ERROR = "run_error"
"""Kind of the events that keep what went wrong in the run."""
END_OF_STREAM = "end_of_stream"
"""Kind of a stream's last event."""

_CHUNK_BYTES = 65_536
_CHUNK_ROWS = 1024
_STATUS = "; ".join(f"{status.value}: {status.words}" for status in PredictionStatus)
_SI = {
    "mm": ("meters", 1e-3),
    "um": ("meters", 1e-6),
    "cm": ("meters", 1e-2),
    "mm/s": ("m/s", 1e-3),
    "cm/s": ("m/s", 1e-2),
    "": ("n.a.", 1.0),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One dataset that grows: `shape` is that of one row; `text_bytes` > 0 makes it fixed-width UTF-8."""

    field: str
    path: str
    dtype: str
    unit: str
    description: str
    shape: tuple[int, ...] = ()
    text_bytes: int = 0

    @property
    def chunk(self) -> tuple[int, ...]:
        """Shape of an HDF5 chunk: one frame, or rows enough to be worth a write, few enough to be cheap."""
        if self.field == "pixels":
            return (1, *self.shape)
        row_bytes = self.text_bytes or np.dtype(self.dtype).itemsize * int(np.prod(self.shape))
        return (min(max(_CHUNK_BYTES // row_bytes, 1), _CHUNK_ROWS), *self.shape)


@dataclass(frozen=True, slots=True)
class Series:
    """One time series in SI units: the columns `source` of a serial stream, times `scale`."""

    field: str
    path: str
    source: tuple[int, ...]
    scale: float
    unit: str
    description: str


@dataclass(frozen=True, slots=True)
class Table:
    """Datasets that grow together. `kind` and `name` (of the stream) tell tables apart."""

    kind: str
    name: str
    description: str
    columns: tuple[Column, ...]

    @property
    def group(self) -> str:
        """HDF5 group of the NWB table; time series have groups of their own."""
        return self.column("id").path.rsplit("/", 1)[0]

    @property
    def own_columns(self) -> tuple[Column, ...]:
        """Columns of the NWB table, in order."""
        return tuple(c for c in self.columns if c.path.rsplit("/", 1)[0] == self.group and c.field != "id")

    def column(self, field: str) -> Column:
        """Return the column of that field."""
        return next(column for column in self.columns if column.field == field)


def session_tables(
    frames: Sequence[FrameStream],
    samples: Sequence[SampleStream],
    predictions: Sequence[PredictionStream],
    outputs: Sequence[str],
    running_source: str | None,
) -> tuple[Table, ...]:
    """List every table of a session; `outputs` are device names, `running_source` is a serial stream."""
    bouts = [_bouts(running_source, TRUE_BOUTS, "running speed")] if running_source else []
    bouts += [
        _bouts(p.name, DECODED_BOUTS.format(decoder=p.name), "decoder output")
        for p in predictions
        if p.shape == () and p.unit == PROBABILITY
    ]
    return (
        _events(),
        *(_frame_table(stream) for stream in frames),
        *(_sample_table(stream) for stream in samples),
        *(_prediction_table(stream) for stream in predictions),
        *(_output_table(name) for name in outputs),
        *bouts,
    )


def is_stimulus(stream: SampleStream) -> bool:
    """Whether a serial stream tells which movie frame is on the screen."""
    return {"clip", "movie_frame"} <= set(stream.columns)


def is_pupil(stream: SampleStream) -> bool:
    """Whether a serial stream measures the pupil."""
    return "diameter" in stream.columns


def sample_series(stream: SampleStream) -> tuple[Series, ...]:
    """List the time series of a serial stream; the first owns the timestamps, the others link to them."""
    if is_stimulus(stream):
        source = (stream.columns.index("clip"), stream.columns.index("movie_frame"))
        text = f"Frame on the screen: row of {MOVIES}/data, -1 when none was shown"
        return (Series("movie", f"{PRESENTATION}/{stream.name}", source, 1.0, "n.a.", text),)
    group = f"{BEHAVIOR}/{stream.name}"
    columns = list(stream.columns)
    position: list[Series] = []
    if is_pupil(stream) and {"x", "y"} <= set(columns) and _POSITION not in columns:
        source = (columns.index("x"), columns.index("y"))
        unit, scale = _si(stream.units[source[0]])
        text = "Centre of the pupil (x, y) in the eye camera's image"
        position = [Series(_POSITION, f"{group}/{_POSITION}", source, scale, unit, text)]
        columns = [name for name in columns if name not in ("x", "y")]
    return (*(_scalar_series(stream, group, name) for name in columns), *position)


def _scalar_series(stream: SampleStream, group: str, name: str) -> Series:
    source = stream.columns.index(name)
    unit, scale = _si(stream.units[source])
    return Series(name, f"{group}/{name}", (source,), scale, unit, f"{name} of {stream.name}")


def _si(unit: str) -> tuple[str, float]:
    return _SI.get(unit, (unit, 1.0))


def _table_column(group: str, field: str, unit: str, description: str, text_bytes: int = 0) -> Column:
    dtype = f"S{text_bytes}" if text_bytes else "int64"
    return Column(field, f"{group}/{field}", dtype, unit, description, (), text_bytes)


def _row_columns(group: str) -> tuple[Column, ...]:
    return (
        _table_column(group, "id", "", "Row number"),
        _table_column(group, "sequence", "", "Order in which the recorder took the messages of all streams"),
    )


def _stamps(group: str) -> tuple[Column, ...]:
    return (
        *_row_columns(group),
        _table_column(group, "index", "", "Device's count, lost ones included"),
        _table_column(group, "device_ticks", "ticks", "Device's own clock, wraps unrolled; -1: it has none"),
        _table_column(group, "arrival_ns", "ns", "When the host had it, session time"),
        _table_column(group, "session_ns", "ns", "When it was true, session time, by the clock fit"),
        _table_column(group, "uncertainty_ns", "ns", "Residual of the clock fit; -1: not aligned"),
    )


def _timestamps(group: str) -> Column:
    text = "Session time, s: session_ns / 1e9"
    return Column("timestamps", f"{group}/timestamps", "float64", "seconds", text)


def _frame_table(stream: FrameStream) -> Table:
    series = f"/acquisition/{stream.name}"
    shape = (stream.height_px, stream.width_px)
    pixels = Column(
        "pixels", f"{series}/data", stream.dtype, "counts", "Frames (row, column) as they came", shape
    )
    text = f"When each frame of {stream.name} was taken"
    return Table(
        FRAMES, stream.name, text, (pixels, _timestamps(series), *_stamps(f"{TIMING}/{stream.name}"))
    )


def _sample_table(stream: SampleStream) -> Table:
    group = f"{TIMING}/{stream.name}"
    series = sample_series(stream)
    dtype = "int32" if is_stimulus(stream) else "float64"
    data = [Column(s.field, f"{s.path}/data", dtype, s.unit, s.description, _row_shape(s)) for s in series]
    names = ", ".join(f"{c} ({u})" if u else c for c, u in zip(stream.columns, stream.units, strict=True))
    text = f"As the driver gave them, exactly: {names}"
    values = Column("values", f"{group}/values", "float64", "", text, (len(stream.columns),))
    text = f"When each sample of {stream.name} was taken, and what it was"
    return Table(SAMPLES, stream.name, text, (*data, _timestamps(series[0].path), *_stamps(group), values))


SAMPLE_FIELDS = (_timestamps("").field, *(column.field for column in _stamps("")), "values")
"""What the table of a serial stream has of its own: no column can be called so, or it would stand in its place."""


def _row_shape(series: Series) -> tuple[int, ...]:
    """Return the shape of one row: a pupil's position is a pair; clip and frame of a movie make one number."""
    return (2,) if series.field == _POSITION and len(series.source) == 2 else ()


def prediction_series(stream: PredictionStream) -> str:
    """Path of a decoder's answers: those of regions of interest lie where NWB tools look for them."""
    if not stream.per_roi:
        return f"{DECODING}/{stream.name}"
    return f"{OPHYS}/{'DfOverF' if stream.unit == DFF else 'Fluorescence'}/{stream.name}"


def _prediction_table(stream: PredictionStream) -> Table:
    series, group = prediction_series(stream), f"{TIMING}/{stream.name}"
    columns = (
        Column("values", f"{series}/data", "float32", stream.unit, stream.description, stream.shape),
        _timestamps(series),
        *_row_columns(group),
        _table_column(group, "index", "", "Count of the decoder's answers; -1: no frame came"),
        _table_column(group, "generation", "", "Count of the decoder's starts; a new one has lost its state"),
        _table_column(group, "source_index", "", "Index of the frame it answers; -1: no frame came"),
        _table_column(group, "skipped", "", "Frames dropped from its queue before this one"),
        _table_column(group, "frame_session_ns", "ns", "When the frame was taken"),
        _table_column(group, "frame_arrival_ns", "ns", "When the host had the frame"),
        _table_column(group, "dequeue_ns", "ns", "When the decoder took the frame from its queue"),
        _table_column(group, "inference_start_ns", "ns", "When inference began"),
        _table_column(group, "inference_end_ns", "ns", "When inference ended"),
        _table_column(group, "received_ns", "ns", "When the recorder had the answer"),
        _table_column(group, "status", "", _STATUS),
    )
    text = f"How each answer of {stream.name} came about"
    return Table(PREDICTIONS, stream.name, text, columns)


def _output_table(name: str) -> Table:
    group = f"{CLOSED_LOOP}/{name}"
    columns = (
        *_row_columns(group),
        _table_column(group, "part", "", "0; 1, 2, ...: the row continues the texts of the row before"),
        _table_column(group, "index", "", "Count of commands"),
        _table_column(group, "on", "", "1 on, 0 off"),
        _table_column(group, "prediction_index", "", "Answer of the decoder that caused it; -1: none did"),
        _table_column(group, "decided_ns", "ns", "When it was decided"),
        _table_column(group, "written_ns", "ns", "When it was written to the device"),
        _table_column(group, "answered_ns", "ns", "When the device answered; -1: it did not"),
        _table_column(group, "reason", "", "Why", 512),
        _table_column(group, "answer", "", "What the device answered", 512),
    )
    return Table(OUTPUTS, name, f"Commands sent to {name}", columns)


def _events() -> Table:
    columns = (
        *_row_columns(EVENTS),
        _table_column(EVENTS, "part", "", "0; 1, 2, ...: the row continues the texts of the row before"),
        Column("timestamp", f"{EVENTS}/timestamp", "float64", "seconds", "Session time, s: session_ns / 1e9"),
        _table_column(EVENTS, "stream", "", "Which stream, device or part of the program", 64),
        _table_column(EVENTS, "kind", "", "What kind; gap: data known to be lost", 64),
        _table_column(EVENTS, "text", "", "In words, or JSON; of a gap, its reason", 512),
        _table_column(EVENTS, "first", "", "Of a gap, index of the first that is missing; else -1"),
        _table_column(EVENTS, "last", "", "Of a gap, index of the last that is missing; else -1"),
        _table_column(EVENTS, "arrival_ns", "ns", "When the host noticed, session time"),
        _table_column(EVENTS, "session_ns", "ns", "When it happened, session time"),
    )
    return Table(LOG, "", "What happened: notes, gaps, devices lost, clock fits", columns)


def _bouts(name: str, group: str, signal: str) -> Table:
    columns = (
        _table_column(group, "id", "", "Row number"),
        Column("start_time", f"{group}/start_time", "float64", "seconds", "Start, session time, s"),
        Column("stop_time", f"{group}/stop_time", "float64", "seconds", "End, session time, s"),
        _table_column(
            group, "state", "", "run, rest, or unknown (no sample, or the decoder did not know)", 16
        ),
    )
    return Table(INTERVALS, name, f"Run and rest, from the {signal} of {name}", columns)
