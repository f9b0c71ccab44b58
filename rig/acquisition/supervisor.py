"""Keeps the decoders' processes alive: starts them, restarts the dead, gives up on the hopeless."""

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rig.acquisition.children import DecoderChild
from rig.bus import Bus, Subscriber
from rig.errors import CheckpointError, CortexrigError
from rig.messages import Event, PredictionStream

_LOG = logging.getLogger(__name__)
_READY_S = 60.0
_POLL_S = 0.05
_HOPELESS = 5  # so many starts in a row without one answer


@dataclass(slots=True)
class _Decoder:
    """One decoder: its process, where it says that it is ready, and how often it was started in vain."""

    ready: Subscriber
    child: DecoderChild | None = None
    generation: int = 0
    starts_in_vain: int = 0
    described: PredictionStream | None = None


class DecoderSupervisor:
    """Starts and restarts decoder processes, from the engine's own thread or a replay's.

    Parameters
    ----------
    description
        File with the session's description, for the processes.
    on_death
        Takes a decoder's name and what happened, before it is restarted.
    """

    def __init__(
        self, names: list[str], bus: Bus, description: Path, on_death: Callable[[str, str], None]
    ) -> None:
        self._bus, self._description, self._on_death = bus, description, on_death
        self._lock = threading.Lock()
        self._decoders = {name: _Decoder(bus.subscriber(f"{name}.ready", 4)) for name in names}

    def start_all(self) -> tuple[PredictionStream, ...]:
        """Start every decoder and return what they will say, once all are ready.

        Raises
        ------
        CheckpointError
            When a decoder says that it cannot work.
        CortexrigError
            When one dies or stays silent.
        """
        for name in self._decoders:
            self.start(name, 0)
        return tuple(self.wait_ready(name) for name in self._decoders)

    def start(self, name: str, generation: int) -> None:
        """Start one decoder's process for the given time."""
        decoder = self._decoders[name]
        decoder.generation, decoder.described = generation, None
        while decoder.ready.receive() is not None:
            pass  # what its predecessor said is not that this one is ready
        decoder.child = DecoderChild(name, self._description, generation)

    def wait_ready(self, name: str, timeout_s: float = _READY_S) -> PredictionStream:
        """Wait until a decoder has loaded its checkpoint; return what it will say."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            described = self._hear(name)
            if described is not None:
                return described
            child = self._decoders[name].child
            if child is not None and (code := child.exit_code()) is not None:
                self._hear(name)  # its last words, if any, say more
                raise CortexrigError(f"decoder {name!r} ended with exit code {code} while it was loading")
            time.sleep(_POLL_S)
        raise CortexrigError(f"decoder {name!r} was not ready within {timeout_s:.0f} s")

    def answered(self, name: str) -> None:
        """Take note that a decoder works."""
        self._decoders[name].starts_in_vain = 0

    def restart_dead(self) -> None:
        """Restart every decoder whose process has died, unless it is hopeless; one that ended by itself is done."""
        if not self._lock.acquire(blocking=False):
            return  # a replay is replacing a process just now, on purpose
        try:
            for name, decoder in self._decoders.items():
                code = decoder.child.exit_code() if decoder.child else None
                if code is not None:
                    decoder.child = None
                    if code != 0:
                        self._restart_dead(name, decoder, code)
        finally:
            self._lock.release()

    def restart(self, name: str, generation: int) -> None:
        """Replace a decoder's process by a fresh one, ready to decode: replay does where the live run had to."""
        with self._lock:
            self._end(name)
            self.start(name, generation)
            self.wait_ready(name)

    def close(self) -> None:
        """End every decoder's process. Safe twice."""
        with self._lock:
            for name, decoder in self._decoders.items():
                self._end(name)
                decoder.ready.close()

    def _restart_dead(self, name: str, decoder: _Decoder, code: int) -> None:
        decoder.starts_in_vain += 1
        hopeless = decoder.starts_in_vain >= _HOPELESS
        self._on_death(name, f"ended with exit code {code}{', given up' if hopeless else ', restarting'}")
        self._bus.clean_up_dead()
        if hopeless:
            return
        try:
            self.start(name, decoder.generation + 1)
        except OSError as error:  # no memory for a process, say: the recording goes on without it
            self._on_death(name, f"cannot be started: {error}, given up")

    def _end(self, name: str) -> None:
        decoder = self._decoders[name]
        if decoder.child is not None:
            decoder.child.terminate()
            decoder.child = None

    def _hear(self, name: str) -> PredictionStream | None:
        decoder = self._decoders[name]
        message = decoder.ready.receive()
        while message is not None and decoder.described is None:
            if isinstance(message, Event) and message.kind == "failed":
                raise CheckpointError(f"decoder {name!r}: {message.text}")
            if isinstance(message, Event) and message.kind == "ready":
                decoder.described = _described(message.text)
            message = decoder.ready.receive()
        return decoder.described


def _described(text: str) -> PredictionStream:
    content = json.loads(text)
    return PredictionStream(**{**content, "shape": tuple(content["shape"])})
