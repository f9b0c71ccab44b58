"""The folder of an evaluation: claimed by one command, which goes on in it when it was broken off."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from decoders.behavior.evaluate import Evaluation
from decoders.behavior.runs import Request
from decoders.datasets.behavior import BehaviorRecording
from rig.errors import DataError

REQUEST = "request.json"
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
            r.session: {"mouse": r.mouse, "frames": len(r), "run_frames": int(r.running.sum())}
            for r in recordings
        },
    }


def claim(folder: Path, wanted: Mapping[str, Any]) -> None:
    """Make a folder for an evaluation, or go on in the one that the same evaluation made.

    Raises
    ------
    DataError
        When the folder holds something else, or another evaluation: it names the first thing that differs.
    """
    told = folder / REQUEST
    if not told.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder}: exists already and is no evaluation; give --out another name")
        if not folder.parent.is_dir():
            raise DataError(f"{folder}: there is no folder {folder.parent}")
        folder.mkdir(exist_ok=True)
        write_json(wanted, told)
        return
    found = read_json(told)
    for key, value in json.loads(json.dumps(wanted)).items():
        if found.get(key) != value:
            raise DataError(
                f"{folder}: an evaluation with other {key} ({_short(found.get(key))}, not {_short(value)});"
                " give --out another name"
            )


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write JSON, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote; raises `DataError`."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read; give --out another name") from error
    return content


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


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
