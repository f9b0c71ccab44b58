"""The baseline that every later reconstruction must beat: ridge regression from responses to the movie.

A causal window of dF/F of N neurons predicts the leading principal components of the movie frame shown `lag_frames`
before the newest response (calcium indicators answer late). Linear decoding of images from V1 after Yoshida & Ohki
2020 (doi 10.1038/s41467-020-14645-x); scored as Bauer et al. 2026 do (doi 10.7554/eLife.105081).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]  # (n, window * N)
Frames = NDArray[np.float32]  # (n, height * width)


@dataclass(frozen=True, slots=True)
class LinearReader:
    """A fitted regression: features (F,), through K components, to pixels (P,) in grey levels.

    Weights and components hold only numbers that half precision can hold, which is how a checkpoint stores them;
    the rounding moves a pixel by less than a grey level.
    """

    weights: NDArray[np.float32]  # (F, K)
    offset: NDArray[np.float32]  # (K,)
    components: NDArray[np.float32]  # (K, P), rows of unit length
    mean_frame: NDArray[np.float32]  # (P,)

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Movie frames of features (..., F): (..., P), 0 to 255."""
        # einsum, not BLAS: one thread, and the same bits in every process
        scores = np.einsum("...f,fk->...k", features, self.weights) + self.offset
        pixels = np.einsum("...k,kp->...p", scores, self.components) + self.mean_frame
        grey: NDArray[np.float32] = np.clip(pixels, 0.0, 255.0)
        return grey


@dataclass(frozen=True, slots=True)
class Part:
    """What one movie clip, in all its presentations, gives to the regression."""

    features: Features
    movie: NDArray[np.uint8]  # (T, P)
    shown: dict[int, NDArray[np.int64]]  # lag: movie frame on the screen so many camera frames before, (n,)


@dataclass(frozen=True, slots=True)
class Choice:
    """What cross-validation over clips chose, and the share of variance explained in held-out clips."""

    lag_frames: int
    strength: float
    explained: float


def principal_components(frames: Frames, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean frame (P,) and the `count` leading components (count, P) of movie frames (n, P)."""
    from scipy.linalg import eigh  # here, as the live decoder imports this module and has to start quickly

    mean = frames.mean(axis=0)
    centred = frames - mean
    pixels = frames.shape[1]
    leading = (max(0, pixels - count), pixels - 1)
    vectors = eigh(centred.T @ centred, subset_by_index=leading)[1]  # (P, K), smallest first
    return mean, np.ascontiguousarray(vectors[:, ::-1].T)


@dataclass(frozen=True, slots=True)
class _Sums:
    """Second moments of some clips: enough to fit, and to score a fit, without going back to the data."""

    features: NDArray[np.float64]  # (F, F)
    cross: dict[int, NDArray[np.float64]]  # lag: (F, K)
    power: dict[int, float]

    def __add__(self, other: "_Sums") -> "_Sums":
        cross = {lag: self.cross[lag] + other.cross[lag] for lag in self.cross}
        power = {lag: self.power[lag] + other.power[lag] for lag in self.power}
        return _Sums(self.features + other.features, cross, power)

    def error(self, weights: NDArray[np.float64], lag: int) -> float:
        """Squared error of a fit on these clips."""
        explained = 2.0 * np.sum(weights * self.cross[lag]) - np.sum(weights * (self.features @ weights))
        return self.power[lag] - float(explained)


@dataclass(frozen=True, slots=True)
class _Scaling:
    """Features to zero mean and unit variance, and movie frames to scores on the components."""

    centre: NDArray[np.float32]  # (F,)
    spread: NDArray[np.float32]  # (F,)
    mean_frame: NDArray[np.float32]  # (P,)
    components: NDArray[np.float32]  # (K, P)

    def sums(self, part: Part) -> _Sums:
        """Second moments of one clip."""
        features = (part.features - self.centre) / self.spread
        movie = (part.movie - self.mean_frame) @ self.components.T  # (T, K)
        scores = {lag: movie[shown] for lag, shown in part.shown.items()}
        cross = {lag: (features.T @ these).astype(np.float64) for lag, these in scores.items()}
        power = {lag: float(np.square(these).sum()) for lag, these in scores.items()}
        return _Sums((features.T @ features).astype(np.float64), cross, power)


def fit_ridge(
    parts: Sequence[Part], strengths: Sequence[float], components: int, folds: int = 4
) -> tuple[LinearReader, Choice]:
    """Fit the regression; ridge strength and lag are those that explain most of clips left out of the fit.

    Parameters
    ----------
    parts
        One per movie clip, so that no clip is in two folds.
    strengths
        Ridge strengths to try, in units of the features' mean variance over all rows.
    components
        Principal components of the movies to predict.
    """
    scaling = _scaling(parts, components)
    by_fold = [
        _total([scaling.sums(part) for part in parts[k::folds]]) for k in range(min(folds, len(parts)))
    ]
    everything = _total(by_fold)
    choice = _cross_validate(by_fold, everything, strengths)
    weights = _solve(everything, choice.lag_frames, [choice.strength], _decompose(everything))[0]
    stored = _in_half(weights / scaling.spread[:, None])
    offset: NDArray[np.float32] = -scaling.centre @ stored
    return LinearReader(stored, offset, _in_half(scaling.components), scaling.mean_frame), choice


def _scaling(parts: Sequence[Part], components: int) -> _Scaling:
    features = np.concatenate([part.features for part in parts])
    spread = np.maximum(
        features.std(axis=0), np.float32(1e-6)
    )  # an ROI that never answers divides by something
    movies = np.concatenate([part.movie for part in parts]).astype(np.float32)
    return _Scaling(features.mean(axis=0), spread, *principal_components(movies, components))


def _total(sums: Sequence[_Sums]) -> _Sums:
    return sum(sums[1:], sums[0])


def _cross_validate(by_fold: Sequence[_Sums], everything: _Sums, strengths: Sequence[float]) -> Choice:
    """Try every lag and strength on every fold left out."""
    errors = {(lag, strength): 0.0 for lag in everything.cross for strength in strengths}
    for k, left_out in enumerate(by_fold):
        others = [sums for j, sums in enumerate(by_fold) if j != k] or [left_out]
        rest = _total(others)
        decomposed = _decompose(rest)
        for lag in rest.cross:
            for strength, weights in zip(strengths, _solve(rest, lag, strengths, decomposed), strict=True):
                errors[lag, strength] += left_out.error(weights, lag)
    lag, strength = min(errors, key=lambda tried: errors[tried] / everything.power[tried[0]])
    return Choice(lag, strength, 1.0 - errors[lag, strength] / everything.power[lag])


def _decompose(sums: _Sums) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values, vectors = np.linalg.eigh(sums.features)
    return values, vectors


def _solve(
    sums: _Sums,
    lag: int,
    strengths: Sequence[float],
    decomposed: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> list[NDArray[np.float64]]:
    """Ridge weights (F, K) for each strength."""
    values, vectors = decomposed
    turned = vectors.T @ sums.cross[lag]
    unit = values.mean()
    return [
        vectors @ (turned / (np.maximum(values, 0.0) + strength * unit)[:, None]) for strength in strengths
    ]


def video_correlation(shown: NDArray[np.float32], reconstructed: NDArray[np.float32]) -> float:
    """Pearson correlation over all pixels and frames of one clip, (T, P) each: the field's headline figure."""
    return float(np.corrcoef(shown.ravel(), reconstructed.ravel())[0, 1])


def _in_half(values: NDArray[Any]) -> NDArray[np.float32]:
    """Round to what half precision can hold."""
    return values.astype(np.float16).astype(np.float32)
