"""The folder of a long command's results: claimed by one command, which goes on in it when it was broken off."""

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from rig.errors import DataError

REQUEST = "request.json"


def claim(folder: Path, wanted: Mapping[str, Any], what: str = "evaluation") -> None:
    """Make a folder for an evaluation, or go on in the one that the same evaluation made.

    Raises
    ------
    DataError
        When the folder holds something else, or another evaluation: it names the first thing that differs.
    """
    told = folder / REQUEST
    if not told.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder}: exists already and is no {what}; give --out another name")
        if not folder.parent.is_dir():
            raise DataError(f"{folder}: there is no folder {folder.parent}")
        folder.mkdir(exist_ok=True)
        write_json(wanted, told)
        return
    found = read_json(told)
    article = "an" if what[0] in "aeiou" else "a"
    for key, value in json.loads(json.dumps(wanted)).items():
        if found.get(key) != value:
            differs = f"other {key} ({_short(found.get(key))}, not {_short(value)})"
            raise DataError(f"{folder}: {article} {what} with {differs}; give --out another name")


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


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays as .npz, whole or not at all, in a folder that is made where it is missing; raises `DataError`."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written: {error}") from error


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read what `write_arrays` wrote, executing nothing in it; raises `DataError`."""
    try:
        with path.open("rb") as file, NpzFile(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged or cut short; delete it to have it made anew") from error


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
