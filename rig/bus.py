"""Publish / subscribe between the processes of one session, over iceoryx2's shared memory.

The only file that knows iceoryx2. One publish-subscribe service per stream carries encoded messages, one event
service beside it wakes the readers. A subscriber that dies, stalls or leaves never holds up a publisher: its
queue overwrites the oldest entry, and the reader sees the jump in `index`.
"""

import ctypes
import json
import struct
from dataclasses import fields
from types import TracebackType
from typing import Any, Self

import iceoryx2 as iox2
import numpy as np

from rig.errors import BusError
from rig.messages import (
    EndOfStream,
    Event,
    Frame,
    Gap,
    ImportanceMap,
    Message,
    Output,
    Prediction,
    Samples,
)

LATEST_ONLY = 1
_TYPES: dict[str, type[Any]] = {
    cls.__name__: cls for cls in (Frame, Samples, Gap, Event, Prediction, Output, ImportanceMap, EndOfStream)
}
_HEAD = struct.Struct("<II")  # bytes of the JSON part, bytes before the first array
_MAX_SUBSCRIBERS = 16
_MAX_QUEUE = 256
_NODE_CLEANUP_S = 1.0


def encode(message: Message) -> tuple[bytes, list[np.ndarray]]:
    """Split a message into its head (JSON of all plain fields) and its arrays, in field order."""
    plain: dict[str, Any] = {}
    arrays: list[np.ndarray] = []
    shapes: list[tuple[str, str, tuple[int, ...]]] = []
    for f in fields(message):
        value = getattr(message, f.name)
        if isinstance(value, np.ndarray):
            value = np.require(value, requirements="C")  # ascontiguousarray would make a scalar (1,)
            arrays.append(value)
            shapes.append((f.name, value.dtype.str, value.shape))
        else:
            plain[f.name] = value
    head = json.dumps([type(message).__name__, plain, shapes], separators=(",", ":")).encode()
    start = -(-(_HEAD.size + len(head)) // 8) * 8  # arrays start aligned
    return (_HEAD.pack(len(head), start) + head).ljust(start, b"\0"), arrays


def decode(payload: memoryview | bytes) -> Message:
    """Rebuild a message from its bytes; arrays are copies, so the shared memory may go."""
    head_bytes, offset = _HEAD.unpack_from(payload)
    name, plain, shapes = json.loads(bytes(payload[_HEAD.size : _HEAD.size + head_bytes]))
    for field_name, dtype, shape in shapes:
        count = int(np.prod(shape))
        array = np.frombuffer(payload, dtype, count, offset).reshape(shape).copy()
        plain[field_name] = array
        offset += -(-array.nbytes // 8) * 8
    message: Message = _TYPES[name](**plain)
    return message


class Bus:
    """One process's connection to one session's streams. Use as a context manager."""

    def __init__(self, session: str) -> None:
        iox2.set_log_level(iox2.LogLevel.Error)
        self._session = session
        try:
            self._node = (
                iox2.NodeBuilder.new()
                .signal_handling_mode(iox2.SignalHandlingMode.Disabled)
                .create(iox2.ServiceType.Ipc)
            )
        except Exception as error:  # iceoryx2's errors share no base class
            raise BusError(
                f"cannot open the shared-memory bus of session {session}: {error}; is /dev/shm writable?"
            ) from error

    def publisher(self, stream: str, typical_bytes: int) -> "Publisher":
        """Announce a stream; `typical_bytes` sizes the first memory segment, larger messages make it grow."""
        return Publisher(self._data_service(stream), self._wake_service(stream), typical_bytes)

    def subscriber(self, stream: str, queue: int = LATEST_ONLY) -> "Subscriber":
        """Follow a stream, keeping at most `queue` unread messages; the oldest is overwritten."""
        if not 1 <= queue <= _MAX_QUEUE:
            raise BusError(f"a queue of {queue} messages for {stream!r}: valid are 1 to {_MAX_QUEUE}")
        return Subscriber(self._data_service(stream), self._wake_service(stream), queue)

    def clean_up_dead(self) -> None:
        """Give back what killed processes of any session left in shared memory."""
        self._node.blocking_cleanup_dead_nodes(iox2.Duration.from_secs_f64(_NODE_CLEANUP_S))

    def close(self) -> None:
        """Leave the bus; safe twice. Publishers and subscribers must have been closed before."""
        self._node = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _name(self, stream: str, what: str) -> iox2.ServiceName:
        return iox2.ServiceName.new(f"cortexrig/{self._session}/{stream}/{what}")

    def _data_service(self, stream: str) -> Any:
        return (
            self._node.service_builder(self._name(stream, "data"))
            .publish_subscribe(iox2.Slice[ctypes.c_uint8])
            .enable_safe_overflow(True)
            .subscriber_max_buffer_size(_MAX_QUEUE)
            .max_subscribers(_MAX_SUBSCRIBERS)
            .max_publishers(4)
            .max_nodes(32)
            .open_or_create()
        )

    def _wake_service(self, stream: str) -> Any:
        return (
            self._node.service_builder(self._name(stream, "wake"))
            .event()
            .max_listeners(_MAX_SUBSCRIBERS)
            .max_notifiers(4)
            .max_nodes(32)
            .open_or_create()
        )


class Publisher:
    """Sends one stream's messages. Used from one thread."""

    def __init__(self, data: Any, wake: Any, typical_bytes: int) -> None:
        self._service = data
        self._port = (
            data.publisher_builder()
            .initial_max_slice_len(typical_bytes + 4096)
            .allocation_strategy(iox2.AllocationStrategy.PowerOfTwo)
            .create()
        )
        self._notifier = wake.notifier_builder().create()

    def send(self, message: Message) -> None:
        """Copy a message into shared memory and wake the readers.

        Raises
        ------
        BusError
            When shared memory is exhausted.
        """
        head, arrays = encode(message)
        size = len(head) + sum(-(-array.nbytes // 8) * 8 for array in arrays)
        try:
            sample = self._port.loan_slice_uninit(size)
            start = sample.payload().as_ptr()
            ctypes.memmove(start, head, len(head))
            offset = len(head)
            for array in arrays:
                ctypes.memmove(start + offset, array.ctypes.data, array.nbytes)
                offset += -(-array.nbytes // 8) * 8
            sample.assume_init().send()
            self._notifier.notify()
        except Exception as error:  # iceoryx2's errors share no base class
            raise BusError(
                f"cannot publish {size} bytes of {message.stream!r}: {error}; is /dev/shm full?"
            ) from error

    def close(self) -> None:
        """Withdraw the stream; safe twice."""
        if self._port is not None:
            self._port.delete()
            self._notifier.delete()
            self._port = self._service = None

    @property
    def followed(self) -> bool:
        """Whether anybody follows the stream now."""
        return self._service is not None and self._service.dynamic_config.number_of_subscribers > 0


class Subscriber:
    """Receives one stream's messages. Used from one thread."""

    def __init__(self, data: Any, wake: Any, queue: int) -> None:
        self._port = data.subscriber_builder().buffer_size(queue).create()
        self._listener = wake.listener_builder().create()

    def receive(self, timeout_s: float = 0.0) -> Message | None:
        """Return the oldest unread message, waiting up to `timeout_s` for one; None when there is none."""
        message = self._take()
        if message is not None or timeout_s <= 0:
            return message
        self._listener.try_wait()  # forget the wake-ups of messages already taken
        message = self._take()
        if message is None:
            self._wait(timeout_s)
            message = self._take()
        return message

    def close(self) -> None:
        """Stop following; safe twice."""
        if self._port is not None:
            self._port.delete()
            self._listener.delete()
            self._port = None

    def _wait(self, timeout_s: float) -> None:
        try:
            self._listener.timed_wait(iox2.Duration.from_secs_f64(timeout_s))
        except iox2.ListenerWaitError as error:
            if "InterruptSignal" not in str(error):  # a signal ends the wait early, which is what it is for
                raise BusError(f"the bus cannot be waited on: {error}") from error

    def _take(self) -> Message | None:
        sample = self._port.receive()
        if sample is None:
            return None
        try:
            return decode(sample.payload().as_memory_view())
        finally:
            sample.delete()
