"""The time between an answer and the next frame, given to a decoder that can use it.

A frame that waits is always taken first: before each short piece of work the queue is looked at, and none is begun
that may not be over when the next frame is due, nor in the first milliseconds after a frame came: the answers to it
are on their way then, through processes that need the same cores.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from decoders.protocols import Explaining
from rig.bus import Publisher, Subscriber
from rig.messages import Frame, ImportanceMap, Message, Prediction
from rig.sync.clock import SessionClock

_AVERAGED_S = 30.0  # as `decoders.behavior.importance`
_FIRST_GUESS_NS = 1_000_000
_CALM_SHARE, _CALM_NS = 0.3, 10_000_000  # of the frame's period, and the most: nothing is worked out so soon
_MARGIN = 2  # pieces of work that must fit before the next frame
_CALMING = 0.9  # a frame: one piece of work that took long makes careful for a few frames, not for ever


Values = NDArray[np.float32]


def importance_map(stream: str, frame: Frame, values: Values) -> ImportanceMap:
    """What is sent of an importance map that was new after this frame."""
    return ImportanceMap(stream, frame.index, frame.session_ns, _AVERAGED_S, values)


def refined_answer(stream: str, frame: Frame, values: Values) -> Prediction:
    """What is sent of a refined answer that was new after this frame; all its times are the frame's."""
    at_ns = frame.arrival_ns
    return Prediction(
        stream, frame.index, 0, frame.index, 0, values, frame.session_ns, at_ns, at_ns, at_ns, at_ns
    )


class IdleTime:
    """Spends one decoder's idle time on its importance map or refined answers; nobody looks: no work.

    Parameters
    ----------
    answers
        Where they are published.
    message
        Makes what is published of a frame and what was new after it.
    period_ns
        From one frame of the camera to the next.
    """

    def __init__(
        self,
        decoder: Explaining,
        answers: Publisher,
        message: Callable[[Frame, Values], Message],
        clock: SessionClock,
        period_ns: int,
    ) -> None:
        self._decoder, self._answers, self._message = decoder, answers, message
        self._clock, self._period_ns = clock, period_ns
        self._calm_ns = min(round(_CALM_SHARE * period_ns), _CALM_NS)
        self._longest_ns = _FIRST_GUESS_NS
        self._frame: Frame | None = None
        self.calls = 0

    def begin(self, frame: Frame) -> None:
        """Take note of the frame that has just been answered."""
        self._frame = frame if self._answers.followed else None
        self._longest_ns = round(_CALMING * self._longest_ns)

    def spend(self, frames: Subscriber) -> Message | None:
        """Work while there is time and something to do; return the message that came meanwhile, if one did."""
        while self._frame is not None and self._fits(self._frame) and self._decoder.has_work:
            message = frames.receive(self._until_calm_s(self._frame))
            if message is not None:
                return message
            self._work(self._frame)
        return None

    def _fits(self, frame: Frame) -> bool:
        due_ns = frame.arrival_ns + self._period_ns
        return self._clock.now_ns() + _MARGIN * self._longest_ns < due_ns

    def _until_calm_s(self, frame: Frame) -> float:
        until_ns = frame.arrival_ns + self._calm_ns - self._clock.now_ns()
        return min(until_ns, self._calm_ns) / 1e9  # a replay's frames may be stamped long after now

    def _work(self, frame: Frame) -> None:
        begin_ns = self._clock.now_ns()
        values = self._decoder.work()
        self.calls += 1
        took_ns = self._clock.now_ns() - begin_ns
        self._longest_ns = max(took_ns, self._longest_ns)
        if values is not None:
            self._answers.send(self._message(frame, values))
