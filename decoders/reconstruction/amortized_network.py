"""The live preview's network: the responses of the last second to the movie frame shown a moment ago.

Neurons are read by a few hundred weighted sums, each over bins of 0.1 s; a linear map and one hidden layer lead from
these to principal components of movie frames. It begins as a regression (`start`), which already shows most of what it
will, and is then trained as a whole.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, svd
from torch import Tensor, nn
from torch.nn import functional as F

from decoders.reconstruction.linear import principal_components

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PreviewConfig:
    """Sizes of the network; a bin is `bin_frames` frames, `sums` the number of weighted sums of neurons."""

    neurons: int
    lag_frames: int
    height_px: int = 36
    width_px: int = 64
    bins: int = 8
    bin_frames: int = 3
    sums: int = 256
    components: int = 128
    hidden: int = 384

    @property
    def window_frames(self) -> int:
        """Frames of responses that one movie frame is read from."""
        return self.bins * self.bin_frames


class PreviewNetwork(nn.Module):
    """Responses (C, N, T) to scores on the components (C, K, T - window + 1)."""

    centre: Tensor
    spread: Tensor
    components: Tensor
    mean_frame: Tensor

    def __init__(self, config: PreviewConfig) -> None:
        super().__init__()
        self.config = config
        taps, apart = config.bins, config.bin_frames
        self.read = nn.Linear(config.neurons, config.sums, bias=False)
        self.linear = nn.Conv1d(config.sums, config.components, taps, dilation=apart)
        self.hidden = nn.Conv1d(config.sums, config.hidden, taps, dilation=apart)
        self.shape = nn.Conv1d(config.hidden, config.components, 1, bias=False)
        nn.init.zeros_(self.shape.weight)
        self.drop = nn.Dropout(0.1)
        self.drop_hidden = nn.Dropout(0.3)
        pixels = config.height_px * config.width_px
        self.register_buffer("centre", torch.zeros(config.neurons))
        self.register_buffer("spread", torch.ones(config.neurons))
        self.register_buffer("components", torch.zeros(config.components, pixels))
        self.register_buffer("mean_frame", torch.zeros(pixels))

    def forward(self, responses: Tensor) -> Tensor:
        """Scores for every window that lies within the responses."""
        roots = (responses.clamp(min=0.0).transpose(1, 2).sqrt() - self.centre) / self.spread
        sums = self.read(self.drop(roots)).transpose(1, 2)
        binned = F.avg_pool1d(sums, self.config.bin_frames, 1)
        scores: Tensor = self.linear(binned) + self.shape(self.drop_hidden(F.gelu(self.hidden(binned))))
        return scores

    def frames(self, scores: Tensor) -> Tensor:
        """Scores (..., K) to pixels (..., height x width), grey levels."""
        return (scores @ self.components + self.mean_frame).clamp(0.0, 255.0)


class PreviewStep(nn.Module):
    """One window of responses (window, N), oldest first, to one movie frame (height, width)."""

    def __init__(self, network: PreviewNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, window: Tensor) -> Tensor:
        """Read the newest frame that the window tells of."""
        scores = self.network(window.T[None])[0, :, 0]
        size = (self.network.config.height_px, self.network.config.width_px)
        return self.network.frames(scores).reshape(size)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Clips of one length: responses (C, N, T), and movies (C, T, height, width) of uint8."""

    responses: Floats
    movies: NDArray[np.uint8]


@torch.no_grad()
def start(network: PreviewNetwork, pairs: Pairs, basis: tuple[Floats, Floats], strength: float) -> None:
    """Make the network a ridge regression of low rank.

    `basis` is the mean frame and the components, from `movie_basis`. The sums are those directions of the responses
    that vary most with the components, in any of the bins (the singular vectors of their covariance); from these the
    scores are regressed.
    """
    config = network.config
    centre, spread = _usual_roots(pairs.responses)
    mean, components = basis
    scores = _shown(pairs.movies, mean, components, config)
    standard = partial(_standard, centre=centre[:, None], spread=spread[:, None])
    read = _directions(map(standard, pairs.responses), scores, config)
    sums = np.stack([read @ standard(responses) for responses in pairs.responses])
    features = _binned(sums, config)
    weights = _ridge(
        features.reshape(-1, features.shape[-1]), scores.reshape(-1, config.components), strength
    )
    _copy(network, centre=centre, spread=spread, components=components, mean_frame=mean)
    network.read.weight.copy_(torch.from_numpy(read))
    taps = weights.reshape(config.bins, config.sums, config.components)
    network.linear.weight.copy_(torch.from_numpy(np.ascontiguousarray(taps.transpose(2, 1, 0))))
    nn.init.zeros_(network.linear.bias)  # type: ignore[arg-type]


