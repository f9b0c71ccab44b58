"""Where the mice of Sensorium 2023 are published: one zip archive each, in two repositories on GIN."""

from collections.abc import Sequence
from pathlib import Path

import requests

from decoders.datasets.download import Fetched, RecordFile, fetch_files, unreachable
from rig.errors import DataError

GIN = "https://gin.g-node.org"
_NEW = "Video-9b4f6a1a067fe51e15306b9628efea20"  # responses of the test tiers withheld
_OLD = "Video-8744edeac3b4d1ce16b680916b5267ce"
MICE = {
    **{
        f"dynamic{mouse}-{_NEW}": "pollytur/sensorium_2023_dataset"
        for mouse in ("29515-10-12", "29623-4-9", "29647-19-8", "29712-5-9", "29755-2-8")
    },
    **{
        f"dynamic{mouse}-{_OLD}": "pollytur/Sensorium2023Data"
        for mouse in ("29156-11-10", "29228-2-10", "29234-6-9", "29513-3-5", "29514-2-9")
    },
}
"""Name of each mouse's archive and folder, and the repository it is in."""
_TIMEOUT_S = 30.0


def fetch_sensorium(mice: Sequence[str], folder: Path, base_url: str = GIN) -> list[Fetched]:
    """Fetch mice, all ten if none is named, into `folder` and unpack them there.

    Raises
    ------
    DataError
        When a name is of no mouse or of several, or as `fetch_files` says.
    """
    chosen = list(dict.fromkeys(_mouse(name) for name in mice)) or list(MICE)
    return fetch_files([_archive(mouse, base_url.rstrip("/")) for mouse in chosen], folder)


def _mouse(name: str) -> str:
    """Full name of a mouse by a part of it."""
    found = [mouse for mouse in MICE if name and name in mouse]
    if len(found) != 1:
        what = "is no mouse" if not found else f"could be {len(found)} mice"
        raise DataError(f"--mouse {name}: {what}; valid are {', '.join(MICE)}")
    return found[0]


def _archive(mouse: str, base_url: str) -> RecordFile:
    """Archive of a mouse; its size as the server says, its checksum unknown."""
    url = f"{base_url}/{MICE[mouse]}/raw/master/{mouse}.zip"
    try:
        size = _size(url, "HEAD") or _size(url, "GET")  # some servers tell it only with the file
    except requests.RequestException as error:
        raise unreachable(url, error) from error
    if size is None:
        raise DataError(f"{url}: the server does not say how large it is; valid is a Content-Length")
    return RecordFile(f"{mouse}.zip", url, size, None)


def _size(url: str, method: str) -> int | None:
    """Size of a file in bytes by the answer's header, without fetching it."""
    headers = {"Accept-Encoding": "identity"}
    with requests.request(
        method, url, timeout=_TIMEOUT_S, allow_redirects=True, headers=headers, stream=True
    ) as answer:
        answer.raise_for_status()
        size = answer.headers.get("Content-Length", "")
        return int(size) if size.isdigit() else None
