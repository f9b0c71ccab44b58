"""The decoder process: frames from the bus to a live decoder, its answers back to the bus.

``python -m decoders.worker FILE.json NAME GENERATION``, with FILE.json a session's description. It ends at the end of
its camera's stream, on SIGTERM, or when the process that started it is gone. Whatever happens here, the recording
goes on.
"""

import json
import os
import signal
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import FrameType

import numpy as np
from numpy.typing import NDArray

from decoders.continuity import Continuity
from decoders.idle import IdleTime, importance_map, refined_answer
from decoders.protocols import Doubting, Explaining, Forgetful, LiveDecoder
from rig import registry
from rig.bus import Bus, Publisher, Subscriber
from rig.description import SessionDescription
from rig.errors import BusError, CortexrigError, one_line
from rig.messages import (
    NO_FRAME,
    EndOfStream,
    Event,
    Frame,
    Gap,
    Message,
    Prediction,
    PredictionStatus,
    PredictionStream,
)

_POLL_S = 0.2  # between checks whether to leave, and repeats of "ready"
_FLOAT_BYTES = 4
_MAP_BYTES = 1 << 16
_LAST_WORDS_NS = 1_000_000_000
_BAD_INPUT = 2
_TOLD_TO_END = 128 + signal.SIGTERM
_PATIENCE_SHARE, _PATIENCE_NS = 0.2, 6_000_000  # of the frame's period, and the most: see `Worker._give_way`
_LINGER_S = 0.3  # what was sent goes when we go: readers must have had the time to take it


class Worker:
    """One decoder of one session, in its own process.

    Parameters
    ----------
    description
        The session.
    name
        Which of its decoders.
    generation
        How often it was started before; a restarted decoder has lost its state.
    """

    def __init__(self, description: SessionDescription, name: str, generation: int, bus: Bus) -> None:
        self._config = description.config.decoders[name]
        self._camera = description.frame_stream(self._config.camera)
        self._clock = description.clock
        self.name = name
        self._generation, self._bus = generation, bus
        self._parent = os.getppid()
        self._leaving = False
        self._decoder: LiveDecoder = registry.load(registry.DECODERS, self._config.decoder)(
            name, self._config
        )
        # followed before it is ready: a frame that comes early waits in the queue
        self._frames = bus.subscriber(description.feed(name), self._config.queue_frames)
        self._ready = bus.publisher(f"{name}.ready", 1024)
        self._answers: Publisher | None = None
        self._maps: Publisher | None = None
        self._idle: IdleTime | None = None
        self._shape: tuple[int, ...] = ()
        self._index, self._skipped = 0, 0
        self._expected: int | None = 0 if generation == 0 else None  # index of the next frame, once known
        self._continuity = Continuity(self._camera, self._config)
        self._watches_time = description.origin == "live"  # a replay's frames come as fast as they may
        self._patience_ns = self._patience(description)
        self._unknown = PredictionStatus.WARMING_UP  # why, if it does not know

    def run(self) -> None:
        """Load the decoder, say so, and decode until there is nothing more to decode or nobody to decode for."""
        signal.signal(signal.SIGTERM, self._leave)
        described = self._decoder.load(self._camera)
        self._shape = described.shape
        self._answers = self._bus.publisher(self.name, int(np.prod(described.shape)) * _FLOAT_BYTES + 1024)
        self._make_idle_time(described)
        reason = self._follow(described)
        self._answers.send(EndOfStream(self.name, self._clock.now_ns(), reason))
        time.sleep(_LINGER_S)

    @property
    def told_to_end(self) -> bool:
        """Whether a signal ended it, which is a death unless the engine meant it."""
        return self._leaving

    @property
    def awaited(self) -> bool:
        """Whether the run waits for this decoder to be ready, and ends with what it says instead."""
        return self._generation == 0 and self._answers is None

    def fail(self, text: str) -> None:
        """Tell the engine why this decoder cannot work, until it has heard: what we sent goes when we go."""
        end_ns = self._clock.now_ns() + _LAST_WORDS_NS
        while not self._leaving and self._clock.now_ns() < end_ns:
            self._ready.send(Event(self.name, "failed", text, self._clock.now_ns()))
            time.sleep(_POLL_S / 4)

    def close(self) -> None:
        """Leave the bus; safe twice."""
        ports: tuple[Publisher | Subscriber | None, ...] = (
            self._frames,
            self._ready,
            self._answers,
            self._maps,
        )
        for port in ports:
            if port is not None:
                port.close()

    def _make_idle_time(self, described: PredictionStream) -> None:
        """Let a decoder that can explain itself, or refine its answers, do so between frames."""
        if not isinstance(self._decoder, Explaining) or not (described.importance or described.refined):
            return
        stream = described.importance_stream if described.importance else described.refined_stream
        make = importance_map if described.importance else refined_answer
        self._maps = self._bus.publisher(stream, _MAP_BYTES)
        period_ns = round(1e9 / self._camera.rate_hz)
        self._idle = IdleTime(self._decoder, self._maps, partial(make, stream), self._clock, period_ns)

    def _follow(self, described: PredictionStream) -> str:
        """Decode frame after frame; return why it ended."""
        ready, started = json.dumps(asdict(described)), False
        while not self._leaving and os.getppid() == self._parent:
            if not started:
                self._ready.send(Event(self.name, "ready", ready, self._clock.now_ns()))
            message = self._receive()
            if isinstance(message, EndOfStream):
                return message.reason
            if isinstance(message, Frame):
                started = True
                self._decode(message)
            else:
                self._look_out(message)
        return "told to end" if self._leaving else "the engine is gone"

    def _receive(self) -> Message | None:
        """Wait for a message until it is time to look whether to leave, or whether the camera has stalled."""
        if self._idle is not None and (message := self._idle.spend(self._frames)) is not None:
            return message
        wait_s = self._continuity.wait_s(self._clock.now_ns()) if self._watches_time else None
        return self._frames.receive(_POLL_S if wait_s is None else min(wait_s, _POLL_S))

    def _look_out(self, message: Message | None) -> None:
        """Take note of a gap, and say so if there has been no frame for too long."""
        if isinstance(message, Gap):
            self._account(message.first, message.last + 1)
            self._continuity.take_gap(message)
        now_ns = self._clock.now_ns()
        status = self._continuity.stalled(now_ns) if self._watches_time else None
        if status is not None and self._answers is not None:
            self._answers.send(self._stall(status, now_ns))

    def _stall(self, status: PredictionStatus, now_ns: int) -> Prediction:
        """Make the statement that answers no frame."""
        return Prediction(
            stream=self.name,
            index=NO_FRAME,
            generation=self._generation,
            source_index=NO_FRAME,
            skipped=0,
            values=np.full(self._shape, np.nan, np.float32),
            frame_session_ns=self._continuity.stamp_ns,
            frame_arrival_ns=now_ns,
            dequeue_ns=now_ns,
            inference_start_ns=now_ns,
            inference_end_ns=now_ns,
            status=status,
        )

    def _decode(self, frame: Frame) -> None:
        dequeue_ns = self._clock.now_ns()
        self._account(frame.index, frame.index + 1)
        skipped, self._skipped = self._skipped, 0
        if self._continuity.broken_by(frame) and isinstance(self._decoder, Forgetful):
            self._decoder.forget()
            self._unknown = PredictionStatus.FRAMES_MISSING
        self._give_way(frame)
        inference_start_ns = self._clock.now_ns()
        values = self._checked(self._decoder.step(frame))
        prediction = Prediction(
            stream=self.name,
            index=self._index,
            generation=self._generation,
            source_index=frame.index,
            skipped=skipped,
            values=values,
            frame_session_ns=frame.session_ns,
            frame_arrival_ns=frame.arrival_ns,
            dequeue_ns=dequeue_ns,
            inference_start_ns=inference_start_ns,
            inference_end_ns=self._clock.now_ns(),
            status=self._why_unknown() if np.isnan(values).all() else PredictionStatus.OK,
        )
        self._index += 1
        if self._answers is not None:
            self._answers.send(prediction)
        if self._idle is not None:
            self._idle.begin(frame)

    def _patience(self, description: SessionDescription) -> int:
        """Nanoseconds from a frame to its decoding: some where the closed loop acts on other decoders alone."""
        acted_on = {policy.decoder for policy in description.config.closed_loop}
        if not self._watches_time or not acted_on or self.name in acted_on:
            return 0
        return min(round(_PATIENCE_SHARE * 1e9 / self._camera.rate_hz), _PATIENCE_NS)

    def _give_way(self, frame: Frame) -> None:
        """Let decisions that are acted on be made first: they need the same cores at the same moment."""
        wait_ns = frame.arrival_ns + self._patience_ns - self._clock.now_ns()
        if self._patience_ns and wait_ns > 0:
            time.sleep(wait_ns / 1e9)

    def _why_unknown(self) -> PredictionStatus:
        doubt = self._decoder.doubt if isinstance(self._decoder, Doubting) else None
        return self._unknown if doubt is None else doubt

    def _checked(self, answer: object) -> NDArray[np.float32]:
        """Return an answer as it is recorded; one of another shape than described ends this process, not the run."""
        values = np.asarray(answer, np.float32)
        if values.shape != self._shape:
            raise CortexrigError(
                f"{self.name}: step returned values of shape {values.shape}; valid is {self._shape}, as load described"
            )
        return values

    def _account(self, first: int, following: int) -> None:
        """Take note of indices up to `following`, and of those before `first` that were dropped from the queue."""
        if self._expected is not None:
            self._skipped += max(first - self._expected, 0)
        self._expected = following

    def _leave(self, number: int, where: FrameType | None) -> None:
        self._leaving = True


