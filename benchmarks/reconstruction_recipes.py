"""Our recipe of movie reconstruction beside the published one: the same encoder, clips, machine and run.

Simulated data: a mouse of `--neurons` neurons, and a light encoder trained on its training tier for `--epochs` epochs.
Clips are the first `--frames` frames of movies of the oracle tier, which no training saw. For each clip both recipes
reconstruct in turn, all of their iterations on one thread; correlations are those of `rig evaluate reconstruction`
(first 30 frames dropped, blur of 0.5 frames and pixels), without a mask. `linear` is ridge regression on the responses.
`--folder` keeps data and encoder, and uses those that are there (`movies`, `encoder.npz`).
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import arguments, rig, tell
from decoders.datasets.movie_trials import Trial
from decoders.datasets.movies import MovieMouse, open_movies
from decoders.reconstruction import load_encoder
from decoders.reconstruction.inversion import invert
from decoders.reconstruction.linear_movies import fit_linear
from decoders.reconstruction.scored_clips import scored_clips, scored_mice
from decoders.reconstruction.similarity import SMOOTHING, compare, smooth

_RECIPES = ("fast", "published")


def prepare(folder: Path, neurons: int, clips: int, epochs: int) -> None:
    """Simulate movies and responses, and train an encoder, where they are not there yet."""
    movies, encoder = folder / "movies", folder / "encoder.npz"
    if not movies.exists():
        sizes = ["--neurons", neurons, "--clips", clips, "--oracle-clips", 10, "--repeats", 1]
        rig("simulate-movies", "--out", movies, *sizes, "--seed", 50)
    if not encoder.exists():
        training = ["--layout", "sensorium", "--threads", 1, "--set", f"epochs={epochs}"]
        rig("train", "encoder", "--data", movies, "--out", encoder, *training)


def first_frames(trial: Trial, frames: int) -> Trial:
    """The beginning of a presentation."""
    names = ("video", "responses", "behavior", "pupil_center")
    return Trial(**{name: getattr(trial, name)[..., :frames] for name in names})


def correlation(trial: Trial, movie: Any) -> float:
    """Published correlation of a movie (T, 36, 64), smoothed, with what was shown."""
    return compare(np.moveaxis(trial.video, -1, 0), smooth(movie, SMOOTHING)).correlation


def reconstructed(encoder: Any, trial: Trial, mouse: int, recipe: str) -> tuple[float, float]:
    """Correlation and seconds of one recipe on one clip."""
    began_s = time.perf_counter()
    signals = (trial.behavior, trial.pupil_center)
    movie = invert(encoder, trial.responses, *signals, mouse=mouse, recipe=recipe)
    return correlation(trial, movie), time.perf_counter() - began_s


def compared(folder: Path, clips: int, frames: int) -> dict[str, Any]:
    """Both recipes on every clip, and the linear baseline."""
    path = folder / "encoder.npz"
    encoder, mice = load_encoder(path), open_movies(folder / "movies", "sensorium")
    found: dict[str, dict[str, float]] = {}
    chosen = scored_clips(scored_mice(mice, [encoder], [path], None), "oracle", clips, repeats=False)
    linear = fit_linear(chosen[0].training())
    for clip in chosen:
        trial = first_frames(clip.load(), frames)
        row = {"linear": correlation(trial, linear(trial.responses))}
        for recipe in _RECIPES:
            row[recipe], row[f"{recipe}_s"] = reconstructed(encoder, trial, clip.of.index, recipe)
        found[clip.name] = {key: round(value, 4) for key, value in row.items()}
    return summary(list(found.values()), mice[0]) | {"clips": found}


def summary(rows: list[dict[str, float]], mouse: MovieMouse) -> dict[str, Any]:
    """Means over clips, differences with their standard errors, and the ratio of times."""

    def mean(name: str) -> float:
        return round(float(np.mean([row[name] for row in rows])), 4)

    def difference(name: str) -> dict[str, float]:
        values = np.array([row["fast"] - row[name] for row in rows])
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
        return {"mean": round(float(values.mean()), 4), "standard_error": round(float(error), 4)}

    ratios = [row["published_s"] / row["fast_s"] for row in rows]
    return {
        "neurons": mouse.neurons,
        "correlation": {name: mean(name) for name in ("linear", *_RECIPES)},
        "seconds_per_clip": {recipe: mean(f"{recipe}_s") for recipe in _RECIPES},
        "fast_minus_published": difference("published"),
        "fast_minus_linear": difference("linear"),
        "times_less_time": round(float(np.median(ratios)), 1),
    }


def main() -> None:
    """Prepare what is missing, then compare."""
    asked = arguments(__doc__, neurons=1000, training_clips=90, epochs=4, clips=2, frames=120, folder="")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(asked.folder or temporary)
        prepare(folder, asked.neurons, asked.training_clips, asked.epochs)
        report = compared(folder, asked.clips, asked.frames)
    tell(asked, {"data": "simulated", "frames": asked.frames, "models": 1, "threads": 1, **report})


if __name__ == "__main__":
    main()
