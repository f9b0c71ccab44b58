"""Arrays worked out once from a recording and kept on the disk until the recording changes."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.datasets.behavior import BehaviorRecording

_SAMPLED = 16  # frames whose pixels go into the key, spread over the recording


def recording_key(recording: BehaviorRecording) -> str:
    """Hexadecimal digest of where a recording lies, its shape, and the pixels of some of its frames."""
    digest = hashlib.sha256(
        f"{recording.path.resolve()} {recording.session} {recording.frames.shape}".encode()
    )
    for frame in np.linspace(0, len(recording) - 1, min(_SAMPLED, len(recording))).astype(int):
        digest.update(np.ascontiguousarray(recording.frames[frame : frame + 1]).tobytes())
    return digest.hexdigest()[:16]


def cached(
    cache: Path | None,
    recording: BehaviorRecording,
    name: str,
    make: Callable[[], dict[str, NDArray[np.generic]]],
) -> dict[str, NDArray[np.generic]]:
    """Return the arrays called `name` of a recording: from the folder `cache`, or made now and put there.

    Without a folder they are made. `name` must tell apart whatever else the arrays depend on.
    """
    if cache is None:
        return make()
    path = cache / f"{recording_key(recording)}-{name}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    arrays = make()
    cache.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.npz")  # two trainings may share the folder
    np.savez(partial, allow_pickle=False, **arrays)
    partial.replace(path)
    return arrays
