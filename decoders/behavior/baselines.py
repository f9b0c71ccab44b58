"""What needs no network: majority, mean brightness, logistic regression on pixels, linear SVM on ROI traces.

They run beside every model, on the same folds, and see no later frame: running normalisation, and a window that ends
with the present frame (0.17 s unless told: the half window of Ajioka et al. 2024, doi 10.1371/journal.pcbi.1011074).
All four are a weighted sum of features over the window and one offset, so that they share one class.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from decoders.behavior.metrics import area_under_curve, best_threshold
from decoders.behavior.predictor import FitOptions
from decoders.behavior.schemes import same_rate
from decoders.checkpoint import Checkpoint, load_checkpoint
from decoders.datasets.behavior import BehaviorRecording, Excerpt
from decoders.datasets.normalised import normalised
from decoders.normalise import NormaliserConfig, bin_area, bin_factor
from decoders.view import BinnedView
from rig.errors import DataError

Kind = Literal["majority", "brightness", "logistic", "svm"]
KINDS: tuple[Kind, ...] = ("majority", "brightness", "logistic", "svm")
WINDOW_S = 0.17
WARM_UP_S = 3.0  # the running normalisation does not know the animal yet: neither fitted to nor answered
COMPONENTS = 50
_EDGE_PX = 64  # 0.17 mm of cortex in the published frames, finer than its areas
_PCA_FRAMES = 4000
_FIT_FRAMES = 20_000  # fitted to at most so many, drawn at random: neighbours are much alike
_CHOICE_FRAMES = 5000  # of them, to choose the strength with
_STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
# Of the running statistics; with the causal model's own 10 s the SVM is weaker (AUC 0.930 against 0.942).
_MEAN_S, _STD_S = 20.0, 60.0


@dataclass(frozen=True, slots=True)
class LinearBaseline:
    """A weighted sum of the features of the last frames. See `decoders.behavior.predictor.Predictor`.

    Attributes
    ----------
    kind
        Which features: none, mean brightness, principal components of the pixels, or ROI traces.
    weights
        (window, F), oldest frame first.
    offset
        Logit where all features are zero.
    pixels
        Principal components (F, h * w) of the normalised frames, for "logistic" only; else empty.
    size_px, rate_hz
        Of the frames fitted to.
    cache
        Folder of normalised frames and traces.
    """

    kind: Kind
    weights: NDArray[np.float32]
    offset: float
    pixels: NDArray[np.float32]
    size_px: tuple[int, int]
    rate_hz: float
    cache: Path

    def predict(
        self, recording: BehaviorRecording, occluded: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Probability of running, (T,); NaN during the first 3 s.

        Raises
        ------
        DataError
            For frames of another size or rate, or ROIs of another number, than it was fitted to.
        """
        if self.pixels.size and binned_size(*recording.size_px) != binned_size(*self.size_px):
            has, valid = (f"{height}x{width} pixels" for height, width in (recording.size_px, self.size_px))
            raise DataError(
                f"{recording.path}: frames of {has}; this {self.kind} model was trained on {valid}"
            )
        if not same_rate(recording.rate_hz, self.rate_hz):
            raise DataError(
                f"{recording.path}: {recording.rate_hz:g} Hz; this {self.kind} model was trained on {self.rate_hz:g} Hz"
            )
        features = _features(self.kind, recording, self.cache, self.pixels, occluded)
        window, width = self.weights.shape
        if features.shape[1] != width:
            raise DataError(
                f"{recording.path}: {features.shape[1]} features; valid for this {self.kind} model: {width}"
            )
        logit = np.full(len(recording), self.offset)
        for back in range(window):
            logit[back:] += features[: len(features) - back] @ self.weights[window - 1 - back]
        probability = (0.5 * (1 + np.tanh(0.5 * logit))).astype(np.float32)
        probability[: _warm_up(recording.rate_hz)] = np.nan
        return probability

    def save(self, path: Path) -> None:
        """Write it as a checkpoint; raises `CheckpointError` when the file exists."""
        arrays = {"weights": self.weights, "offset": np.array(self.offset), "pixels": self.pixels}
        Checkpoint(f"behavior-{self.kind}", *self.size_px, self.rate_hz, arrays).save(path)


