"""One file for a trained decoder: weights, configuration, normalisation and where it comes from.

A NumPy ``.npz``: arrays by name, and one array ``metadata`` of UTF-8 JSON. Nothing in it is executed when it is
read (no pickle). The same content gives the same bytes.
"""

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from rig.errors import CheckpointError
from rig.messages import FrameStream

FORMAT = "cortexrig-checkpoint"
VERSION = 1
SHIPPED = Path(__file__).parent / "checkpoints"
_METADATA = "metadata"
_SLOWER = 0.95  # a camera this much slower than the training frames still counts as the same rate


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a trained decoder consists of.

    `kind` says which decoder reads it. `settings` are its own numbers (network sizes, time constants, lag);
    `height_px`, `width_px` and `rate_hz` are those of the frames it was trained on, after any binning.
    `provenance` says what it was trained on, how, and what it scored.
    """

    kind: str
    height_px: int
    width_px: int
    rate_hz: float
    arrays: Mapping[str, NDArray[Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the file whole or not at all; an existing one is never replaced.

        Raises
        ------
        CheckpointError
            When the file exists or cannot be written.
        """
        if path.exists():
            raise CheckpointError(f"{path}: exists already; give --out another name or move the file away")
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with partial.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, **{**self.arrays, _METADATA: self._metadata()})
            partial.rename(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise CheckpointError(f"{path}: cannot be written: {error}") from error

    def check_fits(self, path: Path, source: FrameStream, *, any_size: bool = False) -> None:
        """Refuse frames that the decoder was not trained on: another shape, or a slower camera.

        A multiple of the trained size, the same in height and width, fits, since it can be binned to it; so does
        a faster camera, of which the decoder takes every frame that begins a new period of the trained rate. With
        `any_size` the shape is left to whoever brings the frames to the trained one.

        Raises
        ------
        CheckpointError
            Naming the checkpoint, the camera, what it has and what would be valid.
        """
        multiple = source.height_px // self.height_px  # of one edge alone it would squash what is seen
        whole = (multiple * self.height_px, multiple * self.width_px)
        if not any_size and (multiple < 1 or (source.height_px, source.width_px) != whole):
            raise CheckpointError(
                f"{path}: camera {source.name!r} has {source.height_px}x{source.width_px} pixels;"
                f" valid are {self.height_px}x{self.width_px} and whole multiples, the same in height and width"
            )
        if source.rate_hz < _SLOWER * self.rate_hz:
            raise CheckpointError(
                f"{path}: camera {source.name!r} runs at {source.rate_hz:g} Hz;"
                f" valid is {self.rate_hz:g} Hz, as in training, or faster"
            )

    def _metadata(self) -> NDArray[np.uint8]:
        content = {
            "format": FORMAT,
            "version": VERSION,
            "kind": self.kind,
            "frames": {"height_px": self.height_px, "width_px": self.width_px, "rate_hz": self.rate_hz},
            "settings": dict(self.settings),
            "provenance": dict(self.provenance),
        }
        return np.frombuffer(json.dumps(content, sort_keys=True).encode(), np.uint8)


def load_checkpoint(path: Path, kind: str, needs: tuple[str, ...] = ()) -> Checkpoint:
    """Read a checkpoint of one kind, executing nothing in it.

    Raises
    ------
    CheckpointError
        When the file is missing, cut short, not a checkpoint, of another kind or version, or without one of the
        settings that its reader `needs`.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.kind != kind:
        raise CheckpointError(f"{path}: holds a {checkpoint.kind!r} decoder; valid here is {kind!r}")
    lacking = [name for name in needs if name not in checkpoint.settings]
    if lacking:
        raise CheckpointError(
            f"{path}: of an earlier version, without {', '.join(lacking)}; train it anew with `rig train`"
        )
    return checkpoint


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of any kind, as `load_checkpoint`."""
    arrays = _read_arrays(path)
    try:
        content = json.loads(bytes(arrays.pop(_METADATA)))
        version = content["version"] if content["format"] == FORMAT else None
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{path}: not a {FORMAT}; valid is a file that `rig train` wrote") from None
    if version != VERSION:
        raise CheckpointError(f"{path}: format version {version}; valid is {VERSION}")
    settings, provenance = content["settings"], content["provenance"]
    frames = content["frames"]
    return Checkpoint(content["kind"], **frames, arrays=arrays, settings=settings, provenance=provenance)


def resolve(name: str, shipped: str) -> Path:
    """Path of a checkpoint as a rig's YAML names it: a file, or "shipped" for the one in the package."""
    return SHIPPED / shipped if name == "shipped" else Path(name)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file, NpzFile(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such checkpoint; make one with `rig train`, or use 'shipped'"
        ) from None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: cut short, damaged or not a {FORMAT}: {reason}") from error
