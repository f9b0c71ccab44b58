"""DwiseNeuro at its published size on one device: what both recipes of reconstruction cost with it, and its training.

Simulated data: `--mice` mice of `--neurons` neurons each, `--clips` training clips of ten seconds, and one clip of the
tier `oracle` that is reconstructed. Seconds are of random weights, since weights do not change them: ours whole, by one
model and by an ensemble of seven; of the published recipe `--iterations` of its 1,000, every window and start position
a forward pass of its own as published, and with windows batched. `s_per_clip` is for all 1,000 and one model.

With `--minutes` the network is then trained for so long by `rig train encoder`, on all mice, and the clip reconstructed
with it: the correlation is of all pixels, first 30 frames dropped, blur 0.5. The published training takes days.
`--settings "KEY=VALUE ..."` makes the network smaller. What is found is also told on standard error as it comes.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import arguments, device_name, rig, tell
from benchmarks.reconstruction_recipes import correlation
from decoders.commands.options import settings
from decoders.datasets.movie_trials import Trial
from decoders.datasets.movies import MovieMouse, open_movies
from decoders.recipe import checked
from decoders.reconstruction import load_encoder
from decoders.reconstruction.dwiseneuro import DwiseNeuro, initialise
from decoders.reconstruction.dwiseneuro_encoder import DwiseNeuroEncoder
from decoders.reconstruction.fast_inversion import invert_fast
from decoders.reconstruction.problem import InversionOptions, InversionProblem
from decoders.reconstruction.published_inversion import PublishedRecipe, invert_published
from decoders.reconstruction.published_training import PublishedRecipe as Training

_MODELS = 7  # of the published ensemble
_ITERATIONS = PublishedRecipe().iterations
_OPTIONS = InversionOptions(progress=False)


def untrained(mice: list[MovieMouse], given: list[str], device: str) -> DwiseNeuroEncoder:
    """An encoder of these mice with random weights; `given` are settings KEY=VALUE."""
    recipe = checked(Training, settings(given))
    torch.manual_seed(0)
    network = DwiseNeuro(recipe.network(tuple(mouse.neurons for mouse in mice)))
    initialise(network)
    names = tuple(mouse.name for mouse in mice)
    return DwiseNeuroEncoder(network.eval().requires_grad_(False), mice=names).to(device)


def problem_of(encoder: DwiseNeuroEncoder, trial: Trial) -> InversionProblem:
    """The clip's responses as those of the encoder's first mouse."""
    return InversionProblem.of([encoder], trial.responses, trial.behavior, trial.pupil_center, mouse=0)


def timed(device: str, name: str, reconstruct: Callable[[], Any], share: float = 1.0) -> dict[str, float]:
    """Seconds a clip, of which `share` is reconstructed, and on a GPU the peak memory in GB."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    began_s = time.perf_counter()
    reconstruct()
    found = {"s_per_clip": round((time.perf_counter() - began_s) / share, 2)}
    if device == "cuda":
        found["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    print(f"{name}: {found}", file=sys.stderr)
    return found


def costs(encoder: DwiseNeuroEncoder, problem: InversionProblem, device: str, count: int) -> dict[str, Any]:
    """What every way to reconstruct the clip costs."""

    def published(iterations: int, batched: bool) -> None:
        # one iteration more, as the first of the published ones changes nothing and is not computed
        recipe = replace(PublishedRecipe(), iterations=iterations + 1, batched=batched)
        invert_published([encoder], problem, _OPTIONS, recipe)

    invert_fast([encoder], problem, replace(_OPTIONS, iterations=1))  # the device warms up
    found: dict[str, Any] = {}
    for models in (1, _MODELS):
        name = f"fast_{models}"
        found[name] = timed(
            device, name, lambda models=models: invert_fast([encoder] * models, problem, _OPTIONS)
        )
    for name, batched in (("published", False), ("published_batched", True)):
        published(1, batched)
        share = count / (_ITERATIONS - 1)
        found[name] = timed(device, name, lambda batched=batched: published(count, batched), share)
    one, seven = (found[f"fast_{models}"]["s_per_clip"] for models in (1, _MODELS))
    per_model = found["published"]["s_per_clip"]
    found["times_less"] = {"one": round(per_model / one, 1), "seven": round(_MODELS * per_model / seven, 1)}
    return found


def trained(folder: Path, asked: Any, trial: Trial) -> dict[str, Any]:
    """Train for some minutes, and reconstruct the clip; what the training reports, and the correlation."""
    path = folder / "encoder.pth"
    numbers = [part for one in asked.settings.split() for part in ("--set", one)]
    training = ["--preset", "published", "--layout", "sensorium", "--device", asked.device]
    told = rig(
        "train", "encoder", "--data", folder / "movies", "--out", path, *training,
        "--minutes", asked.minutes, *numbers,
    )  # fmt: skip
    print(f"training: {told}", file=sys.stderr)
    encoder = load_encoder(path).to(asked.device)
    movie = invert_fast([encoder], problem_of(encoder, trial), _OPTIONS)
    return {**told, "reconstruction": round(correlation(trial, movie), 4)}


def main() -> None:
    """Simulate, time, and train where that is asked for."""
    numbers = {"mice": 5, "neurons": 8000, "clips": 12, "iterations": 5, "minutes": 0.0}
    asked = arguments(__doc__, **numbers, device="cuda", settings="")
    if asked.device == "cuda" and not torch.cuda.is_available():
        tell(
            asked, {"skipped": "no GPU here; --device cpu with smaller --settings tries the benchmark itself"}
        )
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sizes = ["--mice", asked.mice, "--neurons", asked.neurons, "--clips", asked.clips, "--repeats", 1]
        rig("simulate-movies", "--out", folder / "movies", *sizes, "--oracle-clips", 1, "--seed", 50)
        mice = open_movies(folder / "movies", "sensorium")
        trial = next(one for one in mice[0].trials if one.tier == "oracle").load()
        encoder = untrained(mice, asked.settings.split(), asked.device)
        found = costs(encoder, problem_of(encoder, trial), asked.device, asked.iterations)
        training = trained(folder, asked, trial) if asked.minutes else None
    told = {"data": "simulated", "device": device_name(asked.device), "neurons": encoder.neurons}
    tell(asked, {**told, "reconstruction": found, "training": training})


if __name__ == "__main__":
    main()
