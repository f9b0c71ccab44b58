"""Fetches published files: those a Zenodo record lists, or given ones; checked, gone on with where they broke off."""

import logging
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pooch
import requests

from rig.errors import DataError

ZENODO = "https://zenodo.org"
KOBE_RECORD = "10408334"
"""Ajioka et al. 2024, doi 10.5281/zenodo.10408334."""
_LOG = logging.getLogger(__name__)
_CHUNK_BYTES = 1 << 16  # what is lost of a line that breaks
_TIMEOUT_S = 30.0
_JUNK = "__MACOSX/"
_MOUSE_PARTS = {"data", "meta"}  # what an archive of Sensorium 2023 holds

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class RecordFile:
    """One published file: name, address, size, and checksum ("md5:..."), None where none is published."""

    name: str
    url: str
    size_bytes: int
    checksum: str | None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of one file: `fetched` is False when it was there already; `unpacked` files came out of it."""

    name: str
    size_bytes: int
    checksum: str
    fetched: bool
    unpacked: int


def fetch_record(record: str, folder: Path, base_url: str = ZENODO) -> list[Fetched]:
    """Fetch every file of a record into `folder` and unpack its zip archives there.

    Files that are there and whole are not fetched again; a file broken off is gone on with (HTTP Range).

    Raises
    ------
    DataError
        When the record or a file cannot be had, a checksum is wrong, or the disk is too small.
    """
    return fetch_files(record_files(record, base_url), folder)


def fetch_files(files: list[RecordFile], folder: Path) -> list[Fetched]:
    """Fetch files into `folder` as `fetch_record` does.

    Where no checksum is published, the SHA-256 of what came is kept in ``NAME.sha256`` beside it, and holds from then
    on. An archive of ``data/`` and ``meta/`` without a folder of its own is unpacked into one of the archive's name.

    Raises
    ------
    DataError
        When a file cannot be had, a checksum is wrong, an archive is damaged or holds a path outside its folder, or the
        disk is too small.
    """
    _make(folder)
    _refuse_full_disk(files, folder)
    with _progress(sum(file.size_bytes for file in files)) as show:
        return [_fetch(file, folder, show) for file in files]


def record_files(record: str, base_url: str = ZENODO) -> list[RecordFile]:
    """Files that a record lists, by Zenodo's REST interface; raises `DataError`."""
    url = f"{base_url.rstrip('/')}/api/records/{record}"
    try:
        answer = requests.get(url, timeout=_TIMEOUT_S)
        answer.raise_for_status()
        listed = [_record_file(entry, url, base_url) for entry in answer.json()["files"]]
    except (requests.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{url}: no record of Zenodo ({error!r}); valid is JSON with files") from error
    except requests.RequestException as error:
        raise unreachable(url, error) from error
    if not listed:
        raise DataError(f"{url}: the record lists no file")
    return listed


def _record_file(entry: dict[str, Any], record_url: str, base_url: str) -> RecordFile:
    name = str(entry["key"])
    if Path(name).name != name:
        raise DataError(f"{record_url}: file name {name!r}; valid is a name without folders")
    link = str(entry["links"]["self"])
    if link.startswith(ZENODO):  # a mirror serves the record as it is, with Zenodo's links
        link = base_url.rstrip("/") + link.removeprefix(ZENODO)
    return RecordFile(name, urljoin(record_url, link), int(entry["size"]), str(entry["checksum"]))


def _fetch(file: RecordFile, folder: Path, show: Callable[[str], Advance]) -> Fetched:
    target = folder / file.name
    fetch = ResumingDownload(target.with_name(target.name + ".part"), file.size_bytes, show(file.name))
    pooch.get_logger().setLevel(logging.WARNING)  # the progress bar says it
    checksum = file.checksum or _kept_checksum(target)
    try:
        pooch.retrieve(file.url, checksum, fname=file.name, path=folder, downloader=fetch)
        checksum = checksum or _keep_checksum(target)
    except requests.RequestException as error:
        raise unreachable(file.url, error) from error
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror or error}") from error
    except ValueError as error:
        whose = "as the record says" if file.checksum else f"as {_checksum_file(target)} says"
        raise DataError(
            f"{file.url}: checksum is not {checksum} {whose}; it was thrown away, fetch it again"
        ) from error
    if not fetch.used:
        fetch.advance(file.size_bytes)
    return Fetched(file.name, file.size_bytes, checksum, fetch.used, _unpack(target))


def _checksum_file(target: Path) -> Path:
    return target.with_name(target.name + ".sha256")


