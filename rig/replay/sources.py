"""A recorded session as cameras, serial sources and decoders' feeds.

Messages come out as they were recorded: index, device ticks, arrival, batch by batch. The clock maps run again on
them and give the same session times. A decoder is fed exactly the frames that it consumed when live, and its process
is replaced where it was restarted then, so its answers must be the same to the bit.
"""

import json
import time
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rig.acquisition.workers import Sink
from rig.closed_loop.actuator import LOOP_STOPPED
from rig.config import RigConfig
from rig.drivers.build import Devices
from rig.drivers.protocols import DriverContext
from rig.errors import CortexrigError, SessionFileError
from rig.messages import (
    NO_FRAME,
    NOT_ALIGNED,
    EndOfStream,
    Frame,
    FrameStream,
    Message,
    Output,
    Prediction,
    PredictionStream,
    Samples,
    SampleStream,
)
from rig.recording.reader import SessionReader
from rig.recording.recorded_messages import Recorded
from rig.recording.recorded_tables import PredictionTable
from rig.replay.compare import Comparison, Decisions, compare_decisions
from rig.sync.clock import SessionClock

if TYPE_CHECKING:
    from rig.acquisition.engine import Engine

_LEAD_NS = 500_000_000  # the first message comes this long after the start
_BACKLOG_BYTES = 64_000_000  # at full speed, sources wait while more than this waits for the disk
_WAIT_S = 0.002
_ANSWER_S = 30.0
_PLAIN = tuple(f.name for f in fields(Prediction) if f.name not in ("stream", "values"))
_AHEAD = 4  # frames a decoder may be behind its feed; less than any queue


class ReplaySource:
    """A recorded session as a run's source of data.

    Parameters
    ----------
    path
        The session file.
    speed
        1 for real time, more for faster, None for as fast as the slowest consumer allows.
    """

    def __init__(self, path: Path, speed: float | None) -> None:
        self._reader = SessionReader(path)
        self._speed = speed
        self._seen_ns = _seen_ns(self._reader)
        self.origin = str(path)
        self.real_time = speed == 1.0

    @property
    def config(self) -> RigConfig:
        """Configuration the session was recorded with."""
        return self._reader.description.config

    def clock(self) -> SessionClock:
        """Start a clock on which the first message is about to arrive."""
        first_ns = self._first_arrival_ns()
        speed = self._speed or 1.0
        zero_ns = time.monotonic_ns() - int((first_ns - _LEAD_NS) / speed)
        return SessionClock(zero_ns, datetime.now(UTC), speed)

    def devices(self, context: DriverContext) -> Devices:
        """Return the session's streams as devices; outputs only record."""
        description = self._reader.description
        clock = None if self._speed is None else context.clock
        return Devices(
            cameras={stream.name: self._source(stream, clock) for stream in description.frames},
            serial={stream.name: self._source(stream, clock) for stream in description.samples},
            outputs={name: RecordingOutput(name, context.clock) for name, _ in description.outputs},
        )

    def feeds(self, engine: "Engine") -> dict[str, list[Sink]]:
        """One feed for each decoder, behind its camera."""
        feeds: dict[str, list[Sink]] = {}
        for decoder, config in self.config.decoders.items():
            feeds.setdefault(config.camera, []).append(DecoderFeed(decoder, self._reader, engine))
        return feeds

    def pace(self, engine: "Engine") -> Callable[[], None] | None:
        """At full speed, wait for the disk; in real time there is no need."""
        if self._speed is not None:
            return None

        def wait() -> None:
            while engine.recorder_backlog_bytes() > _BACKLOG_BYTES:
                time.sleep(_WAIT_S)

        return wait

    def acts_on(self, output: str, prediction: Prediction) -> bool:
        """Only on what the recorded loop saw: it was stopped before the decoders had said their last."""
        return output not in self._seen_ns or prediction.frame_session_ns <= self._seen_ns[output]

    def compare(
        self, replayed: dict[str, Decisions], predictions: tuple[PredictionStream, ...]
    ) -> dict[str, Comparison]:
        """Compare what each decoder decided now with what it decided when live."""
        now = {stream.name: stream for stream in predictions}
        then = {stream.name: stream for stream in self._reader.description.predictions}
        compared = {}
        for decoder in self.config.decoders:
            table = self._reader.predictions(decoder)
            decisions = zip(table.values, table.status.tolist(), strict=True)
            live = dict(zip(table.source_index.tolist(), decisions, strict=True))
            live.pop(NO_FRAME, None)
            same = now.get(decoder) == then.get(decoder)
            stalls = int((~table.answers).sum())
            compared[decoder] = compare_decisions(live, replayed.get(decoder, {}), same, stalls)
        return compared

    def close(self) -> None:
        """Let the session file go. Safe twice."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _first_arrival_ns(self) -> int:
        first = next(self._reader.messages(), None)
        if first is None:
            raise SessionFileError(f"{self.origin}: holds no data to replay")
        return first.arrival_ns

    def _source(self, stream: FrameStream | SampleStream, clock: SessionClock | None) -> Any:
        return RecordedSource(stream, self._reader, clock)


def _seen_ns(reader: SessionReader) -> dict[str, int]:
    """Up to when each output's closed loop saw decisions; older sessions do not say."""
    stopped = [event for event in reader.events() if event.kind == LOOP_STOPPED]
    return {event.stream: int(json.loads(event.text)["seen_ns"]) for event in stopped}


