"""The recorder's queue: bounded in bytes, never waits for the disk, refuses when full."""

import threading
from collections import deque
from dataclasses import dataclass

from rig.errors import RecorderOverflow, RecordingError
from rig.messages import Frame, Message, Prediction, Samples

_OVERHEAD_BYTES = 1024  # a message's object, its small fields and texts


@dataclass(frozen=True, slots=True)
class Queued:
    """A message with its place among all messages and when it came."""

    message: Message
    sequence: int
    received_ns: int


def message_bytes(message: Message) -> int:
    """Memory that a waiting message takes."""
    if isinstance(message, Frame):
        return _OVERHEAD_BYTES + message.pixels.nbytes
    if isinstance(message, Samples | Prediction):
        return _OVERHEAD_BYTES + message.values.nbytes
    return _OVERHEAD_BYTES


class MessageQueue:
    """Many threads put, one takes. Counts every message it has taken in."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._changed = threading.Condition()
        self._waiting: deque[Queued] = deque()
        self._taken_in = 0
        self._closed = False
        self.queued_bytes = 0
        self.high_water_bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: Message, received_ns: int) -> None:
        """Take a message in.

        Raises
        ------
        RecorderOverflow
            When it does not fit any more.
        RecordingError
            When the queue is closed.
        """
        size = message_bytes(message)
        with self._changed:
            if self._closed:
                raise RecordingError(
                    f"the recording is closed; a message of {message.stream!r} came too late"
                )
            if self.queued_bytes + size > self._limit_bytes:
                raise RecorderOverflow(self._overflow(message))
            self._waiting.append(Queued(message, self._taken_in, received_ns))
            self._taken_in += 1
            self.queued_bytes += size
            self.high_water_bytes = max(self.high_water_bytes, self.queued_bytes)
            self._changed.notify()

    def _overflow(self, message: Message) -> str:
        waiting = f"{len(self._waiting)} messages ({self.queued_bytes // 1_000_000} MB) wait for the disk"
        return (
            f"recording.queue_mb is full: {waiting} as {message.stream!r} sends one more; "
            "use a faster disk, smaller frames or a larger queue_mb"
        )

    def take(self, timeout_s: float) -> Queued | None:
        """Give the oldest message, waiting for one; None after `timeout_s`, or when closed and empty."""
        with self._changed:
            if not self._waiting and not self._closed:
                self._changed.wait(max(timeout_s, 0.0))
            if not self._waiting:
                return None
            return self._waiting.popleft()

    def release(self, queued: Queued) -> None:
        """Give back the memory of a message that is on its way to the disk."""
        with self._changed:
            self.queued_bytes -= message_bytes(queued.message)

    def close(self) -> None:
        """Take nothing more in; what waits can still be taken out. Safe twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def drained(self) -> bool:
        """Whether it is closed and nothing waits."""
        return self._closed and not self._waiting
