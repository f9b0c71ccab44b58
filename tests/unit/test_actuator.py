"""Commands reach the device, stale ones do not, and silence is safe."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from rig.closed_loop.actuator import Actuator
from rig.closed_loop.policy import Policy, PolicySettings
from rig.errors import DeviceLost
from rig.messages import NO_FRAME, Output, Prediction, PredictionStatus
from rig.replay.sources import RecordingOutput
from rig.sync.clock import SessionClock

SETTINGS = PolicySettings(0.5, 0.5, 0, 0, 10**12, 1.0, 10**12)


class Rig:
    """An actuator with a recording output, and what it did."""

    def __init__(self, max_age_ns: int | None) -> None:
        self.clock = SessionClock.start()
        self.outputs: list[Output] = []
        self.errors: list[Exception] = []
        self.changed = threading.Semaphore(0)
        device = RecordingOutput("laser", self.clock)
        self.actuator = Actuator(
            device, Policy(SETTINGS), self.clock, max_age_ns, self.record, self.errors.append
        )
        self.actuator.start()

    def record(self, output: Output) -> None:
        self.outputs.append(output)
        self.changed.release()

    def predict(self, index: int, value: float, age_ns: int = 0) -> None:
        now_ns = self.clock.now_ns()
        values = np.array(value, np.float32)
        arrival_ns = now_ns - age_ns
        self.actuator.take(
            Prediction("b", index, 0, index, 0, values, now_ns, arrival_ns, now_ns, now_ns, now_ns)
        )

    def say_unknown(self, index: int, status: PredictionStatus, session_ns: int) -> None:
        now_ns = self.clock.now_ns()
        nan = np.array(np.nan, np.float32)
        times = (session_ns, now_ns, now_ns, now_ns, now_ns)
        self.actuator.take(Prediction("b", index, 0, index, 0, nan, *times, status))

    def wait(self) -> Output:
        assert self.changed.acquire(timeout=5)
        return self.outputs[-1]


def test_on_then_off_with_the_prediction_that_caused_it() -> None:
    rig = Rig(10**9)
    rig.predict(3, 0.9)
    assert (rig.wait().on, rig.outputs[-1].prediction_index) == (True, 3)
    rig.predict(4, 0.1)
    assert (rig.wait().on, rig.outputs[-1].prediction_index) == (False, 4)
    rig.actuator.stop("run stops")
    assert [o.index for o in rig.outputs] == list(range(len(rig.outputs)))


def test_a_stale_prediction_is_not_acted_on() -> None:
    rig = Rig(10**8)
    rig.predict(0, 0.9, age_ns=2 * 10**8)
    time.sleep(0.05)
    rig.actuator.stop("run stops")
    assert rig.outputs == []


def test_without_fresh_predictions_the_output_goes_off() -> None:
    rig = Rig(10**8)
    rig.predict(0, 0.9)
    assert rig.wait().on
    safe = rig.wait()
    assert (safe.on, safe.reason, safe.prediction_index) == (False, "no fresh prediction", -1)
    assert rig.actuator.status().safe
    rig.predict(1, 0.9)  # the decoder is back
    assert rig.wait().on
    rig.actuator.stop("run stops")
    assert not rig.outputs[-1].on


def test_make_safe_and_stop_twice() -> None:
    rig = Rig(10**9)
    rig.predict(0, 0.9)
    rig.wait()
    rig.actuator.make_safe("decoder lost")
    assert rig.wait().reason == "decoder lost"
    rig.actuator.stop("run stops")
    rig.actuator.stop("run stops")


def test_a_lost_device_is_told_once() -> None:
    rig = Rig(10**9)

    class Gone(RecordingOutput):
        def write(self, on: bool, reason: str, prediction_index: int, decided_ns: int) -> Output:
            raise DeviceLost("laser: unplugged")

    rig.actuator.stop("unused")
    told: list[Exception] = []
    actuator = Actuator(
        Gone("laser", rig.clock), Policy(SETTINGS), rig.clock, 10**9, rig.outputs.append, told.append
    )
    actuator.start()
    now = rig.clock.now_ns()
    actuator.take(Prediction("b", 0, 0, 0, 0, np.array(1, np.float32), now, now, now, now, now))
    actuator.stop("run stops")
    assert [str(error) for error in told] == ["laser: unplugged"]


def test_whatever_a_driver_raises_the_output_is_told_to_be_off() -> None:
    rig = Rig(10**9)
    rig.actuator.stop("unused")
    asked: list[bool] = []

    class Faulty(RecordingOutput):
        def write(self, on: bool, reason: str, prediction_index: int, decided_ns: int) -> Output:
            asked.append(on)
            raise RuntimeError("a driver's own fault")

    told: list[Exception] = []
    failed = threading.Event()

    def tell(error: Exception) -> None:
        told.append(error)
        failed.set()

    device = Faulty("laser", rig.clock)
    actuator = Actuator(device, Policy(SETTINGS), rig.clock, 10**9, rig.outputs.append, tell)
    actuator.start()
    now = rig.clock.now_ns()
    actuator.take(Prediction("b", 0, 0, 0, 0, np.array(1, np.float32), now, now, now, now, now))
    assert failed.wait(5)
    actuator.stop("run stops")
    assert asked == [True, False]
    assert [str(error) for error in told] == ["a driver's own fault"]


def test_an_on_that_waited_for_a_busy_device_until_it_was_stale_is_not_sent() -> None:
    rig = Rig(10**8)
    busy = threading.Event()
    device = rig.actuator._device
    write = device.write

    def slow(on: bool, *exchange: object) -> Output:
        busy.wait(5)
        return write(on, *exchange)  # type: ignore[arg-type]

    device.write = slow  # type: ignore[method-assign]
    rig.predict(0, 0.9)
    time.sleep(0.02)
    rig.predict(1, 0.1)
    rig.predict(2, 0.9)
    time.sleep(0.2)
    busy.set()
    rig.actuator.stop("run stops")
    assert [output.on for output in rig.outputs][:2] == [True, False]
    assert not any(output.on for output in rig.outputs[1:])


@pytest.mark.parametrize("max_age_ns", [10**10, None])  # None: as in a replay
def test_unknown_is_no_decision_safe_at_once_and_once(max_age_ns: int | None) -> None:
    rig = Rig(max_age_ns)
    rig.say_unknown(0, PredictionStatus.WARMING_UP, 0)  # off already: nothing to do
    rig.predict(1, 0.9)
    assert rig.wait().on
    rig.say_unknown(NO_FRAME, PredictionStatus.CAMERA_STALLED, rig.clock.now_ns())
    off = rig.wait()
    assert (off.on, off.reason, off.prediction_index) == (False, "unknown: camera stalled", NO_FRAME)
    assert rig.actuator.status().safe
    for index in range(2, 5):
        rig.say_unknown(index, PredictionStatus.FRAMES_MISSING, rig.clock.now_ns())
    rig.predict(5, 0.1)  # a decision again, and it is rest
    rig.actuator.stop("run stops")
    assert [(o.on, o.prediction_index) for o in rig.outputs][:2] == [(True, 1), (False, -1)]
    assert not any(o.on for o in rig.outputs[1:])


def test_after_unknown_the_value_must_hold_anew() -> None:
    """Time at which nothing is known does not count towards `hold_ms`."""
    rig = Rig(10**10)
    rig.actuator.stop("unused")
    policy = Policy(replace(SETTINGS, hold_ns=10**9))
    device = RecordingOutput("laser", rig.clock)
    actuator = Actuator(device, policy, rig.clock, 10**10, rig.record, rig.errors.append)
    rig.actuator = actuator
    rig.predict(0, 0.9)
    rig.say_unknown(1, PredictionStatus.FRAMES_MISSING, rig.clock.now_ns())
    later_ns = rig.clock.now_ns() + 2 * 10**9
    values = np.array(0.9, np.float32)
    now_ns = rig.clock.now_ns()
    actuator.take(Prediction("b", 2, 0, 2, 0, values, later_ns, now_ns, now_ns, now_ns, now_ns))
    assert not policy.on


def test_a_decision_that_comes_while_the_run_stops_switches_nothing_on() -> None:
    rig = Rig(10**10)
    rig.predict(0, 0.9)
    rig.wait()
    with rig.actuator._lock:  # the thread cannot act on what is ordered until this is left
        rig.actuator._stopping = True
        rig.actuator._go_safe("run stops")
    rig.predict(1, 0.9)
    rig.actuator.stop("run stops")
    assert [o.on for o in rig.outputs] == [True, False]
