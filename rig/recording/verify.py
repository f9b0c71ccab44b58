"""Is a session file complete? The devices' own counters answer, not what the recorder believes."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rig.acquisition.states import FinishReason
from rig.messages import NO_TICKS, Gap
from rig.recording import layout
from rig.recording.reader import SessionReader
from rig.recording.recorded_tables import FrameTable, SampleTable

_CLOCK_FIT = "clock_fit"
_SILENT = "serial_silent"
_STARTED = "run_started"
_LOST = "device_lost"
_NS_PER_MS = 1e6
_NS_PER_S = 1e9
_PATIENCE_S = 5.0  # chosen: on a busy machine a stop takes seconds, and its end is told last...
_PATIENCE_PERIODS = 3.0  # ...and a slow device is given time for its next one


@dataclass(frozen=True, slots=True)
class StreamReport:
    """One camera or serial stream: `expected` is what the device counted, up to the last known."""

    expected: int
    recorded: int
    gaps: tuple[tuple[int, int], ...]
    """First and last index of each gap that was noticed when it happened."""
    clock_residual_ms: float | None
    """Residual of the last fit of the device's clock; None: the device has none."""


@dataclass(frozen=True, slots=True)
class DecoderReport:
    """One decoder: its decisions, the frames it skipped, its restarts, and arrival of a frame to decision."""

    decisions: int
    skipped: int
    restarts: int
    latency_ms: dict[str, float] | None
    """p50, p99 and max; None: it made no decision."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The verdict on a session file; `reasons` says why it is not complete."""

    path: str
    complete: bool
    reasons: tuple[str, ...]
    finish_reason: str | None
    errors: tuple[str, ...]
    queue_high_water_mb: float
    streams: dict[str, StreamReport]
    decoders: dict[str, DecoderReport]

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content


def verify(path: Path) -> VerifyReport:
    """Compare a session file with what its devices counted.

    A file is complete when it was closed, its run did not fail, no device went away or fell silent for good, every
    stream with a nominal rate went on to its end, every index from 0 on is there once, nothing was lost, and no stamp
    goes backwards. What a decoder skipped does not count: it is in the file.

    Raises
    ------
    SessionFileError
        When the file cannot be read.
    """
    with SessionReader(path) as session:
        streams, reasons = {}, [*_ending(session), *_lost_devices(session)]
        for name, table in _tables(session):
            gaps = session.gaps(name)
            streams[name] = _stream_report(session, name, table, gaps)
            reasons += [f"{name}: {problem}" for problem in _problems(table, gaps)]
            reasons += _silence(session, name, table) or _early_end(session, name, table)
        return VerifyReport(
            path=str(path),
            complete=not reasons,
            reasons=tuple(reasons),
            finish_reason=session.finish_reason.value if session.finish_reason else None,
            errors=tuple(session.errors),
            queue_high_water_mb=session.scalar(layout.HIGH_WATER) / 1e6,
            streams=streams,
            decoders={name: _decoder_report(session, name) for name in session.names(layout.PREDICTIONS)},
        )


def _tables(session: SessionReader) -> Iterator[tuple[str, FrameTable | SampleTable]]:
    for name in session.names(layout.FRAMES):
        yield name, session.frames(name)
    for name in session.names(layout.SAMPLES):
        yield name, session.samples(name)


def _ending(session: SessionReader) -> Iterator[str]:
    """Say what is wrong with the way the session ended."""
    if session.finish_reason is None:
        yield "the file was never closed; rig recover saves what was flushed"
    if session.finish_reason is FinishReason.FAILED:
        yield f"the run failed: {'; '.join(session.errors) or 'no error was recorded'}"


def _lost_devices(session: SessionReader) -> Iterator[str]:
    """Say which devices went away while the run went on: what they would have sent, nobody has counted."""
    for event in session.events():
        if event.kind == _LOST:
            why = event.text.removeprefix(f"{event.stream}: ")
            yield f"{event.stream}: lost after {event.session_ns / _NS_PER_S:.1f} s: {why}"


def _silence(session: SessionReader, name: str, table: FrameTable | SampleTable) -> list[str]:
    """Say so when a stream fell silent and nothing came of it after that."""
    silent_ns = _times_ns(session, name, _SILENT)
    if not silent_ns or np.any(table.session_ns > silent_ns[-1]):
        return []
    return [f"{name}: silent after {silent_ns[-1] / _NS_PER_S:.1f} s, to the end"]


def _early_end(session: SessionReader, name: str, table: FrameTable | SampleTable) -> list[str]:
    """Say so when a stream with a nominal rate gave nothing, or nothing any more, though the run went on."""
    end_ns, rate_hz = _end_ns(session, name), _rate_hz(session, name)
    if end_ns is None or not rate_hz:
        return []
    started_ns = next((event.session_ns for event in session.events() if event.kind == _STARTED), 0)
    last_ns = int(table.arrival_ns.max(initial=started_ns))
    if (end_ns - last_ns) / _NS_PER_S <= max(_PATIENCE_S, _PATIENCE_PERIODS / rate_hz):
        return []
    if not len(table.index):
        return [f"{name}: nothing was recorded"]
    if _triggered(session, name):
        return []
    what = "frame" if isinstance(table, FrameTable) else "sample"
    last_s, end_s = last_ns / _NS_PER_S, end_ns / _NS_PER_S
    return [f"{name}: no {what} after {last_s:.1f} s, though the run went on to {end_s:.1f} s"]


