"""How fast a decoder says that the animal runs, and how often it says so of a resting one.

Delay: from each true onset (after a second of rest or more) to the first frame decided as running, as far as two
seconds or the bout's end. A decision that came up at most half a second before the onset is an anticipation: its delay
is 0. One that was on already before that is a false alarm, and its onset is missed. False alarms are decisions that
come up in rest more than half a second away from running on either side, per minute of such rest.

The delay counts frames: what the camera, the computer and the label's own smoothing take is not in it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.behavior.metrics import Answers, pooled

_S_PER_MIN = 60.0
_MS_PER_S = 1000.0
_THRESHOLDS = 101
MOST_PER_MIN = 1.0  # false alarms allowed where delays are reported


@dataclass(frozen=True, slots=True)
class OnsetRule:
    """What counts as an onset and as its detection, which is that of the closed loop's policy.

    `hold_frames` in a row have to be at the threshold; once on, a decision stays until the probability is more than
    `hysteresis` below it.
    """

    rest_before_s: float = 1.0
    longest_s: float = 2.0
    anticipation_s: float = 0.5
    hold_frames: int = 1
    hysteresis: float = 0.2


@dataclass(frozen=True, slots=True)
class OnsetScore:
    """Delays of all onsets, infinite where the onset was missed, and the false alarms in `rest_min` of rest."""

    delays_ms: NDArray[np.float64]
    already_on: int
    false_alarms: int
    rest_min: float

    @property
    def missed(self) -> int:
        """Onsets without a decision in time, those included before which the decision was on already."""
        return int(np.isinf(self.delays_ms).sum())

    @property
    def median_ms(self) -> float:
        """Median delay over all onsets; infinite when half of them are missed, NaN without any."""
        return float(np.median(self.delays_ms)) if len(self.delays_ms) else float("nan")

    @property
    def false_alarms_per_min(self) -> float:
        """False alarms per minute of rest; NaN without rest."""
        return self.false_alarms / self.rest_min if self.rest_min else float("nan")


def decide(
    probability: NDArray[np.floating],
    threshold: float | NDArray[np.float64],
    hold_frames: int = 1,
    hysteresis: float = 0.0,
) -> NDArray[np.bool_]:
    """Whether the animal is decided to run, (T,).

    On when the last `hold_frames` probabilities (this one included) are at or above the threshold; off when one is
    more than `hysteresis` below it, or unknown.
    """
    above: NDArray[np.bool_] = np.greater_equal(probability, threshold)
    if hold_frames > 1:
        padded = np.append(np.zeros(hold_frames - 1, np.bool_), above)
        above = np.asarray(np.lib.stride_tricks.sliding_window_view(padded, hold_frames).all(axis=1))
    if not hysteresis:
        return above
    told = above | ~np.greater_equal(probability, np.subtract(threshold, hysteresis))
    last = np.maximum.accumulate(np.where(told, np.arange(len(told)), -1))
    return np.asarray((last >= 0) & above[last])


def score_onsets(
    decision: NDArray[np.bool_],
    known: NDArray[np.bool_],
    running: NDArray[np.bool_],
    rate_hz: float,
    rule: OnsetRule | None = None,
) -> OnsetScore:
    """Score one session's decisions; onsets and rest without an answer (`known`) are left out. All (T,)."""
    rule = rule or OnsetRule()
    rest, longest, lead = (
        round(s * rate_hz) for s in (rule.rest_before_s, rule.longest_s, rule.anticipation_s)
    )
    onset, deadline = _onsets(running, known, rest, longest, lead)
    began, next_on = _began(decision), _next_on(decision)
    already = decision[onset] & (began[onset] < onset - lead)
    delay = np.where(next_on[onset] < deadline, next_on[onset] - onset, np.inf)
    delays_ms = np.where(already, np.inf, delay) / rate_hz * _MS_PER_S
    far = ~_near(running, lead) & known
    false = np.append(False, decision[1:] & ~decision[:-1] & known[:-1]) & far
    carried_over = int((~false[began[onset[already]]]).sum())
    rest_min = float(far.sum()) / rate_hz / _S_PER_MIN
    return OnsetScore(delays_ms, int(already.sum()), int(false.sum()) + carried_over, rest_min)