def main(arguments: list[str] | None = None) -> int:
    """Run a decoder process.

    Returns 0 when its camera's stream ended; 143, as a shell has it, when it was told to end; 2 after one line on
    standard error that says what was wrong.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 3 or not arguments[2].isdecimal():
        return _complain("decoders.worker: valid arguments are FILE.json NAME GENERATION")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the engine, which then ends us
    path, name, generation = arguments
    try:
        description = SessionDescription.from_json(Path(path).read_text(encoding="utf-8"))
        if name not in description.config.decoders:
            valid = ", ".join(description.config.decoders) or "none is configured"
            return _complain(f"decoders.worker: no decoder {name!r} in {path}; valid: {valid}")
        with Bus(description.identifier) as bus:
            return _run(Worker(description, name, int(generation), bus))
    except (OSError, ValueError, KeyError, CortexrigError) as error:
        return _complain(f"decoder {name!r} ({path}): {one_line(error)}")


def _run(worker: Worker) -> int:
    try:
        worker.run()
    except BusError:
        raise  # there is no bus left to say it on
    except Exception as error:  # the outer edge of this process: any decoder's fault is handed to the engine
        worker.fail(one_line(error))
        if worker.awaited:  # the engine says it itself
            return _BAD_INPUT
        return _complain(f"decoder {worker.name!r} failed: {one_line(error)}")
    finally:
        worker.close()
    return _TOLD_TO_END if worker.told_to_end else 0


def _complain(line: str) -> int:
    sys.stderr.write(line + "\n")
    return _BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
