"""Training of the linear reconstruction: sessions of one field of neurons to a checkpoint."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.checkpoint import Checkpoint
from decoders.reconstruction.linear import Choice, LinearReader, Part, fit_ridge, video_correlation
from decoders.reconstruction.live import KIND, ResponseWindows
from decoders.traces.responses import BaselineConfig
from rig.errors import DataError

_BINS, _BIN_S = 6, 0.1  # a window of 0.6 s: the indicator's rise and most of its decay
_LAGS = 8  # tried: 0 to 7 bins
_BASELINE_S = (2.0, 60.0)  # falls over, rises over
_COMPONENTS = 64
_STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_HELD_OUT_EVERY = 5  # one movie clip in five is kept out of everything, for the figure reported
_NOT_SCORED_FRAMES = 30  # at the start of every presentation, as Bauer et al. do


@dataclass(frozen=True, slots=True)
class Rows:
    """Features at camera frames of one session, and what was shown `lag` frames before, for every lag.

    Only frames at which the same clip was on the screen for at least the longest lag. Clips are named by their
    content, so that one shown in two sessions is one clip.
    """

    name: str
    features: NDArray[np.float32]  # (n, bins * N)
    clip: NDArray[np.str_]  # (n,)
    shown: dict[int, NDArray[np.int64]]  # lag: movie frame, (n,)
    movies: dict[str, NDArray[np.uint8]]  # clip: (T, H * W)


@dataclass(frozen=True, slots=True)
class Report:
    """What was fitted to what, and how well it reads clips that took no part in anything.

    Correlations are over pixels and frames of one presentation (first 30 frames dropped), averaged over
    presentations; `mismatched` pairs each reconstruction with another held-out clip.
    """

    lag_frames: int
    ridge_strength: float
    explained_in_validation: float
    training_clips: int
    held_out_clips: int
    held_out_presentations: int
    video_correlation: float
    video_correlation_mismatched: float


def untrained_checkpoint(
    labels: NDArray[np.integer], rate_hz: float, movie_size: tuple[int, int]
) -> Checkpoint:
    """Everything that is settled before training: how frames become windows of responses."""
    return Checkpoint(
        kind=KIND,
        height_px=labels.shape[0],
        width_px=labels.shape[1],
        rate_hz=rate_hz,
        arrays={"labels": labels.astype(np.uint16)},
        settings={
            "bins": _BINS,
            "bin_frames": max(1, round(_BIN_S * rate_hz)),
            "neuropil_px": 0,
            "baseline": asdict(BaselineConfig(*_BASELINE_S, rate_hz)),
            "movie_height_px": movie_size[0],
            "movie_width_px": movie_size[1],
        },
    )


def prepare(
    name: str,
    checkpoint: Checkpoint,
    frames: Iterable[NDArray[np.generic]],
    movies: NDArray[np.uint8],
    clip: NDArray[np.int64],
    movie_frame: NDArray[np.int64],
) -> Rows:
    """Turn one session into rows of the regression, by the live code.

    Parameters
    ----------
    checkpoint
        From `untrained_checkpoint`.
    frames
        Camera frames (H, W) in order.
    movies
        (clips, T, H, W).
    clip, movie_frame
        (n,): what was on the screen at each camera frame; clip -1 for nothing.
    """
    windows = ResponseWindows(checkpoint)
    features = np.stack([windows.step(frame).ravel() for frame in frames])
    bin_frames = checkpoint.settings["bin_frames"]
    lags = range(0, _LAGS * bin_frames, bin_frames)
    now = np.arange(_BINS * bin_frames, len(features))  # the first row whose past is known
    now = now[(clip[now] >= 0) & (clip[now] == clip[now - lags[-1]]) & (movie_frame[now] >= lags[-1])]
    names = [hashlib.sha256(movie.tobytes()).hexdigest()[:12] for movie in movies]
    return Rows(
        name,
        features[now],
        np.array(names)[clip[now]],
        {lag: movie_frame[now - lag] for lag in lags},
        {clip_name: movie.reshape(len(movie), -1) for clip_name, movie in zip(names, movies, strict=True)},
    )


def fit(sessions: Sequence[Rows], components: int = _COMPONENTS) -> tuple[LinearReader, Report]:
    """Fit on most clips and score the others.

    Raises
    ------
    DataError
        With fewer than three different movie clips.
    """
    clips = sorted({str(clip) for rows in sessions for clip in rows.clip})
    if len(clips) < 3:
        raise DataError(f"{len(clips)} different movie clips; valid is 3 or more: one is kept for the score")
    held_out = set(clips[::_HELD_OUT_EVERY])
    parts = [_part(sessions, clip) for clip in clips if clip not in held_out]
    reader, choice = fit_ridge(parts, _STRENGTHS, components)
    scores = _score(reader, choice, sessions, held_out)
    return reader, Report(
        lag_frames=choice.lag_frames,
        ridge_strength=choice.strength,
        explained_in_validation=choice.explained,
        training_clips=len(parts),
        held_out_clips=len(held_out),
        held_out_presentations=len(scores),
        video_correlation=float(np.mean([matched for matched, _ in scores])),
        video_correlation_mismatched=float(np.mean([mismatched for _, mismatched in scores])),
    )


def make_checkpoint(
    untrained: Checkpoint, reader: LinearReader, report: Report, provenance: dict[str, str]
) -> Checkpoint:
    """Pack a fitted regression with its label image."""
    arrays: dict[str, NDArray[Any]] = {
        **untrained.arrays,
        "weights": reader.weights.astype(np.float16),
        "components": reader.components.astype(np.float16),
        "offset": reader.offset,
        "mean_frame": reader.mean_frame,
    }
    return Checkpoint(
        kind=KIND,
        height_px=untrained.height_px,
        width_px=untrained.width_px,
        rate_hz=untrained.rate_hz,
        arrays=arrays,
        settings={**untrained.settings, "lag_frames": report.lag_frames},
        provenance=provenance,
    )


def _part(sessions: Sequence[Rows], clip: str) -> Part:
    """All presentations of one clip."""
    chosen = [(rows, rows.clip == clip) for rows in sessions if clip in rows.movies]
    features = np.concatenate([rows.features[here] for rows, here in chosen])
    lags = chosen[0][0].shown
    shown = {lag: np.concatenate([rows.shown[lag][here] for rows, here in chosen]) for lag in lags}
    return Part(features, chosen[0][0].movies[clip], shown)


def _score(
    reader: LinearReader, choice: Choice, sessions: Sequence[Rows], held_out: set[str]
) -> list[tuple[float, float]]:
    """Correlation of every presentation of held-out clips with what was shown, and with the next one shown."""
    pairs = []
    for rows in sessions:
        shown = rows.shown[choice.lag_frames]
        starts = np.flatnonzero((np.diff(shown) < 0) | (rows.clip[1:] != rows.clip[:-1])) + 1
        for presentation in np.split(np.arange(len(shown)), starts):
            scored = presentation[shown[presentation] >= _NOT_SCORED_FRAMES]
            if len(scored) > 1 and str(rows.clip[scored[0]]) in held_out:
                movie = rows.movies[str(rows.clip[scored[0]])]
                pairs.append((movie[shown[scored]].astype(np.float32), reader(rows.features[scored])))
    if not pairs:
        raise DataError("no held-out clip was shown for long enough to be scored; record longer sessions")
    return [_two_correlations(pairs, k) for k in range(len(pairs))]


def _two_correlations(
    pairs: list[tuple[NDArray[np.float32], NDArray[np.float32]]], k: int
) -> tuple[float, float]:
    shown, reconstructed = pairs[k]
    other = pairs[(k + 1) % len(pairs)][0]
    length = min(len(other), len(reconstructed))
    return video_correlation(shown, reconstructed), video_correlation(other[:length], reconstructed[:length])
