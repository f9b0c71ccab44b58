"""DwiseNeuro at its published size on one device: training, and both recipes of reconstruction with it.

Simulated data: `--mice` mice of `--neurons` neurons each, `--clips` training clips of ten seconds. Trained are
`--epochs` epochs of `--samples` samples, a small part of the published training, which is enough to see that it learns;
what a step and a reconstruction cost does not depend on it. `--settings "KEY=VALUE ..."` makes the network smaller.

One clip of the tier `oracle` is then reconstructed with one model by both recipes in turn: ours whole; of the
published one `--iterations` of its 1,000, every window and start position a forward pass of its own as published, and
with windows batched; `published_s_per_clip` is for all 1,000. An ensemble of seven costs seven times a model, which is
measured for ours (the same weights seven times). Correlations are of all pixels, first 30 frames dropped, blur 0.5.
`--folder` keeps data and encoder, and uses those that are there (`movies`, `encoder.pth`).
"""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import arguments, device_name, rig, tell
from decoders.datasets.movie_trials import Trial
from decoders.datasets.movies import open_movies
from decoders.reconstruction import load_encoder
from decoders.reconstruction.dwiseneuro_encoder import DwiseNeuroEncoder
from decoders.reconstruction.fast_inversion import invert_fast
from decoders.reconstruction.problem import InversionOptions, InversionProblem
from decoders.reconstruction.published_inversion import PublishedRecipe, invert_published
from decoders.reconstruction.similarity import SMOOTHING, compare, smooth

_MODELS = 7  # of the published ensemble
_ITERATIONS = PublishedRecipe().iterations


def prepare(asked: Any, folder: Path) -> dict[str, Any]:
    """Simulate and train where that is not done yet; returns what the training reported."""
    movies, encoder, report = folder / "movies", folder / "encoder.pth", folder / "encoder.json"
    if not movies.exists():
        sizes = ["--mice", asked.mice, "--neurons", asked.neurons, "--clips", asked.clips, "--repeats", 1]
        rig("simulate-movies", "--out", movies, *sizes, "--oracle-clips", 2, "--seed", 50)
    if not encoder.exists():
        settings = [f"epochs={asked.epochs}", f"samples={asked.samples}", "warm_up_epochs=1"]
        numbers = [part for one in [*settings, *asked.settings.split()] for part in ("--set", one)]
        training = ["--preset", "published", "--layout", "sensorium", "--device", asked.device]
        began_s = time.perf_counter()
        told = rig("train", "encoder", "--data", movies, "--out", encoder, *training, *numbers)
        report.write_text(json.dumps({**told, "wall_s": round(time.perf_counter() - began_s, 1)}))
    told = json.loads(report.read_text())
    return dict(told)


def timed(device: str, reconstruct: Any) -> tuple[Any, float, float | None]:
    """What it returns, its seconds, and the GPU's peak memory in GB (None on a CPU)."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    began_s = time.perf_counter()
    movie = reconstruct()
    peak_gb = round(torch.cuda.max_memory_allocated() / 1e9, 2) if device == "cuda" else None
    return movie, time.perf_counter() - began_s, peak_gb


def reconstructions(
    encoder: DwiseNeuroEncoder, trial: Trial, index: int, device: str, iterations: int
) -> dict[str, Any]:
    """Seconds a clip of every way to reconstruct it, and how well ours does."""
    signals = (trial.responses, trial.behavior, trial.pupil_center)
    problem = InversionProblem.of([encoder], *signals, mouse=index)
    options = InversionOptions(progress=False)

    def ours(models: int) -> Any:
        return invert_fast([encoder] * models, problem, options)

    def published(count: int, batched: bool) -> Any:
        recipe = replace(PublishedRecipe(), iterations=count, batched=batched)
        return invert_published([encoder], problem, options, recipe)

    invert_fast([encoder], problem, replace(options, iterations=1))  # the device warms up
    found: dict[str, Any] = {}
    for models in (1, _MODELS):
        movie, seconds, peak_gb = timed(device, lambda models=models: ours(models))
        found[f"fast_{models}"] = {"s_per_clip": round(seconds, 2), "peak_gb": peak_gb}
        found[f"fast_{models}"]["correlation"] = correlation(trial, movie)
    for name, batched in (("published", False), ("published_batched", True)):
        published(2, batched)
        _, seconds, peak_gb = timed(device, lambda batched=batched: published(iterations + 1, batched))
        each = (
            seconds / iterations
        )  # the first of the published iterations changes nothing and is not computed
        found[name] = {"s_per_clip": round(each * (_ITERATIONS - 1), 1), "peak_gb": peak_gb}
        found[name]["s_per_iteration"] = round(each, 4)
    return found


def correlation(trial: Trial, movie: Any) -> float:
    """Published correlation of a movie (T, 36, 64), smoothed, with what was shown."""
    shown = np.moveaxis(trial.video, -1, 0)
    return round(compare(shown, smooth(movie, SMOOTHING)).correlation, 4)


def summary(found: dict[str, Any], models: Sequence[int] = (1, _MODELS)) -> dict[str, float]:
    """How many times less time ours takes, for one model and for the ensemble."""
    published = found["published"]["s_per_clip"]
    return {f"times_less_{n}": round(n * published / found[f"fast_{n}"]["s_per_clip"], 1) for n in models}


def main() -> None:
    """Prepare what is missing, then time."""
    numbers = {"mice": 5, "neurons": 8000, "clips": 12, "epochs": 4, "samples": 8000, "iterations": 5}
    asked = arguments(__doc__, **numbers, device="cuda", settings="", folder="")
    if asked.device == "cuda" and not torch.cuda.is_available():
        tell(
            asked,
            {
                "skipped": "there is no GPU here; --device cpu with smaller --settings tries the benchmark itself"
            },
        )
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(asked.folder or temporary)
        training = prepare(asked, folder)
        encoder = load_encoder(folder / "encoder.pth").to(asked.device)
        mouse = open_movies(folder / "movies", "sensorium")[0]
        trial = next(one for one in mouse.trials if one.tier == "oracle").load()
        index = encoder.mice.index(mouse.name)
        found = reconstructions(encoder, trial, index, asked.device, asked.iterations)
    told = {"data": "simulated", "device": device_name(asked.device), "neurons": encoder.neurons}
    tell(asked, {**told, "training": training, "reconstruction": found, **summary(found)})


if __name__ == "__main__":
    main()
