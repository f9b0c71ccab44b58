"""The engine's threads: one per source (driver to sinks), one per decoder (bus to sinks).

A worker never swallows: one broad except at the outer edge of its loop hands the error to the engine.
"""

import threading
from collections.abc import Callable, Sequence

from rig.bus import Bus
from rig.drivers.protocols import Camera, EventSource
from rig.errors import BusError
from rig.messages import EndOfStream, Event, Message, Prediction
from rig.sync.aligner import Aligner
from rig.sync.clock import SessionClock

_READ_S = 0.1
_DRAIN_READS = 50  # after stop, a device may hand out what it still holds, but not for ever
_COMPLAIN_EVERY_NS = 1_000_000_000

Sink = Callable[[Message], None]
OnError = Callable[[str, Exception], None]


class SourceWorker:
    """Reads one device until asked to stop, stamps what it says, and hands it to the sinks in order.

    Parameters
    ----------
    pace
        Called before each read; a replay at full speed waits in it for slow consumers.
    """

    def __init__(
        self,
        name: str,
        device: Camera | EventSource,
        tick_hz: float,
        clock: SessionClock,
        sinks: Sequence[Sink],
        on_error: OnError,
        pace: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.aligner = Aligner(name, tick_hz)
        self.ended = threading.Event()
        self._device, self._clock, self._sinks = device, clock, sinks
        self._on_error, self._pace = on_error, pace
        self._stop = threading.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"source {name}")

    def add_sinks(self, sinks: Sequence[Sink]) -> None:
        """Connect further consumers, before the start."""
        self._sinks = [*self._sinks, *sinks]

    def start(self) -> None:
        """Start the device, in its own thread; returns once it streams or has failed."""
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """Ask the worker to stop its device and drain it. Safe twice."""
        self._stop.set()

    def join(self) -> None:
        """Wait until the last message is with the sinks."""
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        reason = "stopped"
        try:
            self._device.start()
            self._started.set()
            while not self._stop.is_set() and not self._read():
                pass
            self._device.stop()
            self._drain()
        except Exception as error:  # the thread's outer edge: the engine decides what it means
            reason = str(error)
            self._on_error(self.name, error)
        finally:
            self._started.set()
            self._end(reason)

    def _read(self) -> bool:
        """Pass on what one read brings; True at the end of the stream."""
        if self._pace:
            self._pace()
        messages = self._device.read(_READ_S)
        for message in messages:
            if isinstance(message, EndOfStream):
                return True
            self._pass_on(message)
        return False

    def _drain(self) -> None:
        for _ in range(_DRAIN_READS):
            messages = self._device.read(0.0)
            if not messages:
                return
            for message in messages:
                if not isinstance(message, EndOfStream):
                    self._pass_on(message)

    def _end(self, reason: str) -> None:
        try:
            self._pass_on(EndOfStream(self.name, self._clock.now_ns(), reason))
        except Exception as error:  # also the outer edge: a full recorder must not hide the first error
            self._on_error(self.name, error)
        finally:
            self.ended.set()

    def _pass_on(self, message: Message) -> None:
        for stamped in self.aligner.stamp(message):
            for sink in self._sinks:
                sink(stamped)


class BusSink:
    """Publishes one stream. A bus that fails is told, at most once a second, and not fatal: recording matters more."""

    def __init__(self, bus: Bus, stream: str, typical_bytes: int, clock: SessionClock, tell: Sink) -> None:
        self._publisher = bus.publisher(stream, typical_bytes)
        self._stream, self._clock, self._tell = stream, clock, tell
        self._complain_ns = 0

    def __call__(self, message: Message) -> None:
        """Send a message to whoever follows the stream."""
        try:
            self._publisher.send(message)
        except BusError as error:
            now_ns = self._clock.now_ns()
            if now_ns >= self._complain_ns:
                self._complain_ns = now_ns + _COMPLAIN_EVERY_NS
                self._tell(Event(self._stream, "bus_error", str(error), now_ns, now_ns))

    def close(self) -> None:
        """Withdraw the stream; safe twice."""
        self._publisher.close()


class PredictionWorker:
    """Follows one decoder's answers on the bus and hands them to the sinks."""

    def __init__(
        self,
        name: str,
        bus: Bus,
        queue: int,
        on_prediction: Callable[[Prediction], None],
        on_error: OnError,
    ) -> None:
        self.name = name
        self._subscriber = bus.subscriber(name, queue)
        self._on_prediction, self._on_error = on_prediction, on_error
        self._stop = threading.Event()
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"predictions {name}")

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after what has been published. Safe twice."""
        self._stop.set()

    def join(self) -> None:
        """Wait for the thread, and leave the stream."""
        if self._thread.ident is not None:
            self._thread.join()
        self._subscriber.close()

    def _run(self) -> None:
        try:
            while True:
                message = self._subscriber.receive(_READ_S)
                if isinstance(message, Prediction):
                    self._on_prediction(message)
                elif isinstance(message, EndOfStream):
                    self.ended.set()
                elif message is None and self._stop.is_set():
                    return
        except Exception as error:  # the thread's outer edge
            self._on_error(self.name, error)
