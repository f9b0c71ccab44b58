"""Where a recording comes from: which version of the program wrote it, on what."""

import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from rig.recording.layout import FORMAT_VERSION

DISTRIBUTION = "cortexrig"
_GIT_S = 5.0


def provenance() -> dict[str, object]:
    """Versions of the file's format, of this program, of Python and of every package it requires."""
    return {
        "format_version": FORMAT_VERSION,
        "program": DISTRIBUTION,
        "version": metadata.version(DISTRIBUTION),
        "commit": _commit(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": _packages(),
    }


def _packages() -> dict[str, str]:
    """Versions of the installed packages that the program requires."""
    versions = {}
    for requirement in metadata.requires(DISTRIBUTION) or []:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # an extra that is not installed
            continue
    return versions


def _commit() -> str:
    """Commit of the checkout this code runs from, with -dirty when changed; empty in an installed copy."""
    here = Path(__file__)
    try:
        _git(here.parent, "ls-files", "--error-unmatch", here.name)
        return _git(here.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):  # no git here, or not a checkout
        return ""


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_GIT_S).stdout.strip()
