"""How sure a figure is: intervals from blocks of time, a null from shifted labels, tests between models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.behavior.metrics import CALIBRATION_BINS, HALF, Answers, calibration_bin, pooled, several_models
from decoders.behavior.onsets import OnsetScore
from decoders.behavior.resampling import (
    BLOCK_S,
    REPLICATES,
    Samples,
    block_weights,
    blocked_auc,
)

SHIFTS = 1000
SHORTEST_SHIFT_S = 30.0  # longer than most bouts, so that a shifted label knows nothing of the present


@dataclass(frozen=True, slots=True)
class Null:
    """AUC of the same answers against labels shifted in time: its mean, 95 % range, and p of the true AUC."""

    mean: float
    low: float
    high: float
    p: float
    shifts: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models over the same runs (models of folds): difference of AUC and p values, corrected by Holm."""

    other: str
    difference: float
    runs: int
    rank_sum_p: float
    signed_rank_p: float
    rank_sum_holm: float
    signed_rank_holm: float


def block_samples(
    answers: Sequence[Answers], seed: int = 0, replicates: int = REPLICATES
) -> dict[str, Samples]:
    """Every figure and its bootstrap replicates over blocks of 10 s; empty when there is only one block."""
    block = _blocks(answers)
    probability, running, threshold = pooled(answers)
    if not len(block) or block[-1] == 0:
        return {}
    weights = block_weights(int(block[-1]) + 1, seed, replicates)

    def mean(values: NDArray[np.generic]) -> NDArray[np.float64]:
        sums: NDArray[np.float64] = weights @ np.bincount(block, values, weights.shape[1])
        return sums / (weights @ np.bincount(block, minlength=weights.shape[1]))

    samples = {
        "accuracy": mean((probability >= HALF) == running),
        "accuracy_calibrated": mean((probability >= threshold) == running),
        "brier": mean(np.square(probability - running)),
        "calibration_error": _calibration_errors(probability, running, block, weights),
    }
    if several_models(answers):  # their probabilities do not compare
        return samples
    return {"auc": blocked_auc(probability, running, block, weights), **samples}


def delay_interval(score: OnsetScore, seed: int = 0, replicates: int = REPLICATES) -> tuple[float, float]:
    """95 % bootstrap interval over onsets of the median delay, ms; infinite ends are missed onsets."""
    if len(score.delays_ms) < 2:
        return float("nan"), float("nan")
    drawn = np.random.default_rng(seed).choice(score.delays_ms, (replicates, len(score.delays_ms)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)


def shifted_null(answers: Sequence[Answers], seed: int = 0, shifts: int = SHIFTS) -> Null | None:
    """AUC against each session's labels moved in a circle by 30 s or more; None when there is none.

    Sessions are shifted each by its own amount. A shift keeps the bouts' lengths and numbers, which plain shuffling
    would destroy: neighbouring frames alike would look better than chance. Sessions under 2 min have none, nor have
    blocks that were answered by models of their own.
    """
    from scipy.stats import rankdata

    probability, running, _ = pooled(answers)
    positives, negatives = int(running.sum()), int((~running).sum())
    lengths = [int(a.known.sum()) for a in answers]
    margins = [round(SHORTEST_SHIFT_S * a.rate_hz) for a in answers]
    long = all(length >= 4 * margin for length, margin in zip(lengths, margins, strict=True))
    if not positives or not negatives or not long or several_models(answers):
        return None
    ranks = rankdata(probability)
    cuts = np.cumsum(lengths)[:-1]
    rng = np.random.default_rng(seed)
    summed = np.zeros(shifts)
    for own, labels, margin in zip(np.split(ranks, cuts), np.split(running, cuts), margins, strict=True):
        summed += _at_every_shift(own, labels)[rng.integers(margin, len(own) - margin + 1, shifts)]
    null = (summed - positives * (positives + 1) / 2) / (positives * negatives)
    true = (ranks[running].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    low, high = np.quantile(null, [0.025, 0.975])
    p = (1 + int((null >= true).sum())) / (1 + shifts)
    return Null(float(null.mean()), float(low), float(high), p, shifts)


def compare(own: Sequence[float], others: Mapping[str, Sequence[float]]) -> list[Comparison]:
    """Wilcoxon rank-sum (as published) and signed-rank tests of one model's AUCs against each other model's.

    All sequences hold one figure per run, in the same order; runs without a figure (NaN) in either are left out.
    """
    from scipy.stats import ranksums, wilcoxon

    rows = []
    for name, values in others.items():
        pairs = np.array([(a, b) for a, b in zip(own, values, strict=True) if np.isfinite([a, b]).all()])
        if len(pairs) >= 2:
            a, b = pairs.T
            signed = float(wilcoxon(a, b).pvalue) if (a != b).any() else 1.0
            rows.append((name, float((a - b).mean()), len(pairs), float(ranksums(a, b).pvalue), signed))
    sums, signed_ranks = holm([row[3] for row in rows]), holm([row[4] for row in rows])
    return [Comparison(*row, a, b) for row, a, b in zip(rows, sums, signed_ranks, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for their number by the step-down rule of Holm 1979 (Scand J Stat 6:65)."""
    order = np.argsort(p_values, kind="stable")
    factors = len(order) - np.arange(len(order))
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values)[order] * factors))
    return [float(p) for p in corrected]


def _blocks(answers: Sequence[Answers]) -> NDArray[np.int64]:
    """Number of the 10 s block of every frame with an answer, counted on over sessions."""
    blocks, first = [np.zeros(0, np.int64)], 0
    for a in answers:
        own = (np.flatnonzero(a.known) / (BLOCK_S * a.rate_hz)).astype(np.int64)
        numbers, own = np.unique(own, return_inverse=True)
        blocks.append(own + first)
        first += len(numbers)
    return np.concatenate(blocks)


def _calibration_errors(
    probability: NDArray[np.float64],
    running: NDArray[np.bool_],
    block: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Expected calibration error of every resampling of the blocks."""
    count = weights.shape[1]
    cell = block * CALIBRATION_BINS + calibration_bin(probability)
    off = np.bincount(cell, probability - running, count * CALIBRATION_BINS).reshape(count, CALIBRATION_BINS)
    errors: NDArray[np.float64] = np.abs(weights @ off).sum(axis=1)
    return errors / (weights @ np.bincount(block, minlength=count))


def _at_every_shift(ranks: NDArray[np.float64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Sum of the ranks at the labels moved in a circle by 0, 1, ... frames, (T + 1,); the last is the first again."""
    spectrum = np.fft.rfft(ranks) * np.conj(np.fft.rfft(labels.astype(np.float64)))
    sums = np.fft.irfft(spectrum, len(ranks))
    return np.append(sums, sums[0])
