"""How well run and rest are told apart, frame by frame: ranking, decisions, calibration.

A frame is right when the probability of running is at or above a threshold and the animal runs, or below it and the
animal rests. Figures that have no value (no running, no rest) are NaN here and null with a reason in reports.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HALF = 0.5
CALIBRATION_BINS = 15  # equal widths, as Guo et al. 2017, arXiv:1706.04599


@dataclass(frozen=True, slots=True)
class Answers:
    """What one model said of one recording session, and what was true.

    Attributes
    ----------
    mouse, session
        Which recording.
    rate_hz
        Frame rate.
    probability
        (T,), probability of running; NaN where the model has no answer.
    running
        (T,), truth.
    threshold
        (T,), probability from which each frame counts as running, chosen for accuracy on other animals (or blocks).
    alarm_threshold
        (T,), the same, chosen for at most one false alarm per minute; infinite where no threshold does it.
    block
        (T,), number of the held-out block that each frame lies in, when every block has a model of its own; else None.
    """

    mouse: str
    session: str
    rate_hz: float
    probability: NDArray[np.float32]
    running: NDArray[np.bool_]
    threshold: NDArray[np.float64]
    alarm_threshold: NDArray[np.float64]
    block: NDArray[np.int64] | None = None

    @property
    def known(self) -> NDArray[np.bool_]:
        """(T,), where there is an answer."""
        return np.isfinite(self.probability)


@dataclass(frozen=True, slots=True)
class FrameScore:
    """Figures over frames. NaN: they have no value here.

    `auc` is the area under the ROC curve; `accuracy` is at a probability of 0.5, `accuracy_calibrated` at the
    threshold chosen on other animals; `brier` is the mean squared error of the probability; `calibration_error` the
    expected calibration error over 15 equal bins; `youden_threshold` the test data's own optimum, as published.
    """

    auc: float
    accuracy: float
    accuracy_calibrated: float
    brier: float
    calibration_error: float
    youden_threshold: float
    accuracy_own_majority: float
    run_fraction: float
    frames: int


def area_under_curve(values: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """Chance that a positive has a higher value than a negative (ties count half); NaN without both."""
    from scipy.stats import rankdata

    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return float("nan")
    ranks = float(rankdata(values)[positive].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def roc_curve(
    values: NDArray[np.floating], positive: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates (n,), from the highest threshold to the lowest; needs both classes."""
    order = np.argsort(-values, kind="stable")
    last_of_ties = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
    true = np.cumsum(positive[order])[last_of_ties]
    false = last_of_ties + 1 - true
    return np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1])


def best_threshold(values: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """Threshold on `values` with the best accuracy: positive at or above it."""
    rest_below, running_above, edges = _ranked(values, positive)
    return float(edges[int(np.argmax(rest_below + running_above))])


def youden_threshold(values: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """Threshold with the largest sum of sensitivity and specificity (Youden's J); NaN without both classes."""
    rest_below, running_above, edges = _ranked(values, positive)
    if not rest_below[-1] or not running_above[0]:
        return float("nan")
    return float(edges[int(np.argmax(rest_below / rest_below[-1] + running_above / running_above[0]))])


def calibration(
    probability: NDArray[np.floating], running: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Frames, summed probability and number of running frames in each of equal bins of probability, (bins,)."""
    which = calibration_bin(probability, bins)
    counts = np.bincount(which, minlength=bins).astype(np.int64)
    summed, ran = (np.bincount(which, values, bins).astype(np.float64) for values in (probability, running))
    return counts, summed, ran


def calibration_bin(probability: NDArray[np.floating], bins: int = CALIBRATION_BINS) -> NDArray[np.int64]:
    """Bin of every probability; 1 belongs to the last one."""
    return np.minimum((probability * bins).astype(np.int64), bins - 1)


def calibration_error(
    probability: NDArray[np.floating], running: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> float:
    """Mean distance of probability and run fraction over bins, weighted by their frames."""
    _, summed, ran = calibration(probability, running, bins)
    return float(np.abs(summed - ran).sum() / len(running))


def score_frames(answers: Sequence[Answers]) -> FrameScore:
    """Score the frames of one or more sessions together; all figures NaN when there is no answer at all."""
    probability, running, threshold = pooled(answers)
    if not len(running):
        nan = float("nan")
        return FrameScore(nan, nan, nan, nan, nan, nan, nan, nan, 0)
    return FrameScore(
        auc=_area_within(answers) if several_models(answers) else area_under_curve(probability, running),
        accuracy=float(np.mean((probability >= HALF) == running)),
        accuracy_calibrated=float(np.mean((probability >= threshold) == running)),
        brier=float(np.mean(np.square(probability - running))),
        calibration_error=calibration_error(probability, running),
        youden_threshold=youden_threshold(probability, running),
        accuracy_own_majority=float(max(running.mean(), 1 - running.mean())),
        run_fraction=float(running.mean()),
        frames=len(running),
    )


def several_models(answers: Sequence[Answers]) -> bool:
    """Whether blocks of a session were answered by models of their own, whose probabilities do not compare."""
    return any(a.block is not None for a in answers)


def _area_within(answers: Sequence[Answers]) -> float:
    """Chance that a running frame ranks above a resting one of the same block; NaN when no block has both.

    Models of different blocks were trained on different shares of running: a constant answer, pooled over blocks, is
    far from 0.5.
    """
    right, pairs = 0.0, 0
    for a in answers:
        block = np.zeros(len(a.running), np.int64) if a.block is None else a.block
        for number in np.unique(block[a.known]):
            inside = a.known & (block == number)
            running = a.running[inside]
            compared = int(running.sum()) * int((~running).sum())
            if compared:
                right += compared * area_under_curve(a.probability[inside].astype(np.float64), running)
                pairs += compared
    return right / pairs if pairs else float("nan")


def pooled(
    answers: Sequence[Answers],
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Probability, truth and threshold of all frames with an answer, one session after the other."""
    probability = [np.zeros(0), *(a.probability[a.known].astype(np.float64) for a in answers)]
    running = [np.zeros(0, np.bool_), *(a.running[a.known] for a in answers)]
    threshold = [np.zeros(0), *(a.threshold[a.known] for a in answers)]
    return np.concatenate(probability), np.concatenate(running), np.concatenate(threshold)


def _ranked(
    values: NDArray[np.floating], positive: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """For every threshold worth trying: negatives below it, positives at or above it, and the threshold."""
    order = np.argsort(values, kind="stable")
    ordered, ranked = np.asarray(values, np.float64)[order], positive[order]
    below = np.append(0, np.cumsum(~ranked))
    above = np.append(np.cumsum(ranked[::-1])[::-1], 0)
    first_of_ties = np.append(np.append(True, np.diff(ordered) > 0), True)  # a tie cannot be cut in two
    return below[first_of_ties], above[first_of_ties], np.append(ordered, np.inf)[first_of_ties]