def together(scores: Iterable[OnsetScore]) -> OnsetScore:
    """Onsets and rest of several sessions as one."""
    every = list(scores)
    return OnsetScore(
        np.concatenate([np.zeros(0), *(score.delays_ms for score in every)]),
        sum(score.already_on for score in every),
        sum(score.false_alarms for score in every),
        sum(score.rest_min for score in every),
    )


def at_threshold(answers: Sequence[Answers], threshold: float | None, rule: OnsetRule) -> OnsetScore:
    """Score sessions at one threshold, or at every frame's own `alarm_threshold` when None."""
    return together(
        score_onsets(
            decide(
                a.probability,
                a.alarm_threshold if threshold is None else threshold,
                rule.hold_frames,
                rule.hysteresis,
            ),
            a.known,
            a.running,
            a.rate_hz,
            rule,
        )
        for a in answers
    )


def trade_off(answers: Sequence[Answers], rule: OnsetRule) -> list[tuple[float, OnsetScore]]:
    """Thresholds from the highest to the lowest (quantiles of the probabilities) and the score at each."""
    probability, _, _ = pooled(answers)
    if not len(probability):
        return []
    thresholds = np.unique(np.quantile(probability, np.linspace(0, 1, _THRESHOLDS)))[::-1]
    return [(float(threshold), at_threshold(answers, float(threshold), rule)) for threshold in thresholds]


def lowest_threshold(
    curve: Sequence[tuple[float, OnsetScore]], most_per_min: float = MOST_PER_MIN
) -> float | None:
    """Return the lowest threshold that, like all above it, allows this many false alarms; None when none does.

    `curve` is what `trade_off` gave. Far below it, decisions hardly ever go off, so rising edges are few again;
    that is why all higher thresholds have to hold too.
    """
    lowest = None
    for threshold, score in curve:
        if not score.false_alarms_per_min <= most_per_min:
            break
        lowest = threshold
    return lowest


def _onsets(
    running: NDArray[np.bool_], known: NDArray[np.bool_], rest: int, longest: int, lead: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames of onsets after `rest` frames of rest, and the frame by which each has to be decided."""
    edges = np.diff(np.concatenate([[0], running.astype(np.int8), [0]]))
    start, stop = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    rested = start - np.append(0, stop[:-1]) >= rest if len(start) else np.zeros(0, np.bool_)
    deadline = np.minimum(start + longest, stop)
    whole = (start + longest <= len(running)) | (stop < len(running))  # not cut off by the recording's end
    unknown_before = np.append(0, np.cumsum(~known))
    answered = unknown_before[deadline] == unknown_before[np.maximum(start - lead - 1, 0)]
    counted = rested & whole & answered
    return start[counted], deadline[counted]


def _began(decision: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Frame at which the decision that is on came up, (T,); meaningless where it is off."""
    frames = np.arange(len(decision))
    risen = decision & ~np.append(False, decision[:-1])
    return np.maximum.accumulate(np.where(risen, frames, 0))


def _next_on(decision: NDArray[np.bool_]) -> NDArray[np.int64]:
    """First frame from each on at which the decision is on, (T,); T when there is none."""
    frames = np.where(decision, np.arange(len(decision)), len(decision))
    return np.minimum.accumulate(frames[::-1])[::-1]


def _near(running: NDArray[np.bool_], frames: int) -> NDArray[np.bool_]:
    """Whether there is running at most so many frames away, (T,)."""
    before = np.append(0, np.cumsum(running))
    at = np.arange(len(running))
    return before[np.minimum(at + frames + 1, len(running))] > before[np.maximum(at - frames, 0)]
