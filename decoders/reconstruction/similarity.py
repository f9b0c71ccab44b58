"""How alike a movie and its reconstruction are, as Bauer et al. 2026 measure it (doi 10.7554/eLife.105081).

Movies are (T, H, W) in grey levels 0 to 255; a mask (H, W) says which pixels count. Owns the arithmetic alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

DROPPED_FRAMES = 30  # published: the first second of a clip is not scored
SMOOTHING = 0.5  # published: standard deviation of the final blur in frames and pixels
_PEAK = 255.0
_SSIM_K = 1.0  # published for both constants; usual would be 0.01 and 0.03

Movie = NDArray[np.floating]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Similarity:
    """What the figures of a reconstruction are; NaN where one of the two movies does not vary.

    Attributes
    ----------
    correlation
        Pearson correlation over all pixels and frames: the published headline figure.
    frame_correlation
        The same within each frame, mean over the frames in which both vary.
    rmse
        Grey levels.
    psnr_db
        Against a peak of 255.
    ssim
        Over the whole frame without windows, constants (1 x 255)^2 as published; mean over frames.
    motion_energy_shown, motion_energy
        Mean absolute difference between neighbouring frames of the movie and of its reconstruction, grey levels.
    """

    correlation: float
    frame_correlation: float
    rmse: float
    psnr_db: float
    ssim: float
    motion_energy_shown: float
    motion_energy: float


def compare(
    shown: Movie, reconstructed: Movie, mask: Mask | None = None, dropped: int = DROPPED_FRAMES
) -> Similarity:
    """Compare two movies from frame `dropped` on, in the pixels of the mask (None: all).

    Raises
    ------
    ValueError
        When the movies differ in shape, or fewer than two frames are left.
    """
    if shown.shape != reconstructed.shape or len(shown) < dropped + 2:
        raise ValueError(f"movies {shown.shape} and {reconstructed.shape}, {dropped} frames dropped")
    true, found = (_pixels(movie, mask, dropped) for movie in (shown, reconstructed))
    rmse = float(np.sqrt(np.mean((true - found) ** 2)))
    return Similarity(
        correlation=pearson(true, found),
        frame_correlation=_mean_known([pearson(*frames) for frames in zip(true, found, strict=True)]),
        rmse=rmse,
        psnr_db=float(20 * np.log10(_PEAK / rmse)) if rmse else float("inf"),
        ssim=float(np.mean(_ssim(true, found))),
        motion_energy_shown=_motion_energy(true),
        motion_energy=_motion_energy(found),
    )


def pearson(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Pearson correlation of all values of two arrays of one shape; NaN where one of them does not vary."""
    x, y = (np.asarray(values, np.float64).ravel() for values in (first, second))
    x, y = x - x.mean(), y - y.mean()
    power = float(x @ x) * float(y @ y)
    return float(x @ y / np.sqrt(power)) if power > 1e-12 * x.size else float("nan")


def response_fit(
    recorded: NDArray[np.floating], predicted: NDArray[np.floating], dropped: int = DROPPED_FRAMES
) -> float:
    """Pearson correlation of responses (N, T), all neurons and frames flattened, where the recorded are known."""
    measured, answers = recorded[:, dropped:], predicted[:, dropped:]
    known = np.isfinite(measured)
    return pearson(measured[known], answers[known])


def smooth(movie: Movie, sigma: float = SMOOTHING) -> NDArray[np.float32]:
    """Blur a movie in time, height and width by a Gaussian of `sigma` frames and pixels; 0 leaves it."""
    blurred = gaussian_filter(np.asarray(movie, np.float32), sigma) if sigma > 0 else movie
    return np.asarray(blurred, np.float32)


def matched(
    shown: Movie, reconstructed: Movie, mask: Mask | None = None, dropped: int = DROPPED_FRAMES
) -> NDArray[np.float32]:
    """Bring a reconstruction to the mean and standard deviation of what was shown, measured in the scored part."""
    true, found = (_pixels(movie, mask, dropped) for movie in (shown, reconstructed))
    gain = true.std() / max(float(found.std()), 1e-6)
    return np.asarray((reconstructed - found.mean()) * gain + true.mean(), np.float32)


def mean_of_mice(scores: Mapping[str, Mapping[str, float]]) -> tuple[float, dict[str, float]]:
    """Mean over mice, and each mouse's mean over its clips, of scores[mouse][clip]; NaN are left out."""
    mice = {mouse: _mean_known(list(clips.values())) for mouse, clips in scores.items()}
    return _mean_known(list(mice.values())), mice


def bootstrap(
    scores: Mapping[str, Mapping[str, float]], seed: int = 0, replicates: int = 1000
) -> tuple[float, float] | None:
    """95 % interval of the mean over mice, clips drawn anew within each mouse; None with fewer than three clips."""
    values = [np.array([v for v in clips.values() if np.isfinite(v)]) for clips in scores.values()]
    values = [clips for clips in values if len(clips)]
    if sum(map(len, values)) < 3:
        return None
    draw = np.random.default_rng(seed)
    means = [clips[draw.integers(len(clips), size=(replicates, len(clips)))].mean(axis=1) for clips in values]
    low, high = np.percentile(np.mean(means, axis=0), [2.5, 97.5])
    return float(low), float(high)


def _pixels(movie: Movie, mask: Mask | None, dropped: int) -> NDArray[np.float64]:
    """The scored part, (frames, pixels)."""
    scored = movie[dropped:] if mask is None else movie[dropped:, mask]
    return np.asarray(scored, np.float64).reshape(len(scored), -1)


def _ssim(true: NDArray[np.float64], found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of every frame, (frames,)."""
    steady = (_SSIM_K * _PEAK) ** 2
    means = true.mean(axis=1), found.mean(axis=1)
    covariance = ((true - means[0][:, None]) * (found - means[1][:, None])).mean(axis=1)
    luminance = (2 * means[0] * means[1] + steady) / (means[0] ** 2 + means[1] ** 2 + steady)
    structure = (2 * covariance + steady) / (true.var(axis=1) + found.var(axis=1) + steady)
    return np.asarray(luminance * structure)


def _motion_energy(movie: NDArray[np.float64]) -> float:
    return float(np.abs(np.diff(movie, axis=0)).mean())


def _mean_known(values: list[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
