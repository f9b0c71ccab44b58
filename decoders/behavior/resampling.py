"""Intervals of an AUC or a mean, and of its change, from whole blocks of time: neighbouring frames are not independent.

Owns the arithmetic only. The pairs that an AUC counts are summed by block once; each resampling of the blocks is then
a small product, so that thousands cost little more than one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REPLICATES = 1000
BLOCK_S = 10.0  # longer than a fidget or a blood response, shorter than most runs of a session are many
_LEVEL = 0.95

Samples = NDArray[np.float64]
"""(1 + replicates,): the estimate, then its bootstrap replicates."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % interval; `low` and `high` are NaN where there is nothing to tell them by."""

    mean: float
    low: float
    high: float


def block_weights(blocks: int, seed: int, replicates: int = REPLICATES) -> NDArray[np.float64]:
    """How often each block counts, (1 + replicates, blocks): once each, then as drawn with replacement."""
    drawn = np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1 / blocks), replicates)
    return np.concatenate([np.ones((1, blocks)), drawn])


def blocked_auc(
    values: NDArray[np.floating],
    running: NDArray[np.bool_],
    block: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> Samples:
    """AUC of `values` (T,), and of every resampling of their blocks; NaN without both classes.

    Parameters
    ----------
    values, running
        (T,), no NaN.
    block
        (T,), number of the block of each frame.
    weights
        From `block_weights`.
    """
    count = weights.shape[1]
    wins = np.zeros((count, count))  # [block of a run frame, block of a rest frame]
    runs, run_block = values[running], block[running]
    for k in range(count):
        rests = np.sort(values[~running & (block == k)])
        below = np.searchsorted(rests, runs, "left") + np.searchsorted(rests, runs, "right")
        wins[:, k] = np.bincount(run_block, below / 2, count)
    pairs = (weights @ np.bincount(run_block, minlength=count)) * (
        weights @ np.bincount(block[~running], minlength=count)
    )
    won = ((weights @ wins) * weights).sum(axis=1)
    samples: Samples = np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)
    return samples


def blocked_mean(
    values: NDArray[np.floating], block: NDArray[np.int64], weights: NDArray[np.float64]
) -> Samples:
    """Mean of `values` (T,), no NaN, and of every resampling of their blocks, as in `blocked_auc`."""
    count = weights.shape[1]
    frames = weights @ np.bincount(block, minlength=count)
    sums = weights @ np.bincount(block, values, count)
    samples: Samples = np.divide(sums, frames, out=np.full(len(weights), np.nan), where=frames > 0)
    return samples


def mean_samples(runs: Sequence[Samples], seed: int = 0) -> Samples:
    """Mean over a mouse's runs (models and sessions); replicates draw the runs anew, with replacement."""
    stacked = np.stack(runs)
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(runs), size=stacked.shape)
    chosen[:, 0] = np.arange(len(runs))
    samples: Samples = np.take_along_axis(stacked, chosen, axis=0).mean(axis=0)
    return samples


def interval(samples: Samples) -> Interval:
    """Estimate and bootstrap percentiles of one mouse."""
    replicates = samples[1:][~np.isnan(samples[1:])]
    if not len(replicates):
        return Interval(float(samples[0]), float("nan"), float("nan"))
    low, high = np.quantile(replicates, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Interval(float(samples[0]), float(low), float(high))


def interval_over_mice(mice: Sequence[Samples]) -> Interval:
    """Mean over mice and its t interval, as mice are what is sampled; of a single mouse, its bootstrap interval."""
    from scipy.stats import t

    if len(mice) == 1:
        return interval(mice[0])
    estimates = np.array([samples[0] for samples in mice])
    half = t.ppf((1 + _LEVEL) / 2, len(mice) - 1) * estimates.std(ddof=1) / np.sqrt(len(mice))
    mean = float(estimates.mean())
    return Interval(mean, mean - float(half), mean + float(half))
