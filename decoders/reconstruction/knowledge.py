"""What a Gaussian inversion needs beside the encoder: how far to trust each neuron, and what movies are like.

Per mouse, measured on clips that the training did not see: ``reliability_MOUSE`` (N,), the correlation of the
prediction with single trials; ``noise_MOUSE`` (N,), the variance of the response around the prediction;
``fano_MOUSE`` (N,), that variance over the mean response. Of the training movies: ``movie_mean`` (36, 64), grey levels;
``movie_power`` (36, 64), the variance of each coefficient of the frames' orthonormal two-dimensional cosine transform
(DCT-II) around the mean; ``movie_lag1`` (36, 64), its correlation from one frame to the next: with these a movie is a
stationary Gaussian process of first order per coefficient; ``movie_autocorrelation`` (60,) over all pixels, by frames.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

from decoders.reconstruction.encoder import Encoder
from decoders.reconstruction.encoder_clips import MouseClips, correlation
from decoders.reconstruction.encoder_training import held_out_predictions

_LAGS = 60
Arrays = dict[str, NDArray[np.float32]]


def neurons(encoder: Encoder, mouse: int, clips: MouseClips) -> Arrays:
    """Reliability and noise of one mouse's neurons, from its held-out clips."""
    predicted, recorded = held_out_predictions(encoder, mouse, clips)
    noise = np.mean((recorded - predicted) ** 2, axis=1)
    fano = noise / np.maximum(recorded.mean(axis=1), 1e-6 * max(float(recorded.mean()), 1e-9))
    name = clips.mouse.name
    return {
        f"reliability_{name}": correlation(predicted, recorded),
        f"noise_{name}": noise.astype(np.float32),
        f"fano_{name}": fano.astype(np.float32),
    }


def movies(videos: Iterable[NDArray[np.float32]]) -> Arrays:
    """Statistics of movies, (T, H, W) each; they are gone through once."""
    moments: NDArray[np.float64] | float = 0.0  # mean, square, product with the next frame
    products = np.zeros(_LAGS)  # of all coefficients, which is of all pixels
    frames, pairs = 0, np.zeros(_LAGS)
    for video in videos:
        seen = dctn(video.astype(np.float64), axes=(1, 2), norm="ortho")
        sums = (seen.sum(axis=0), (seen**2).sum(axis=0), (seen[1:] * seen[:-1]).sum(axis=0))
        moments = moments + np.stack(sums)
        for lag in range(min(_LAGS, len(seen))):
            products[lag] += np.sum(seen[lag:] * seen[: len(seen) - lag])
            pairs[lag] += len(seen) - lag
        frames += len(video)
    total, square, lagged = np.asarray(moments)
    mean = total / frames
    power = np.maximum(square / frames - mean**2, 1e-9)
    covariance = products / np.maximum(pairs, 1) - np.sum(mean**2)
    found = {
        "movie_mean": idctn(mean, norm="ortho"),
        "movie_power": power,
        "movie_lag1": np.clip((lagged / max(pairs[1], 1) - mean**2) / power, -1.0, 1.0),
        "movie_autocorrelation": np.where(pairs > 0, covariance / max(covariance[0], 1e-9), 0.0),
    }
    return {name: value.astype(np.float32) for name, value in found.items()}