class RecordedSource:
    """One recorded stream, as a `Camera` or an `EventSource`: which of the two, its description says.

    Parameters
    ----------
    clock
        Messages are held back until this clock reaches their arrival; None: they come at once.
    """

    def __init__(
        self, stream: FrameStream | SampleStream, reader: SessionReader, clock: SessionClock | None
    ) -> None:
        self._stream, self._clock = stream, clock
        self._messages = reader.messages([stream.name])
        self._next: Recorded | None = None
        self._stopped = False

    def open(self) -> Any:
        """Return the stream's description, as it was recorded."""
        return self._stream

    def start(self) -> None:
        """Fetch the first message."""
        self._next = next(self._messages, None)

    def read(self, timeout_s: float) -> list[Any]:
        """Return the next message once its time has come; `EndOfStream` after the last."""
        if self._stopped:
            return []
        if self._next is None:
            return [EndOfStream(self._stream.name, 0, "end of the recording")]
        if not self._due(timeout_s):
            return []
        message, self._next = self._next, next(self._messages, None)
        return [_unstamped(message)]

    def stop(self) -> None:
        """Say no more. Safe twice."""
        self._stopped = True

    def close(self) -> None:
        """Nothing to let go: the session file belongs to `ReplaySource`. Safe twice."""
        self._stopped = True

    def _due(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` for the next message's arrival."""
        if self._clock is None or self._next is None:
            return True
        wait_s = (self._next.arrival_ns - self._clock.now_ns()) / 1e9 / self._clock.speed
        if wait_s > 0:
            time.sleep(min(wait_s, timeout_s))
        return wait_s <= timeout_s


def _unstamped(message: Recorded) -> Recorded:
    """Return a message as its driver gave it, before it was aligned."""
    if isinstance(message, Frame):
        return replace(message, session_ns=0, uncertainty_ns=NOT_ALIGNED)
    if isinstance(message, Samples):
        return replace(message, session_ns=np.empty(0, np.int64), uncertainty_ns=NOT_ALIGNED)
    return message


class DecoderFeed:
    """A sink behind a camera that passes on what one decoder consumed when live, and waits for its answers.

    Where the live decoder was restarted, its process is replaced by a fresh one, as its state was lost then too. What
    it said when no frame came is repeated in its place, so that the closed loop meets the same.
    """

    def __init__(self, decoder: str, reader: SessionReader, engine: "Engine") -> None:
        table = reader.predictions(decoder)
        self._consumed = dict(zip(table.source_index.tolist(), table.generation.tolist(), strict=True))
        self._stalls = _stalls(decoder, table)
        self._decoder, self._engine = decoder, engine
        self._sent = 0
        self._generation = 0
        description = reader.description
        camera = description.config.decoders[decoder].camera
        self._sink = engine.bus_sink(f"{camera}_for_{decoder}", description.frame_stream(camera).frame_bytes)

    def __call__(self, message: Message) -> None:
        """Pass on a frame that was consumed, and the end of the stream."""
        if isinstance(message, EndOfStream):
            self._repeat_stalls(NO_FRAME)
            self._wait_for_answers(0)
            self._sink(message)
        elif isinstance(message, Frame) and message.index in self._consumed:
            self._repeat_stalls(message.index)
            self._renew(self._consumed[message.index])
            self._wait_for_answers(_AHEAD)
            self._sink(message)
            self._sent += 1

    def _repeat_stalls(self, source_index: int) -> None:
        """Repeat what was said before the answer to this frame, after everything that was said earlier."""
        for prediction in self._stalls.pop(source_index, ()):
            self._wait_for_answers(0)
            self._engine.take_prediction(prediction)

    def _renew(self, generation: int) -> None:
        if generation != self._generation:
            self._wait_for_answers(0)
            self._engine.supervisor().restart(self._decoder, generation)
            self._generation = generation

    def _wait_for_answers(self, ahead: int) -> None:
        """Wait until the decoder is at most `ahead` frames behind."""
        end = time.monotonic() + _ANSWER_S
        while self._sent - self._engine.statistics.decoders[self._decoder].decisions > ahead:
            if time.monotonic() > end:
                raise CortexrigError(f"decoder {self._decoder!r} stopped answering in the replay")
            time.sleep(_WAIT_S / 4)


def _stalls(decoder: str, table: PredictionTable) -> dict[int, list[Prediction]]:
    """What a decoder said when no frame came, by the frame that it answered next (NO_FRAME: none)."""
    found: dict[int, list[Prediction]] = {}
    answered = np.flatnonzero(table.answers)
    for row in np.flatnonzero(~table.answers).tolist():
        after = np.searchsorted(answered, row)
        following = int(table.source_index[answered[after]]) if after < len(answered) else NO_FRAME
        plain = {name: int(getattr(table, name)[row]) for name in _PLAIN}
        found.setdefault(following, []).append(Prediction(stream=decoder, values=table.values[row], **plain))
    return found


class RecordingOutput:
    """An output device that switches nothing: a replay must not touch the rig."""

    def __init__(self, name: str, clock: SessionClock) -> None:
        self._name, self._clock = name, clock
        self._count = 0

    def open(self) -> dict[str, str]:
        """Say what it is."""
        return {"device": "replay: switches nothing"}

    def write(self, on: bool, reason: str, prediction_index: int, decided_ns: int) -> Output:
        """Take the command to the record."""
        now_ns = self._clock.now_ns()
        index, self._count = self._count, self._count + 1
        return Output(self._name, index, on, reason, prediction_index, decided_ns, now_ns, now_ns, "replay")

    def close(self) -> None:
        """Nothing to let go. Safe twice."""
