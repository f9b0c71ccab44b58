"""Carries decisions to one output device, in a thread of its own: the latest decision only, and none that is stale.

Without a fresh prediction for `max_age_ns`, and at once when the decoder says that it does not know, the output goes
to its safe state (off) and stays there until there are decisions again. Every exchange with the device is recorded.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from rig.closed_loop.policy import Policy, PolicySettings
from rig.config import PolicyConfig
from rig.drivers.protocols import OutputDevice
from rig.messages import Output, Prediction, PredictionStatus
from rig.sync.clock import SessionClock

_LOG = logging.getLogger(__name__)
NO_PREDICTION = -1
LOOP_STOPPED = "loop_stopped"
"""Kind of the event, of an output, whose JSON says up to which session time, `seen_ns`, its loop saw decisions."""


@dataclass(frozen=True, slots=True)
class Command:
    """What the device must do next, and why."""

    on: bool
    reason: str
    prediction_index: int
    decided_ns: int


@dataclass(frozen=True, slots=True)
class ActuatorStatus:
    """What the window shows of an output; `safe` while nothing fresh comes from the decoder."""

    on: bool
    commands: int
    safe: bool


class Actuator:
    """One policy, one device, one thread.

    Parameters
    ----------
    max_age_ns
        Oldest prediction that is acted on; None in a replay, whose predictions are of another day.
    record
        Takes every `Output`.
    on_failure
        Takes the error, once, when the device is lost or its driver fails; it was told to be off before.
    """

    def __init__(
        self,
        device: OutputDevice,
        policy: Policy,
        clock: SessionClock,
        max_age_ns: int | None,
        record: Callable[[Output], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._device, self._policy, self._clock = device, policy, clock
        self._max_age_ns = max_age_ns
        self._record, self._on_failure = record, on_failure
        self._lock = threading.Condition()
        self._pending: list[Command] = []
        self._fresh_ns: int | None = None
        self._safe = True
        self._on = False
        self._commands = 0
        self._seen_ns = -1
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="actuator")

    def start(self) -> None:
        """Begin to act."""
        self._thread.start()

    def take(self, prediction: Prediction) -> None:
        """Let the policy see a prediction (a scalar), and act on what it says."""
        now_ns = self._clock.now_ns()
        with self._lock:
            old = self._max_age_ns is not None and now_ns - prediction.frame_arrival_ns > self._max_age_ns
            if old or self._stopping:  # decoders still answer while the run stops, after the last command
                return
            self._seen_ns = prediction.frame_session_ns
            if prediction.status != PredictionStatus.OK:
                self._heed_unknown(prediction, now_ns)
                return
            self._fresh_ns, self._safe = prediction.frame_arrival_ns, False
            reason = self._policy.step(prediction.frame_session_ns, float(prediction.values))
            if reason is not None:
                self._order(Command(self._policy.on, reason, prediction.index, now_ns))

    def make_safe(self, reason: str) -> None:
        """Switch off now, whatever the policy thought."""
        with self._lock:
            self._go_safe(reason)

    def status(self) -> ActuatorStatus:
        """How things are."""
        with self._lock:
            return ActuatorStatus(self._on, self._commands, self._safe)

    def stop(self, reason: str) -> int:
        """Switch off, wait for the device's answer, and end the thread. Safe twice.

        Returns the session time, ns, of the last decision that the policy saw; -1 when it saw none.
        """
        with self._lock:
            if not self._stopping:
                self._go_safe(reason)
                self._stopping = True
                self._lock.notify()
        if self._thread.ident is not None:
            self._thread.join()
        return self._seen_ns

    def _order(self, command: Command) -> None:
        if self._max_age_ns is not None:
            self._pending.clear()  # only the latest counts; a replay acts on all, for comparison
        self._pending.append(command)
        self._lock.notify()

    def _heed_unknown(self, prediction: Prediction, now_ns: int) -> None:
        """No decision: safe once, by the frame's time, so that a replay's policy goes on from the same state."""
        if not self._safe:
            self._safe = True
            self._policy.reset(prediction.frame_session_ns)
            reason = PredictionStatus(prediction.status).words
            self._order(Command(False, reason, prediction.index, now_ns))

    def _go_safe(self, reason: str) -> None:
        if self._safe and not self._on and not self._pending:
            return
        self._safe = True
        now_ns = self._clock.now_ns()
        self._policy.reset(now_ns)
        self._order(Command(False, reason, NO_PREDICTION, now_ns))

    def _next(self) -> Command | None:
        """Wait for a command; None when there will be no more."""
        with self._lock:
            while not self._pending and not self._stopping:
                self._lock.wait(self._watch_s())
                self._check_age()
            self._check_age()  # what waited for the device may be stale by now
            return self._pending.pop(0) if self._pending else None

    def _watch_s(self) -> float:
        return 0.25 if self._max_age_ns is None else self._max_age_ns / 4e9

    def _check_age(self) -> None:
        if self._max_age_ns is None or self._safe or self._fresh_ns is None:
            return
        if self._clock.now_ns() - self._fresh_ns > self._max_age_ns:
            self._go_safe("no fresh prediction")

    def _run(self) -> None:
        try:
            while (command := self._next()) is not None:
                output = self._device.write(
                    command.on, command.reason, command.prediction_index, command.decided_ns
                )
                with self._lock:
                    self._on, self._commands = command.on, self._commands + 1
                self._record(output)
        except Exception as error:  # the thread's outer edge: a driver may be anybody's
            with self._lock:
                self._stopping = True
            self._switch_off_at_last()
            self._on_failure(error)

    def _switch_off_at_last(self) -> None:
        try:
            self._device.write(False, "output failed", NO_PREDICTION, self._clock.now_ns())
        except Exception as error:
            _LOG.error("while switching off: %s", error)


def policy_settings(policy: PolicyConfig) -> PolicySettings:
    """Return a policy's YAML in nanoseconds."""
    return PolicySettings(
        threshold_on=policy.threshold_on,
        threshold_off=policy.threshold_off,
        hold_ns=_ns(policy.hold_ms),
        refractory_ns=_ns(policy.refractory_ms),
        max_on_ns=_ns(policy.max_on_ms),
        max_duty=policy.max_duty,
        duty_window_ns=round(policy.duty_window_s * 1e9),
    )


def _ns(milliseconds: float) -> int:
    return round(milliseconds * 1e6)
