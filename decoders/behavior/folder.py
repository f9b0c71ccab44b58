"""What the folder of an evaluation holds, and what its results depend on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from decoders.behavior.evaluate import Evaluation
from decoders.behavior.runs import Request
from decoders.datasets.behavior import BehaviorRecording
from decoders.datasets.cache import labels_key, recording_key

REPORT, PAGE, PREDICTIONS = "report.json", "report.html", "predictions.npz"


def describe(
    request: Request, recordings: Sequence[BehaviorRecording], data: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that the results of a fold depend on, as JSON; `data` are options of the reader."""
    options = request.options
    return {
        "model": request.model,
        "scheme": request.scheme,
        "blocks": asdict(request.blocks) if request.scheme == "within-session" else None,
        "seed": options.seed,
        "seeds": request.seeds,
        "epochs": options.epochs,
        "window_s": options.window_s,
        "settings": options.settings or {},
        **data,
        "recordings": {
            r.session: {"mouse": r.mouse, "frames": recording_key(r), "labels": labels_key(r.running)}
            for r in recordings
        },
    }


def write_predictions(evaluation: Evaluation, path: Path) -> None:
    """Write every run's probability, truth and threshold at every frame: `RUN/SESSION/probability` and so on."""
    arrays = {
        f"{run.name}/{a.session}/{name}": getattr(a, name)
        for run in evaluation.runs[evaluation.request.model]
        for a in run.answers
        for name in ("probability", "running", "threshold")
    }
    partial = path.with_name(f".{path.name}")
    with partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    partial.replace(path)
