"""Fluorescence to spikes: non-negative deconvolution of many traces at once."""

import numpy as np
from numpy.typing import NDArray


def deconvolve(traces: NDArray[np.floating], retention: float) -> NDArray[np.float64]:
    """Non-negative activity (S, N) whose decaying traces come closest to `traces` (S, N), in least squares.

    Active-set method of Friedrich, Zhou & Paninski 2017 (PLoS Comput Biol 13:e1005423) for one decay, all neurons in
    step. No penalty on activity: the plain form agrees best with electrophysiology (Pachitariu 2018, J Neurosci
    38:7976).

    Parameters
    ----------
    traces
        dF/F, baseline 0.
    retention
        Share of the signal left after one sample, between 0 and 1.
    """
    samples, count = traces.shape
    value, weight = np.zeros((samples, count)), np.ones((samples, count))
    length = np.ones((samples, count), np.int64)
    top = np.full(count, -1)  # the newest pool of each neuron
    every = np.arange(count)
    for trace in traces:
        top += 1
        value[top, every], weight[top, every], length[top, every] = trace, 1.0, 1
        unsettled = every[top > 0]
        while len(unsettled):
            unsettled = _merge(value, weight, length, top, unsettled, retention)
    return _spikes(value, length, top, retention)


def _merge(
    value: NDArray[np.float64],
    weight: NDArray[np.float64],
    length: NDArray[np.int64],
    top: NDArray[np.int64],
    neurons: NDArray[np.int64],
    retention: float,
) -> NDArray[np.int64]:
    """Merge the newest pool into the one before where it began below that one's decay; returns who may go on."""
    last, before = top[neurons], top[neurons] - 1
    kept = retention ** length[before, neurons]
    below = value[last, neurons] < kept * value[before, neurons]
    neurons, last, before, kept = neurons[below], last[below], before[below], kept[below]
    old, new = weight[before, neurons], weight[last, neurons]
    total = old + kept**2 * new
    value[before, neurons] = (old * value[before, neurons] + kept * new * value[last, neurons]) / total
    weight[before, neurons] = total
    length[before, neurons] += length[last, neurons]
    top[neurons] = before
    return neurons[before > 0]


def _spikes(
    value: NDArray[np.float64], length: NDArray[np.int64], top: NDArray[np.int64], retention: float
) -> NDArray[np.float64]:
    """Activity at the beginning of each pool: what it is above the decay of the one before."""
    samples, count = value.shape
    activity = np.zeros((samples, count))
    value = np.maximum(value, 0.0)
    start = np.cumsum(length, axis=0) - length
    pool, neuron = np.nonzero((np.arange(samples)[:, None] <= top) & (np.arange(samples)[:, None] > 0))
    decayed = retention ** length[pool - 1, neuron] * value[pool - 1, neuron]
    activity[start[pool, neuron], neuron] = value[pool, neuron] - decayed
    return activity
