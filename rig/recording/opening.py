"""Opens a session file for reading, in whatever state its writer left it.

An SWMR reader takes damaged metadata for metadata that is just being written, and waits for it: a file that was cut
off would hang it (HDF5 2.0 doubles its pause a hundred times). So the file's own statement of its length, in its
superblock (HDF5 file format 3.0, section II.A, version 3), is compared with its real length first.
"""

import io
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import hdf5plugin  # noqa: F401  registers the frames' compression with HDF5

from rig.errors import SessionFileError
from rig.recording.session_file import reason_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_SUPERBLOCK = struct.Struct(
    "<8sBBBBQQQ"
)  # signature, version, sizes of addresses, flags, base, extension, end
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_VERSION = 3


class _PaddedFile(io.FileIO):
    """A file that reads as zeros from its end up to where it should end."""

    def __init__(self, path: Path, end: int) -> None:
        super().__init__(path, "r")
        self._end = end

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_END:
            return super().seek(self._end + offset)
        return super().seek(offset, whence)

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer).cast("B")
        count = super().readinto(view) or 0
        view[count:] = bytes(len(view) - count)
        return len(view)


class OpenedFile:
    """A session file, open for reading. `lacks_end`: its last bytes are missing, and read as zeros.

    A closed file lacks its end when it was cut off, or when the disk was full as its writer closed it: then
    everything that had been flushed is still there.

    Raises
    ------
    SessionFileError
        When it is missing, is no session file, or was cut off.
    """

    def __init__(self, path: Path) -> None:
        self._padded: _PaddedFile | None = None
        if not path.is_file():
            raise SessionFileError(f"{path} does not exist or is no file")
        try:
            self.hdf5 = self._open(path)
        except (OSError, RuntimeError) as error:
            self._close_padded()
            raise SessionFileError(
                f"{path} is damaged or no session file of cortexrig: {reason_of(error)}"
            ) from error

    def _open(self, path: Path) -> h5py.File:
        """Open plainly what was closed, and as SWMR reader what was not."""
        is_open, end = _superblock(path)
        size = path.stat().st_size
        if is_open and size < end:
            raise SessionFileError(f"{path} is cut off: {size} bytes of at least {end} are left")
        if is_open:
            return h5py.File(path, "r", swmr=True)
        if size < end:
            self._padded = _PaddedFile(path, end)
        return h5py.File(self._padded or path, "r")

    @property
    def lacks_end(self) -> bool:
        """Whether the last bytes of a closed file are missing."""
        return self._padded is not None

    def close(self) -> None:
        """Close it; safe twice."""
        self.hdf5.close()
        self._close_padded()

    def _close_padded(self) -> None:
        if self._padded is not None:
            self._padded.close()


def _superblock(path: Path) -> tuple[bool, int]:
    """Whether the file was open for writing when it was last touched, and where it should end."""
    with path.open("rb") as file:
        head = file.read(_SUPERBLOCK.size)
    if len(head) < _SUPERBLOCK.size or head[:8] != _SIGNATURE or head[8] != _VERSION:
        raise SessionFileError(
            f"{path} is damaged or no session file of cortexrig: it does not begin like one"
        )
    *_, flags, _base, _extension, end = _SUPERBLOCK.unpack(head)
    return bool(flags & 1), end