def load_baseline(path: Path, kind: Kind, cache: Path) -> LinearBaseline:
    """Read what `LinearBaseline.save` wrote; raises `CheckpointError`."""
    found = load_checkpoint(path, f"behavior-{kind}")
    size, arrays = (found.height_px, found.width_px), found.arrays
    return LinearBaseline(
        kind, arrays["weights"], float(arrays["offset"]), arrays["pixels"], size, found.rate_hz, cache
    )


def fit_majority(
    training: Sequence[Excerpt], validation: Sequence[Excerpt], options: FitOptions
) -> LinearBaseline:
    """Always the fraction of time that the training animals run."""
    fraction = float(np.concatenate([excerpt.running for excerpt in training]).mean())
    return _baseline("majority", training, options, np.zeros((1, 0)), _logit(fraction))


def fit_brightness(
    training: Sequence[Excerpt], validation: Sequence[Excerpt], options: FitOptions
) -> LinearBaseline:
    """One threshold on the mean of the normalised frame, chosen for accuracy; its sign is chosen likewise."""
    features, chosen = _gathered("brightness", training, options, _no_pixels(), 1)
    brightness, running = features[:, 0], _labels(training)[chosen]
    sign = 1.0 if area_under_curve(brightness, running) >= 0.5 else -1.0
    threshold = best_threshold(sign * brightness, running)
    steepness = 1.0 / max(float(brightness.std()), 1e-6)
    weights = np.array([[sign * steepness]])
    return _baseline("brightness", training, options, weights, -threshold * steepness)


def fit_logistic(
    training: Sequence[Excerpt], validation: Sequence[Excerpt], options: FitOptions
) -> LinearBaseline:
    """Logistic regression on 50 principal components of each normalised frame in the window."""
    from sklearn.linear_model import LogisticRegression

    pixels = _components(training, options)
    window = window_frames(options, training[0].recording.rate_hz)
    features, chosen = _gathered("logistic", training, options, pixels, window)
    scale, labels = _scale(features), _labels(training)[chosen]
    features /= scale

    def machine(strength: float) -> LogisticRegression:
        return LogisticRegression(C=strength, tol=1e-3, max_iter=2000)

    strength, _, _ = _left_out(machine, features, labels, _parts(training)[chosen], options.seed)
    model = machine(strength).fit(features, labels)
    weights = (model.coef_[0] / scale).reshape(window, -1)
    return _baseline("logistic", training, options, weights, float(model.intercept_[0]), pixels)


