"""Our causal run/rest decoder beside the published CNN-GRU, trained on the same simulated mice, tested on others.

The CNN-GRU of Ajioka et al. 2024 (doi 10.1371/journal.pcbi.1011074) looks six frames ahead and is normalised by the
whole session; ours does neither. Both are trained on the same four mice (seeds 200 to 203; the published recipe also
takes the best epoch by a fifth, 204) and answer the five that `docs/decoders.md` reports on (seeds 100 to 104), 7,200
frames of 128 x 128 pixels each. Scored are the frames that both answer.

By default the published training is cut short: `--frames-per-epoch` frames are drawn in each of its three epochs and
both of its stages, in batches of 32. With `--frames-per-epoch 0` it has all of them (2.5 hours of a core), each image
once through the CNN for all windows that it is in. With `--windows separate`, which wants `--device cuda`, it is the
published one: each window's images for themselves, batches of 512 images and of 32 windows (five minutes of an H100).
Both start from random weights (published: ImageNet's); `--epochs` gives them more than three. `--folder` keeps
recordings and what was trained, and uses those that are there.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from benchmarks import arguments, device_name, rig, tell
from decoders.behavior.metrics import HALF, Answers, score_frames
from decoders.behavior.predictor import FitOptions, Predictor, fit
from decoders.datasets.behavior import BehaviorRecording, Excerpt
from decoders.datasets.recordings import open_recordings

_RECIPE = Path(__file__).parents[1] / "docs" / "training" / "behavior.yaml"
_TRAINING_SEED, _TEST_SEED, _MICE = 200, 100, 5
_MODELS = ("causal", "cnn-gru")

Device = Literal["cpu", "cuda"]


@contextmanager
def mice(folder: Path, seed: int) -> Iterator[Sequence[BehaviorRecording]]:
    """Five simulated mice from a seed on, recorded where they are not there yet."""
    if not folder.exists():
        rig("simulate", _RECIPE, "--out", folder, "--mice", _MICE, "--minutes", 4, "--seed", seed)
    with open_recordings([folder], "sessions") as found:
        yield found


def trained(model: str, recordings: Sequence[BehaviorRecording], options: FitOptions) -> Predictor:
    """Fit a model on all mice but the last, which the published recipe validates on."""
    excerpts = [Excerpt(recording, 0, len(recording)) for recording in recordings]
    return fit(model, excerpts[:-1], excerpts[-1:], options)


def scored(recording: BehaviorRecording, answers: dict[str, Any]) -> dict[str, dict[str, float]]:
    """AUC, and accuracy at 0.5, of every model on the frames that all of them answer."""
    known = np.all([np.isfinite(probability) for probability in answers.values()], axis=0)
    halves = np.full(len(recording), HALF), np.full(len(recording), np.inf)
    found = {}
    for model, probability in answers.items():
        same = np.where(known, probability, np.float32(np.nan))
        told = Answers(
            recording.mouse, recording.session, recording.rate_hz, same, recording.running, *halves
        )
        score = score_frames([told])
        found[model] = {"auc": round(score.auc, 4), "accuracy": round(score.accuracy, 4)}
    return found


def published_settings(frames_per_epoch: int, epochs: int, windows: str) -> dict[str, Any]:
    """Settings of the published training, cut short unless all frames (0) are asked for."""
    settings: dict[str, Any] = {"windows": windows, "epochs": epochs}
    if frames_per_epoch:
        drawn = {"frames_per_epoch": frames_per_epoch, "validation_frames": frames_per_epoch // 4}
        settings |= {**drawn, "batch": 32}
    return settings


def compared(
    folder: Path, models: Sequence[str], published: dict[str, Any], device: Device
) -> dict[str, Any]:
    """Train all models, and score all on the mice that none was trained on."""
    predictors, seconds = {}, {}
    with mice(folder / "training", _TRAINING_SEED) as recordings:
        for model in models:
            settings, at = (published, device) if model == "cnn-gru" else (None, "cpu")
            began_s = time.perf_counter()
            options = FitOptions(folder / "cache", device=at, threads=1, settings=settings)
            predictors[model] = trained(model, recordings, options)
            seconds[model] = round(time.perf_counter() - began_s)
    with mice(folder / "test", _TEST_SEED) as recordings:
        found = {
            recording.mouse: scored(recording, {name: p.predict(recording) for name, p in predictors.items()})
            for recording in recordings
        }
    means = {
        model: {
            figure: round(float(np.mean([scores[model][figure] for scores in found.values()])), 4)
            for figure in ("auc", "accuracy")
        }
        for model in models
    }
    return {"mean": means, "mice": found, "training_s": seconds}


def main() -> None:
    """Compare both models."""
    asked = arguments(
        __doc__,
        frames_per_epoch=4800,
        epochs=3,
        windows="shared",
        device="cpu",
        models=" ".join(_MODELS),
        folder="",
    )
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(asked.folder or temporary)
        published = published_settings(asked.frames_per_epoch, asked.epochs, asked.windows)
        report = compared(folder, asked.models.split(), published, asked.device)
    told = {"data": "simulated", "seeds": 1, "device": device_name(asked.device), "published": published}
    tell(asked, {**told, **report})


if __name__ == "__main__":
    main()
