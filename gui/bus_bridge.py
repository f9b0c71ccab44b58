"""The one crossing between the bus and the window's thread.

A thread follows every stream of the session and gathers messages in a mailbox: of each camera only the latest
frame, of all else a bounded number. It then rings (`arrived`), once until the mailbox was emptied: a slow
window gets fewer pictures, never older ones. Frames are binned here, so that large ones do not hold it up.
"""

import logging
import queue
import threading
from collections import deque
from contextlib import ExitStack
from dataclasses import replace

from PySide6.QtCore import QObject, Signal

from gui.contrast import bin_frame
from rig.acquisition.states import COMMANDS, STATUS
from rig.bus import LATEST_ONLY, Bus, Subscriber
from rig.description import SessionDescription
from rig.messages import Event, Frame, Message

_LOG = logging.getLogger(__name__)
_QUEUE = 256
_MOST_WAITING = 4096
_COMMAND_BYTES = 1 << 13


class BusBridge(QObject):
    """Follows a session's streams and sends the window's commands. Use from the window's thread."""

    arrived = Signal()
    """Something may be in the mailbox; comes at the window's rate, also when nothing came."""
    failed = Signal(str)
    """The bus cannot be had or broke down; nothing arrives any more."""

    def __init__(self, session: SessionDescription) -> None:
        super().__init__()
        self._session = session
        self._period_s = 1.0 / session.config.window.rate_hz
        self._lock = threading.Lock()
        self._frames: dict[str, Frame] = {}
        self._others: deque[Message] = deque(maxlen=_MOST_WAITING)
        self._rung = False
        self._commands: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bus bridge")

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def take(self) -> list[Message]:
        """Empty the mailbox: everything but frames in the order it came, then the latest frames."""
        with self._lock:
            messages: list[Message] = [*self._others, *self._frames.values()]
            self._others.clear()
            self._frames.clear()
            self._rung = False
        return messages

    def send(self, command: Event) -> None:
        """Publish a command."""
        self._commands.put(command)

    def close(self) -> None:
        """Publish what waits, leave the bus and end the thread. Safe twice, and before `start`."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._follow()
        except Exception as error:  # the thread's outer edge
            _LOG.exception("the window lost the bus")
            self.failed.emit(str(error))

    def _follow(self) -> None:
        with Bus(self._session.identifier) as bus, ExitStack() as ports:
            subscribers = [bus.subscriber(stream, depth) for stream, depth in self._streams()]
            commands = bus.publisher(COMMANDS, _COMMAND_BYTES)
            for close in (*(subscriber.close for subscriber in subscribers), commands.close):
                ports.callback(close)
            stopped = False
            while not stopped:
                stopped = self._stop.wait(self._period_s)
                while not self._commands.empty():
                    commands.send(self._commands.get())
                for subscriber in subscribers:
                    self._drain(subscriber)
                self._ring()

    def _streams(self) -> list[tuple[str, int]]:
        """List streams and how many messages may wait; predictions after what they are compared with."""
        session = self._session
        samples = [(stream.name, _QUEUE) for stream in session.samples]
        frames = [(stream.name, LATEST_ONLY) for stream in session.frames]
        maps = [(p.importance_stream, LATEST_ONLY) for p in session.predictions if p.importance]
        predictions = [(stream.name, _QUEUE) for stream in session.predictions]
        refined = [(p.refined_stream, _QUEUE) for p in session.predictions if p.refined]
        return [(STATUS, 8), *samples, *frames, *predictions, *maps, *refined]

    def _drain(self, subscriber: Subscriber) -> None:
        for _ in range(_QUEUE):  # bounded: a publisher faster than us must not keep us here
            message = subscriber.receive()
            if message is None:
                return
            self._post(message)

    def _post(self, message: Message) -> None:
        if isinstance(message, Frame):
            pixels = bin_frame(message.pixels, self._session.config.window.largest_px)
            message = replace(message, pixels=pixels)
        with self._lock:
            if isinstance(message, Frame):
                self._frames[message.stream] = message
            else:
                self._others.append(message)

    def _ring(self) -> None:
        with self._lock:
            ring, self._rung = not self._rung, True
        if ring:
            self.arrived.emit()
