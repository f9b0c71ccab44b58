"""Arrays worked out once from a recording and kept on the disk until the recording changes."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from decoders.datasets.behavior import BehaviorRecording
from rig.errors import DataError

_SAMPLED = 16  # frames whose pixels go into the key, spread over the recording


def recording_key(recording: BehaviorRecording) -> str:
    """Hexadecimal digest of where a recording lies, its shape, and the pixels of some of its frames."""
    digest = hashlib.sha256(
        f"{recording.path.resolve()} {recording.session} {recording.frames.shape}".encode()
    )
    for frame in np.linspace(0, len(recording) - 1, min(_SAMPLED, len(recording))).astype(int):
        digest.update(np.ascontiguousarray(recording.frames[frame : frame + 1]).tobytes())
    return digest.hexdigest()[:16]


def labels_key(running: NDArray[np.bool_]) -> str:
    """Hexadecimal digest of run/rest labels (T,)."""
    return hashlib.sha256(running.tobytes()).hexdigest()[:16]


def cached(
    cache: Path | None,
    recording: BehaviorRecording,
    name: str,
    make: Callable[[], dict[str, NDArray[np.generic]]],
) -> dict[str, NDArray[np.generic]]:
    """Return the small arrays called `name` of a recording: from the folder `cache`, or made now and put there.

    Without a folder they are made. `name` must tell apart whatever else the arrays depend on.

    Raises
    ------
    DataError
        When the folder cannot be written.
    """
    if cache is None:
        return make()
    path = cache / f"{recording_key(recording)}-{name}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    arrays = make()
    with _kept(path) as file, _writing(path):
        np.savez(file, allow_pickle=False, **arrays)
    return arrays


def cached_frames(
    cache: Path | None,
    recording: BehaviorRecording,
    name: str,
    shape: tuple[int, ...],
    make: Callable[[], Iterable[NDArray[np.float16]]],
) -> NDArray[np.float16]:
    """Return the large array called `name` of a recording, (T, ...): it stays on the disk and is mapped.

    Parameters
    ----------
    cache
        Folder that keeps it; None: a temporary file, gone with the array.
    shape
        Of the whole array.
    make
        Makes it in order, a batch of frames (n, ...) at a time.

    Raises
    ------
    DataError
        When the folder cannot be written.
    """
    if cache is None:
        with tempfile.TemporaryFile() as file:
            _write(file, Path(tempfile.gettempdir()), shape, make())
            return _mapped(file, shape)
    path = cache / f"{recording_key(recording)}-{name}.npy"
    if not path.exists():
        with _kept(path) as file:
            _write(file, path, shape, make())
    with path.open("rb") as file:
        return _mapped(file, shape)


@contextmanager
def _kept(path: Path) -> Iterator[BinaryIO]:
    """Write a file whole or not at all, under a name of our own: two trainings may share the folder."""
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = partial.open("w+b")
    try:
        with file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error


def _write(
    file: BinaryIO, path: Path, shape: tuple[int, ...], batches: Iterable[NDArray[np.float16]]
) -> None:
    """Write an array batch by batch. Not through a map: a full disk would then kill the process."""
    described = {"descr": npy.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False, "shape": shape}
    npy.write_array_header_2_0(file, described)
    for batch in batches:
        with _writing(path):
            file.write(np.ascontiguousarray(batch, np.float16).data)
    with _writing(path):
        file.flush()


def _mapped(file: BinaryIO, shape: tuple[int, ...]) -> NDArray[np.float16]:
    """Map what `_write` wrote, read-only; the file may be closed."""
    file.seek(0)
    npy.read_magic(file)
    npy.read_array_header_2_0(file)
    return np.asarray(np.memmap(file, np.float16, "r", file.tell(), shape))
