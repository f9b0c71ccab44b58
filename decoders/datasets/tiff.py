"""Frames of a multi-page TIFF that stay on the disk: mapped where they lie in one piece, else page by page."""

import logging
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from decoders.datasets.behavior import FrameSource
from rig.errors import DataError

_DAMAGED = (
    tifffile.TiffFileError,
    OSError,
    ValueError,
    struct.error,
    zlib.error,
    IndexError,
    TypeError,
    KeyError,
)


class MappedFrames:
    """Frames (T, H, W) that lie in one uncompressed piece; a slice is a copy in the machine's byte order."""

    def __init__(self, pixels: NDArray[np.generic]) -> None:
        self._pixels = pixels
        self.shape: tuple[int, ...] = pixels.shape

    def __getitem__(self, frames: slice) -> NDArray[np.generic]:
        """Read frames of a slice, (n, H, W)."""
        return np.array(self._pixels[frames], self._pixels.dtype.newbyteorder("="))


class PagedFrames:
    """Frames (T, H, W) read page by page while `file` is open."""

    def __init__(self, path: Path, file: tifffile.TiffFile) -> None:
        self._path = path
        self._file = file
        series = file.series[0]
        self.shape: tuple[int, ...] = series.shape
        self._dtype = np.dtype(series.dtype).newbyteorder("=")

    def __getitem__(self, frames: slice) -> NDArray[np.generic]:
        """Read frames of a slice, (n, H, W).

        Raises
        ------
        DataError
            When a page is damaged.
        """
        pages = range(*frames.indices(self.shape[0]))
        pixels = np.empty((len(pages), *self.shape[1:]), self._dtype)
        for k, page in enumerate(pages):
            try:
                pixels[k] = self._file.asarray(key=page)
            except _DAMAGED as error:
                raise _cut_short(self._path, f"page {page} cannot be read: {_reason(error)}") from error
        return pixels


@contextmanager
def tiff_frames(path: Path) -> Iterator[FrameSource]:
    """Open the frames of a multi-page TIFF or BigTIFF with one channel of whole numbers.

    Raises
    ------
    DataError
        When the file is cut short, damaged, or holds something else.
    """
    with _opened(path) as file:
        _check(path, file)
        series = file.series[0]
        if series.dataoffset is None:
            _refuse_unknown_compression(path, file)
            yield PagedFrames(path, file)
        else:
            dtype = np.dtype(file.byteorder + np.dtype(series.dtype).char)
            yield MappedFrames(np.memmap(path, dtype, "r", series.dataoffset, series.shape))


@contextmanager
def _opened(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF and walk all of its pages; what tifffile would only log of a damaged file is an error."""
    complaints = _Complaints()
    log = logging.getLogger("tifffile")
    log.addFilter(complaints)
    try:
        file = tifffile.TiffFile(path)
        try:
            len(file.pages), file.series
        except BaseException:
            file.close()
            raise
    except _DAMAGED as error:
        raise _cut_short(path, _reason(error)) from error
    finally:
        log.removeFilter(complaints)
    with file:
        if complaints.heard:
            raise _cut_short(path, complaints.heard[0])
        yield file


class _Complaints(logging.Filter):
    """Keeps warnings and errors to itself instead of passing them on."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        self.heard.append(record.getMessage())
        return False


def _check(path: Path, file: tifffile.TiffFile) -> None:
    shapes = [series.shape for series in file.series]
    if len(shapes) != 1 or len(shapes[0]) != 3 or np.dtype(file.series[0].dtype).kind not in "ui":
        dtype = file.series[0].dtype if file.series else "nothing"
        raise DataError(
            f"{path}: holds {shapes} of {dtype}; valid is one stack of pages (T, H, W) of whole numbers"
        )
    size = path.stat().st_size
    end = _end(file)
    if end > size:
        raise _cut_short(path, f"{size} bytes of at least {end} are left")


def _refuse_unknown_compression(path: Path, file: tifffile.TiffFile) -> None:
    try:
        file.asarray(key=0)
    except _DAMAGED as error:
        if "imagecodecs" not in str(error):
            raise _cut_short(path, f"page 0 cannot be read: {_reason(error)}") from error
        raise DataError(
            f"{path}: its compression needs the package imagecodecs ({_reason(error)}); "
            "install it, or save the stack uncompressed"
        ) from error


def _end(file: tifffile.TiffFile) -> int:
    """Where the last pixels end, in bytes from the file's beginning."""
    series = file.series[0]
    if series.dataoffset is not None:
        return int(series.dataoffset + series.nbytes)
    page = file.pages[-1]
    ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False))
    return max(ends, default=0)


def _cut_short(path: Path, reason: str) -> DataError:
    return DataError(f"{path}: TIFF cut short or damaged: {reason}; fetch or copy it again")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