def fit_svm(
    training: Sequence[Excerpt], validation: Sequence[Excerpt], options: FitOptions
) -> LinearBaseline:
    """Linear SVM on the running z-scores of the ROI traces in the window, made a probability by Platt's method.

    Platt's sigmoid (Platt 1999) is fitted to decisions on parts of the training data left out in turn.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    window = window_frames(options, training[0].recording.rate_hz)
    features, chosen = _gathered("svm", training, options, _no_pixels(), window)
    scale, labels = _scale(features), _labels(training)[chosen]
    features /= scale

    def machine(strength: float) -> LinearSVC:
        return LinearSVC(C=strength, dual=False, tol=1e-3, max_iter=5000, random_state=options.seed)

    strength, decision, truth = _left_out(machine, features, labels, _parts(training)[chosen], options.seed)
    model = machine(strength).fit(features, labels)
    slope, shift = 1.0, 0.0
    if truth.any() and not truth.all():
        sigmoid = LogisticRegression(C=1e3).fit(decision[:, None], truth)
        slope, shift = float(sigmoid.coef_[0, 0]), float(sigmoid.intercept_[0])
    weights = slope * (model.coef_[0] / scale).reshape(window, -1)
    return _baseline("svm", training, options, weights, slope * float(model.intercept_[0]) + shift)


def _left_out(
    machine: Callable[[float], Any],
    features: NDArray[np.float32],
    labels: NDArray[np.bool_],
    parts: NDArray[np.int64],
    seed: int,
) -> tuple[float, NDArray[np.float64], NDArray[np.bool_]]:
    """Choose how much a linear machine may follow its data: the best mean AUC over parts left out in turn.

    Returns the strength (sklearn's C), and its decisions on all left-out parts beside the truth.
    """
    drawn = np.random.default_rng(seed).permutation(len(labels))[:_CHOICE_FRAMES]
    features, labels, parts = features[drawn], labels[drawn], parts[drawn]
    folds = [parts == part for part in np.unique(parts)]
    folds = [out for out in folds if 0 < labels[~out].sum() < (~out).sum()]
    best = (-1.0, _STRENGTHS[0], np.zeros(0), np.zeros(0, np.bool_))
    for strength in _STRENGTHS if folds else ():
        told = [
            machine(strength).fit(features[~out], labels[~out]).decision_function(features[out])
            for out in folds
        ]
        aucs = [area_under_curve(one, labels[out]) for one, out in zip(told, folds, strict=True)]
        known = [auc for auc in aucs if np.isfinite(auc)]
        mean = float(np.mean(known)) if known else 0.0
        if mean > best[0]:
            truth = np.concatenate([labels[out] for out in folds])
            best = (mean, strength, np.concatenate(told), truth)
    return best[1:]


def window_frames(options: FitOptions, rate_hz: float) -> int:
    """Frames in the window, at least one."""
    return max(1, round((options.window_s or WINDOW_S) * rate_hz))


def running_z(
    traces: NDArray[np.floating], rate_hz: float, mean_s: float = _MEAN_S, std_s: float = _STD_S
) -> NDArray[np.float32]:
    """Each trace less its running mean, divided by its running standard deviation: (T, R), no later frame used.

    Exponential once the time constants have passed, plain averages before, as `RunningNormaliser` does for images
    (which shares one standard deviation; traces are on scales of their own).
    """
    slowest = [1.0 - math.exp(-1.0 / (constant_s * rate_hz)) for constant_s in (mean_s, std_s)]
    mean, variance = np.zeros(traces.shape[1]), np.zeros(traces.shape[1])
    scores = np.empty(traces.shape, np.float32)
    for at, row in enumerate(traces):
        mean_share, std_share = (max(share, 1.0 / (at + 1)) for share in slowest)
        deviation = row - mean
        mean += mean_share * deviation
        deviation *= 1.0 - mean_share
        variance += std_share * (deviation * deviation - variance)
        scores[at] = deviation / np.sqrt(np.maximum(variance, 1e-12))
    return scores


def _baseline(
    kind: Kind,
    training: Sequence[Excerpt],
    options: FitOptions,
    weights: NDArray[np.floating],
    offset: float,
    pixels: NDArray[np.float32] | None = None,
) -> LinearBaseline:
    recording = training[0].recording
    return LinearBaseline(
        kind,
        weights.astype(np.float32),
        float(offset),
        _no_pixels() if pixels is None else pixels,
        recording.size_px,
        recording.rate_hz,
        options.cache,
    )


def _features(
    kind: Kind,
    recording: BehaviorRecording,
    cache: Path,
    pixels: NDArray[np.float32],
    occluded: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Features of every frame, (T, F)."""
    if kind in ("majority", "svm") and occluded is not None:
        raise DataError(f"model {kind} looks at no image, so nothing of it can be occluded")
    if kind == "majority":
        return np.zeros((len(recording), 0), np.float32)
    if kind == "svm":
        from decoders.behavior.rois import roi_traces

        return running_z(roi_traces(recording, cache), recording.rate_hz)
    frames = normalised_frames(recording, cache)
    seen = np.ones(frames.shape[1:], np.float32)
    if occluded is not None:
        seen -= bin_area(occluded, *frames.shape[1:])
    weights = seen.reshape(1, -1) / np.float32(seen.size) if kind == "brightness" else pixels * seen.ravel()
    return _projected(frames, weights.astype(np.float32))


def _projected(frames: NDArray[np.float16], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Frames (T, h, w) times weights (F, h * w), some hundred at a time: (T, F)."""
    chunks = [frames[at : at + 512] for at in range(0, len(frames), 512)]
    return np.concatenate([c.reshape(len(c), -1).astype(np.float32) @ weights.T for c in chunks])


def normalised_frames(recording: BehaviorRecording, cache: Path) -> NDArray[np.float16]:
    """Frames binned to about 64 pixels an edge and normalised by the live code, (T, h, w), mapped from `cache`."""
    config = NormaliserConfig(_MEAN_S, _STD_S, recording.rate_hz)
    return normalised(recording, cache, BinnedView(*binned_size(*recording.size_px)), config)


def binned_size(height_px: int, width_px: int) -> tuple[int, int]:
    """Size after binning by the largest whole number that divides both edges and leaves 64 pixels or more."""
    factor = bin_factor(height_px, width_px, _EDGE_PX)
    return height_px // factor, width_px // factor


def _components(training: Sequence[Excerpt], options: FitOptions) -> NDArray[np.float32]:
    """Principal components of normalised frames drawn at random, (F, h * w), without the mean's part."""
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(options.seed)
    share = _PCA_FRAMES / sum(map(len, training))
    drawn = []
    for excerpt in training:
        frames = normalised_frames(excerpt.recording, options.cache)
        count = min(len(excerpt), max(1, round(share * len(excerpt))))
        chosen = np.sort(rng.choice(np.arange(excerpt.start, excerpt.stop), count, replace=False))
        drawn.append(frames[chosen].reshape(count, -1).astype(np.float32))
    frames_drawn = np.concatenate(drawn)
    count = min(COMPONENTS, *frames_drawn.shape)
    found = PCA(count, svd_solver="randomized", random_state=options.seed).fit(frames_drawn)
    return cast("NDArray[np.float32]", found.components_.astype(np.float32))


def _gathered(
    kind: Kind, training: Sequence[Excerpt], options: FitOptions, pixels: NDArray[np.float32], window: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Windows of features at frames drawn from the training excerpts, (n, window * F), and which they are.

    Frames are numbered over all excerpts laid end to end, as in `_labels`.
    """
    known = np.concatenate([np.arange(e.start, e.stop) >= _first(e, window) for e in training])
    usable = np.flatnonzero(known)
    if not len(usable):
        raise DataError(f"{training[0].recording.path}: nothing is left after the first {WARM_UP_S:g} s")
    rng = np.random.default_rng(options.seed)
    chosen = np.sort(rng.choice(usable, min(_FIT_FRAMES, len(usable)), replace=False))
    rows: list[NDArray[np.float32]] = []
    first = 0
    for excerpt in training:
        features = _features(kind, excerpt.recording, options.cache, pixels)
        if rows and rows[0].shape[1] != features.shape[1] * window:
            raise DataError(
                f"{excerpt.recording.path}: {features.shape[1]} ROI traces, {rows[0].shape[1] // window} in the"
                " recordings before; valid is one number"
            )
        own = chosen[(chosen >= first) & (chosen < first + len(excerpt))] - first + excerpt.start
        rows.append(features[own[:, None] + np.arange(1 - window, 1)].reshape(len(own), -1))
        first += len(excerpt)
    return np.concatenate(rows), chosen


def _first(excerpt: Excerpt, window: int) -> int:
    """First frame of an excerpt with a whole window in it, after the recording's warm-up."""
    return max(_warm_up(excerpt.recording.rate_hz), excerpt.start) + window - 1


def _labels(training: Sequence[Excerpt]) -> NDArray[np.bool_]:
    return np.concatenate([excerpt.running for excerpt in training])


def _parts(training: Sequence[Excerpt]) -> NDArray[np.int64]:
    """Part of every frame for leaving parts out: its excerpt, or a third of the only one."""
    if len(training) == 1:
        return np.arange(len(training[0])) * 3 // len(training[0])
    return np.concatenate([np.full(len(excerpt), k) for k, excerpt in enumerate(training)])


def _scale(features: NDArray[np.float32]) -> NDArray[np.float32]:
    scale: NDArray[np.float32] = np.maximum(features.std(axis=0), np.float32(1e-6))
    return scale


def _warm_up(rate_hz: float) -> int:
    return math.ceil(WARM_UP_S * rate_hz)


def _logit(fraction: float) -> float:
    inside = min(max(fraction, 1e-6), 1 - 1e-6)
    return math.log(inside / (1 - inside))


def _no_pixels() -> NDArray[np.float32]:
    return np.zeros((0, 0), np.float32)
