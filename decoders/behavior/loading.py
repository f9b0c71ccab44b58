"""Fitted run/rest models from checkpoints of any kind, and which mouse each was kept from."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decoders.behavior.explain import Model
from decoders.behavior.folder import REPORT
from decoders.behavior.live import KIND as _CAUSAL
from decoders.behavior.predictor import Predictor
from decoders.checkpoint import read_checkpoint
from decoders.result_folder import REQUEST
from rig.errors import CheckpointError

if TYPE_CHECKING:
    from decoders.behavior.baselines import Kind

_PUBLISHED = ("behavior-cnn", "behavior-cnn-gru-published")
_BASELINES: "dict[str, Kind]" = {"behavior-brightness": "brightness", "behavior-logistic": "logistic"}


def load_predictor(path: Path, cache: Path) -> Predictor:
    """Load the model of a checkpoint.

    Parameters
    ----------
    path
        The checkpoint.
    cache
        Folder for normalised frames, where the kind of model keeps them.

    Raises
    ------
    CheckpointError
        When the file is damaged, or holds no run/rest model that looks at images.
    """
    kind = read_checkpoint(path).kind
    if kind in _BASELINES:
        from decoders.behavior.baselines import load_baseline

        return load_baseline(path, _BASELINES[kind], cache)
    if kind in _PUBLISHED:
        from decoders.behavior.published import load as load_published

        return load_published(path, cache)
    if kind == _CAUSAL:
        from decoders.behavior.causal import load as load_causal

        return load_causal(path, cache)
    valid = ", ".join([_CAUSAL, *_PUBLISHED, *_BASELINES])
    raise CheckpointError(f"{path}: holds a {kind!r} decoder, not one of images to explain; valid: {valid}")


def load_models(given: Sequence[Path], mice: Sequence[str], cache: Path) -> list[Model]:
    """Load models from checkpoints, and from folders of them as `rig evaluate behavior --out` writes.

    A model explains the mouse it was kept from, by the evaluation's report or by the `test_mouse` of its own
    provenance. Any other checkpoint that is named itself explains every mouse.

    Raises
    ------
    CheckpointError
        When there are none, one cannot be loaded, or one in a folder is of none of `mice`.
    """
    found = [(path, place.is_dir()) for place in given for path in _checkpoints(place)]
    if not found:
        places = ", ".join(map(str, given))
        raise CheckpointError(f"{places}: no checkpoint; valid is what `rig evaluate behavior --out` wrote")
    return [_model(path, mice, cache, in_folder) for path, in_folder in found]


def _model(path: Path, mice: Sequence[str], cache: Path, in_folder: bool) -> Model:
    mouse = _test_mouse(path)
    if mouse not in mice and (in_folder or mouse is not None):
        kept_from = "no mouse that is known" if mouse is None else f"mouse {mouse}"
        raise CheckpointError(
            f"{path}: was kept from {kept_from}; valid here are models kept from {', '.join(mice)}, by the report.json "
            "of their evaluation"
        )
    return Model(path.stem, load_predictor(path, cache), mouse)


def _test_mouse(path: Path) -> str | None:
    """Mouse that a checkpoint was kept from; None when neither it nor a report beside it says."""
    told = read_checkpoint(path).provenance.get("test_mouse")
    report = path.parent.parent / REPORT
    if told is None and path.parent.name == "checkpoints":
        _refuse_unfinished(path.parent.parent)
    if told is not None or path.parent.name != "checkpoints" or not report.exists():
        return told
    evaluation = _read(report)
    if evaluation.get("scheme") == "within-session":
        raise CheckpointError(
            f"{path}: was trained on other blocks of the session it was tested on; valid are models of the schemes "
            "published and leave-one-animal-out"
        )
    folds = (
        fold for fold in evaluation.get("folds", []) if f"checkpoints/{path.name}" in fold["checkpoints"]
    )
    return next((str(fold["test_mouse"]) for fold in folds), None)


def _refuse_unfinished(place: Path) -> None:
    """Refuse the folder of an evaluation that has no report yet: which mouse its models were kept from is not told."""
    if (place / REQUEST).exists() and not (place / REPORT).exists():
        raise CheckpointError(
            f"{place}: an unfinished evaluation, without {REPORT}; the same `rig evaluate behavior` with --out {place}"
            " goes on with it"
        )


def _read(report: Path) -> dict[str, Any]:
    try:
        content = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{report}: cannot be read ({error}); valid is an evaluation's report"
        ) from error
    return content if isinstance(content, dict) else {}


def _checkpoints(place: Path) -> list[Path]:
    """A file itself; of a folder, the checkpoints in it or in its folder `checkpoints`."""
    if not place.is_dir():
        return [place]
    _refuse_unfinished(place)
    inner = place / "checkpoints"
    return sorted((inner if inner.is_dir() else place).glob("*.npz"))
