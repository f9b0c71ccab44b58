"""A session file as the messages that its devices sent, for replay."""

import heapq
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rig.messages import Event, Frame, Gap, Samples
from rig.recording import layout
from rig.recording.recorded_tables import FrameTable, SampleTable
from rig.recording.rows import NO_GAP, join_texts

if TYPE_CHECKING:
    from rig.recording.reader import SessionReader

_FROM_ALIGNMENT = "clock_"  # events of these kinds come from the clock's alignment, not from the device
_END = "end_of_stream"

Recorded = Frame | Samples | Gap | Event
Placed = tuple[int, Callable[[], Recorded]]  # place among all messages, and how to make it


class SessionLog:
    """The session's log, read: events and gaps, each with its place among all messages."""

    def __init__(self, data: dict[str, NDArray[Any]]) -> None:
        first = data["part"] == 0
        names = ("sequence", "first", "last", "arrival_ns", "session_ns")
        numbers = zip(*(data[name][first].tolist() for name in names), strict=True)
        texts = zip(
            *(join_texts(data["part"], data[name]) for name in ("stream", "kind", "text")), strict=True
        )
        self.events: list[tuple[int, Event]] = []
        self.gaps: list[tuple[int, Gap]] = []
        for (place, start, stop, arrival_ns, session_ns), (stream, kind, text) in zip(
            numbers, texts, strict=True
        ):
            if start == NO_GAP:
                self.events.append((place, Event(stream, kind, text, arrival_ns, session_ns)))
            else:
                self.gaps.append((place, Gap(stream, start, stop, arrival_ns, text, session_ns)))


def recorded_messages(session: "SessionReader", streams: Collection[str] | None = None) -> Iterator[Recorded]:
    """Give what the devices said, in the order in which it was recorded; pixels are read as they are given.

    All devices, or only those in `streams`.

    Frames, samples in the batches in which they came, gaps, and the events of cameras and serial streams. Not
    what the program made of them: predictions, outputs, clock fits, events of its own.
    """
    cameras = [name for name in session.names(layout.FRAMES) if streams is None or name in streams]
    serial = [name for name in session.names(layout.SAMPLES) if streams is None or name in streams]
    devices = {*cameras, *serial}
    parts: list[Iterator[Placed]] = [_frames(name, session.frames(name)) for name in cameras]
    parts += [_samples(name, session.samples(name)) for name in serial]
    parts.append((place, partial(_same, gap)) for place, gap in session.log.gaps if gap.stream in devices)
    parts.append(
        (place, partial(_same, event))
        for place, event in session.log.events
        if event.stream in devices and event.kind != _END and not event.kind.startswith(_FROM_ALIGNMENT)
    )
    return (make() for _, make in heapq.merge(*parts, key=lambda placed: placed[0]))


def _same(message: Recorded) -> Recorded:
    return message


def _frames(camera: str, table: FrameTable) -> Iterator[Placed]:
    for k, place in enumerate(table.sequence.tolist()):
        yield place, partial(_frame, camera, table, k)


def _frame(camera: str, table: FrameTable, k: int) -> Frame:
    """Read one frame."""
    return Frame(
        camera,
        int(table.index[k]),
        int(table.device_ticks[k]),
        int(table.arrival_ns[k]),
        table.pixels[k],
        int(table.session_ns[k]),
        int(table.uncertainty_ns[k]),
    )


def _samples(stream: str, table: SampleTable) -> Iterator[Placed]:
    edges = (np.flatnonzero(np.diff(table.sequence)) + 1).tolist()
    for start, stop in zip([0, *edges], [*edges, len(table.sequence)], strict=True):
        if stop > start:
            yield int(table.sequence[start]), partial(_batch, stream, table, slice(start, stop))


def _batch(stream: str, table: SampleTable, rows: slice) -> Samples:
    """Put the samples together that came together."""
    return Samples(
        stream,
        int(table.index[rows.start]),
        int(table.arrival_ns[rows.start]),
        table.device_ticks[rows],
        table.values[rows],
        table.session_ns[rows],
        int(table.uncertainty_ns[rows.start]),
    )
