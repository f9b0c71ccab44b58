"""Fitted run/rest models from checkpoints of any kind, and which mouse each was kept from."""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from decoders.behavior.explain import Model
from decoders.behavior.predictor import Predictor
from decoders.checkpoint import Checkpoint, read_checkpoint
from rig.errors import CheckpointError

if TYPE_CHECKING:
    from decoders.behavior.baselines import Kind

_LOADERS = {
    "behavior-cnn-gru": "decoders.behavior.train:load",
}
"""Kind of a checkpoint to the function that loads its predictor: (path) to `Predictor`."""
_BASELINES: "dict[str, Kind]" = {"behavior-brightness": "brightness", "behavior-logistic": "logistic"}
"""Baselines that look at an image; they keep normalised frames in a cache folder."""


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
    if kind not in _LOADERS:
        valid = ", ".join([*_LOADERS, *_BASELINES])
        raise CheckpointError(
            f"{path}: holds a {kind!r} decoder, not one of images to explain; valid: {valid}"
        )
    module, function = _LOADERS[kind].split(":")
    predictor: Predictor = getattr(importlib.import_module(module), function)(path)
    return predictor


def load_models(given: Sequence[Path], mice: Sequence[str], cache: Path) -> list[Model]:
    """Load models from checkpoints, and from folders of them as `rig evaluate behavior --out` writes.

    A model explains the mouse it was kept from: the `test_mouse` of its provenance, or the mouse that its file is
    named after (`MOUSE.npz`, `MOUSE_valid-OTHER.npz`, `MOUSE_seed1.npz`). Any other checkpoint that is named itself explains every mouse.

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
    mouse = _test_mouse(path, read_checkpoint(path), mice)
    if mouse is None and in_folder:
        raise CheckpointError(
            f"{path}: was kept from none of the mice {', '.join(mice)}; valid are models of the schemes published and "
            "leave-one-animal-out on these data (name the file itself to explain every mouse with it)"
        )
    return Model(path.stem, load_predictor(path, cache), mouse)


def _test_mouse(path: Path, checkpoint: Checkpoint, mice: Sequence[str]) -> str | None:
    told = checkpoint.provenance.get("test_mouse")
    if told is not None:
        return told if told in mice else None
    named = path.stem.split("_")[0]
    return next((mouse for mouse in mice if _file_name(mouse) == named), None)


def _file_name(mouse: str) -> str:
    """As the checkpoints of an evaluation are named: anything but letters, digits, full stops is a hyphen."""
    return re.sub(r"[^\w.-]|_", "-", mouse)


def _checkpoints(place: Path) -> list[Path]:
    """A file itself; of a folder, the checkpoints in it or in its folder `checkpoints`."""
    if not place.is_dir():
        return [place]
    inner = place / "checkpoints"
    return sorted((inner if inner.is_dir() else place).glob("*.npz"))