def _end_ns(session: SessionReader, name: str) -> int | None:
    """Session time up to which a stream should have gone on; None where nothing can be said of it.

    That is a device that is told as lost already, a file without the stream's end (its recorder was killed), and a
    replay: it stamps the end by its own clock, which fits the recorded arrivals in real time only.
    """
    replayed = session.described.get("origin", "live") != "live"
    if replayed or _times_ns(session, name, _LOST):
        return None
    return max(_times_ns(session, name, layout.END_OF_STREAM), default=None)


def _triggered(session: SessionReader, name: str) -> bool:
    """Whether a camera waits for triggers from outside, which may end before the run does."""
    camera: dict[str, Any] = session.described["config"]["cameras"].get(name, {})
    return camera.get("trigger") == "external"


def _times_ns(session: SessionReader, name: str, kind: str) -> list[int]:
    """Session times of one stream's events of one kind."""
    return [event.session_ns for event in session.events() if (event.stream, event.kind) == (name, kind)]


def _rate_hz(session: SessionReader, name: str) -> float:
    """Nominal rate of a camera or serial stream; 0: it speaks when something happens."""
    streams = [*session.described["frames"], *session.described["samples"]]
    return float(next((stream["rate_hz"] for stream in streams if stream["name"] == name), 0.0))


def _stream_report(
    session: SessionReader, name: str, table: FrameTable | SampleTable, gaps: list[Gap]
) -> StreamReport:
    ends = [int(table.index.max()) + 1] if len(table.index) else []
    expected = max([*ends, *(gap.last + 1 for gap in gaps)], default=0)
    noticed = tuple((gap.first, gap.last) for gap in gaps)
    return StreamReport(expected, len(table.index), noticed, _clock_residual_ms(session, name, table))


def _clock_residual_ms(session: SessionReader, name: str, table: FrameTable | SampleTable) -> float | None:
    """Residual by the last fit that was recorded, or by the last stamp."""
    fits = [event.text for event in session.events() if (event.stream, event.kind) == (name, _CLOCK_FIT)]
    if fits:
        return float(json.loads(fits[-1])["residual_ns"]) / _NS_PER_MS
    aligned = table.uncertainty_ns[table.uncertainty_ns >= 0]
    return float(aligned[-1]) / _NS_PER_MS if len(aligned) else None


def _problems(table: FrameTable | SampleTable, gaps: list[Gap]) -> Iterator[str]:
    """Say what is wrong with one stream."""
    lost = sum(gap.count for gap in gaps)
    if lost:
        yield f"{lost} lost in {len(gaps)} gaps: {_ranges([(gap.first, gap.last) for gap in gaps])}"
    yield from _index_problems(table.index, gaps)
    ticks = table.device_ticks[table.device_ticks != NO_TICKS]
    stamps = {"device_ticks": ticks, "arrival_ns": table.arrival_ns, "session_ns": table.session_ns}
    for name, values in stamps.items():
        back = np.flatnonzero(np.diff(values) < 0)
        if len(back):
            yield f"{name} goes backwards {len(back)} times, first after row {back[0]}"


def _index_problems(index: NDArray[np.int64], gaps: list[Gap]) -> Iterator[str]:
    """Find indices that come twice, or not at all; a gap counts as coming, and 0 is the first."""
    starts = [*index.tolist(), *(gap.first for gap in gaps)]
    stops = [*(index + 1).tolist(), *(gap.last + 1 for gap in gaps)]
    missing, twice, due = [], [], 0
    for start, stop in sorted(zip(starts, stops, strict=True)):
        if start > due:
            missing.append((due, start - 1))
        if start < due:
            twice.append((start, min(stop, due) - 1))
        due = max(due, stop)
    if missing:
        yield f"missing without a gap: {_ranges(missing)}"
    if twice:
        yield f"recorded twice, or recorded and reported lost: {_ranges(twice)}"
    if len(index) > 1 and np.any(np.diff(index) < 0):
        yield "not in the device's order"


def _ranges(ranges: list[tuple[int, int]], most: int = 5) -> str:
    """First and last of each range, the first few of them."""
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in ranges[:most]]
    return ", ".join(texts) + (f" and {len(ranges) - most} more" if len(ranges) > most else "")


def _deaths(session: SessionReader, decoder: str) -> int:
    """Count the deaths of a decoder's process; one that never answered shows here alone."""
    return sum(event.stream == decoder and event.kind == "decoder_lost" for event in session.events())


def _decoder_report(session: SessionReader, name: str) -> DecoderReport:
    table = session.predictions(name)
    latency_ms = (table.received_ns - table.frame_arrival_ns)[table.answers] / _NS_PER_MS
    return DecoderReport(
        decisions=int(table.answers.sum()),
        skipped=int(table.skipped.sum()),
        restarts=max(int(table.generation.max(initial=0)), _deaths(session, name)),
        latency_ms=latency_summary(latency_ms) if len(latency_ms) else None,
    )


def latency_summary(latency_ms: NDArray[np.float64]) -> dict[str, float]:
    """Median, 99th percentile and worst of latencies (n,), ms."""
    p50, p99 = np.percentile(latency_ms, [50, 99])
    return {"p50": float(p50), "p99": float(p99), "max": float(latency_ms.max())}