def _copy(network: PreviewNetwork, **arrays: Any) -> None:
    for name, array in arrays.items():
        getattr(network, name).copy_(torch.from_numpy(np.asarray(array, np.float32)))


def movie_basis(movies: NDArray[np.uint8], count: int) -> tuple[Floats, Floats]:
    """Mean frame (P,) and leading components (count, P) of movies (C, T, height, width)."""
    frames = movies[:, ::3].reshape(-1, movies.shape[2] * movies.shape[3]).astype(np.float32)
    return principal_components(frames, count)


def _shown(movies: NDArray[np.uint8], mean: Floats, components: Floats, config: PreviewConfig) -> Floats:
    """Scores (C, windows, K) of the frames that each window of a clip tells of."""
    first = config.window_frames - 1 - config.lag_frames
    seen = movies[:, first : movies.shape[1] - config.lag_frames]
    centred = seen.reshape(*seen.shape[:2], -1).astype(np.float32) - mean
    return np.asarray(centred @ components.T, np.float32)


def _binned(signals: Floats, config: PreviewConfig) -> Floats:
    """Means over the bins of every window: (C, F, T) to (C, windows, bins x F), oldest bin first."""
    sums = np.cumsum(np.pad(signals, ((0, 0), (0, 0), (1, 0))), axis=2, dtype=np.float64)
    means = ((sums[..., config.bin_frames :] - sums[..., : -config.bin_frames]) / config.bin_frames).astype(
        np.float32
    )
    count = signals.shape[2] - config.window_frames + 1
    bins = [means[..., k * config.bin_frames :][..., :count] for k in range(config.bins)]
    return np.ascontiguousarray(np.concatenate(bins, axis=1).transpose(0, 2, 1), np.float32)


def _usual_roots(responses: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each neuron's roots of responses, (N,) each; clip by clip, as all are GB."""
    count = responses.shape[0] * responses.shape[2]
    total, squares = np.zeros((2, responses.shape[1]))
    for clip in responses:
        positive = np.maximum(clip, 0.0)
        total += np.sqrt(positive).sum(axis=1, dtype=np.float64)
        squares += positive.sum(axis=1, dtype=np.float64)
    centre = total / count
    spread = np.sqrt(np.maximum(squares / count - centre**2, 0.0))
    return centre.astype(np.float32), np.maximum(spread, 1e-6).astype(np.float32)


def _standard(responses: Floats, centre: Floats, spread: Floats) -> Floats:
    roots = np.sqrt(np.maximum(responses, 0.0))
    standard: Floats = (roots - centre) / spread
    return standard


def _directions(standard: Iterable[Floats], scores: Floats, config: PreviewConfig) -> Floats:
    """Of the neurons' standard responses, clip by clip (N, T), those that vary most with the scores (C, windows, K)."""
    count = scores.shape[1]
    covariance = np.zeros((config.neurons, config.bins * scores.shape[2]), np.float32)
    for seen, shown in zip(standard, scores, strict=True):
        middles = (k * config.bin_frames + config.bin_frames // 2 for k in range(config.bins))
        covariance += np.concatenate([seen[:, at : at + count] @ shown for at in middles], axis=1)
    vectors = svd(covariance, full_matrices=False)[0]
    return np.ascontiguousarray(vectors[:, : config.sums].T, np.float32)


def _ridge(features: Floats, scores: Floats, strength: float) -> Floats:
    square = features.T @ features
    square[np.diag_indices_from(square)] += strength * np.trace(square) / len(square)
    return np.asarray(cho_solve(cho_factor(square), features.T @ scores), np.float32)