def _kept_checksum(target: Path) -> str | None:
    """Checksum of the first download, if there was one."""
    kept = _checksum_file(target)
    return f"sha256:{kept.read_text(encoding='ascii').split()[0]}" if kept.exists() else None


def _keep_checksum(target: Path) -> str:
    """Keep the checksum of a first download, in the form of sha256sum."""
    digest = str(pooch.file_hash(str(target)))
    _checksum_file(target).write_text(f"{digest}  {target.name}\n", encoding="ascii")
    _LOG.warning("%s: no checksum is published; this one's is kept and holds from now on: %s", target, digest)
    return f"sha256:{digest}"


class ResumingDownload:
    """Downloader for pooch that keeps what it has in a file of its own, and goes on from there.

    Parameters
    ----------
    part
        What has come so far; moved away once the file is whole.
    size_bytes
        Size of the whole file.
    advance
        Told the number of bytes that came.
    """

    def __init__(self, part: Path, size_bytes: int, advance: Advance) -> None:
        self.used = False
        self.advance = advance
        self._part = part
        self._size_bytes = size_bytes

    def __call__(self, url: str, output_file: Any, pooch: Any) -> None:
        """Fetch `url`, going on as long as something comes; raises `requests.RequestException` when nothing does."""
        self.used = True
        self.advance(self._have())
        while not self._goes_through(url):
            _LOG.warning("%s broke off at %d of %d bytes; going on", url, self._have(), self._size_bytes)
        os.replace(self._part, output_file)

    def _goes_through(self, url: str) -> bool:
        """Fetch what is missing; False when the line broke, but something came."""
        have = self._have()
        try:
            self._go_on(url, have)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            if self._have() <= have:
                raise
            return False
        return True

    def _have(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _go_on(self, url: str, have: int) -> None:
        if have and have >= self._size_bytes:  # whole; the checksum says whether rightly so
            return
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
            answer.raise_for_status()
            goes_on = answer.status_code == requests.codes.partial_content
            if have and not goes_on:
                self.advance(-have)
            with self._part.open("ab" if goes_on else "wb") as file:
                for chunk in answer.iter_content(_CHUNK_BYTES):
                    file.write(chunk)
                    self.advance(len(chunk))


def _unpack(path: Path) -> int:
    """Unpack a zip archive beside itself, what is not there yet; returns how many files it holds."""
    if path.suffix.lower() != ".zip":
        return 0
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not (m.is_dir() or m.filename.startswith(_JUNK))]
            bare = {Path(member.filename).parts[0] for member in members} <= _MOUSE_PARTS
            folder = path.with_suffix("") if bare else path.parent
            _refuse_outside(members, folder, path)
            for member in members:
                if not _is_unpacked(member, folder):
                    archive.extract(member, folder)
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise DataError(f"{path}: cannot be unpacked: {error}") from error
    return len(members)


def _refuse_outside(members: list[zipfile.ZipInfo], folder: Path, path: Path) -> None:
    for member in members:
        if not (folder / member.filename).resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{path}: holds {member.filename!r}, outside its folder; nothing was unpacked")


def _is_unpacked(member: zipfile.ZipInfo, folder: Path) -> bool:
    file = folder / member.filename
    return file.is_file() and file.stat().st_size == member.file_size


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be made: {error.strerror}; give a folder that can be written"
        ) from error


def _refuse_full_disk(files: list[RecordFile], folder: Path) -> None:
    have = sum(
        (folder / name).stat().st_size
        for file in files
        for name in (file.name, file.name + ".part")
        if (folder / name).exists()
    )
    needed, free = sum(file.size_bytes for file in files) - have, shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed; give a larger disk"
        )


def unreachable(url: str, error: requests.RequestException) -> DataError:
    """One line that says why an address gave nothing."""
    status = error.response.status_code if error.response is not None else None
    why = (
        f"the server answers {status}"
        if status is not None
        else f"cannot be reached ({type(error).__name__})"
    )
    return DataError(
        f"{url}: {why}; what has come is kept, the same command goes on; --base-url names a mirror"
    )


@contextmanager
def _progress(size_bytes: int) -> Iterator[Callable[[str], Advance]]:
    """Show bytes, speed and time left of the whole record on standard error."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from rig import terminal

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with terminal.progress(*columns) as progress:
        task = progress.add_task("", total=size_bytes)

        def begin(name: str) -> Advance:
            progress.update(task, description=name)
            return lambda count: progress.advance(task, count)

        yield begin
