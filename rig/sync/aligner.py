"""Gives every message of one stream its session time, through that stream's own `ClockMap`."""

import json
from dataclasses import asdict, replace
from typing import cast

import numpy as np

from rig.messages import NO_TICKS, EndOfStream, Event, Frame, Gap, Message, Samples
from rig.sync.clock_map import ClockFit, ClockMap

_TELL_EVERY_NS = 10_000_000_000  # clock fits are recorded this often, and at the end
_COMPLAIN_EVERY_NS = 1_000_000_000


class Aligner:
    """Stamps one stream's messages, in order, from one thread.

    Parameters
    ----------
    stream
        Name of the stream.
    tick_hz
        Nominal rate of the device's clock; 0 for a device without one: its session time is the arrival.
    """

    def __init__(self, stream: str, tick_hz: float) -> None:
        self._stream = stream
        self._map = ClockMap(tick_hz) if tick_hz > 0 else None
        self._tell_ns = 0
        self._complain_ns = 0
        self._wrong_ticks = 0

    @property
    def fit(self) -> ClockFit | None:
        """The stream's latest clock fit, None for a device without a clock."""
        return self._map.fit if self._map else None

    def stamp(self, message: Message) -> list[Message]:
        """Return the message with its session time, followed by what there is to tell of the clock."""
        if isinstance(message, Frame):
            return [self._stamp_frame(message), *self._news(message.arrival_ns)]
        if isinstance(message, Samples):
            return [self._stamp_samples(message), *self._news(message.arrival_ns)]
        if isinstance(message, EndOfStream):
            return [*self._last_fit(message.arrival_ns), message]
        if isinstance(message, Gap | Event):
            return [replace(message, session_ns=message.arrival_ns)]
        return [message]

    def _stamp_frame(self, frame: Frame) -> Frame:
        if self._map is None or frame.device_ticks == NO_TICKS:
            return replace(frame, session_ns=frame.arrival_ns)
        self._learn(frame.device_ticks, frame.arrival_ns)
        ticks = np.array([frame.device_ticks])
        session_ns = int(self._map.session_ns(ticks, frame.arrival_ns)[0])
        return replace(frame, session_ns=session_ns, uncertainty_ns=self._map.uncertainty_ns)

    def _stamp_samples(self, samples: Samples) -> Samples:
        if self._map is None:
            session_ns = np.full(len(samples.device_ticks), samples.arrival_ns, np.int64)
            return replace(samples, session_ns=session_ns)
        # Of samples that one read brought, only the last was not kept waiting by the others.
        self._learn(int(samples.device_ticks[-1]), samples.arrival_ns)
        session_ns = self._map.session_ns(samples.device_ticks, samples.arrival_ns)
        return replace(samples, session_ns=session_ns, uncertainty_ns=self._map.uncertainty_ns)

    def _learn(self, ticks: int, arrival_ns: int) -> None:
        clock_map = cast("ClockMap", self._map)
        if not clock_map.update(ticks, arrival_ns):
            self._wrong_ticks += 1

    def _news(self, arrival_ns: int) -> list[Message]:
        events: list[Message] = []
        if self._wrong_ticks and arrival_ns >= self._complain_ns:
            text = f"{self._wrong_ticks} device stamps do not fit the clock; recorded as they came"
            events.append(Event(self._stream, "clock_suspicious", text, arrival_ns, arrival_ns))
            self._wrong_ticks, self._complain_ns = 0, arrival_ns + _COMPLAIN_EVERY_NS
        if arrival_ns >= self._tell_ns and self.fit is not None and self.fit.blocks:
            events += self._last_fit(arrival_ns)
            self._tell_ns = arrival_ns + _TELL_EVERY_NS
        return events

    def _last_fit(self, arrival_ns: int) -> list[Message]:
        if self.fit is None or self._map is None:
            return []
        text = json.dumps({**asdict(self.fit), "restarts": self._map.restarts})
        return [Event(self._stream, "clock_fit", text, arrival_ns, arrival_ns)]
