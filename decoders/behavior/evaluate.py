"""How well run and rest are told apart, beside what needs no network: the majority, and mean brightness."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Score:
    """One recording's figures. Accuracies are at a probability of 0.5; AUC is that of the ROC curve.

    `majority_accuracy` is that of always saying what this recording has most of; the brightness rule is one
    threshold on the normalised frame's mean, chosen on the training recordings.
    """

    auc: float
    accuracy: float
    majority_accuracy: float
    brightness_auc: float
    brightness_accuracy: float
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


def score(
    probability: NDArray[np.float32],
    brightness: NDArray[np.float32],
    threshold: float,
    running: NDArray[np.bool_],
) -> Score:
    """Score one recording; all arrays are (T,)."""
    return Score(
        auc=area_under_curve(probability, running),
        accuracy=float(np.mean((probability >= 0.5) == running)),
        majority_accuracy=float(max(running.mean(), 1 - running.mean())),
        brightness_auc=area_under_curve(brightness, running),
        brightness_accuracy=float(np.mean((brightness >= threshold) == running)),
        run_fraction=float(running.mean()),
        frames=len(running),
    )


def best_threshold(values: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    """Threshold on `values` with the best accuracy: positive at or above it."""
    order = np.argsort(values)
    ranked = positive[order]
    # with the threshold at the k-th value, right are the negatives below it and the positives from it on
    right = np.concatenate([[0], np.cumsum(~ranked)]) + np.concatenate([np.cumsum(ranked[::-1])[::-1], [0]])
    edges = np.append(values[order], np.inf)
    return float(edges[int(np.argmax(right))])
