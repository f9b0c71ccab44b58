"""What is installed: drivers, decoders, commands and child processes, found through Python entry points.

Groups: ``rig.drivers`` (tag to a driver class), ``rig.decoders`` (tag to a `LiveDecoder` class), ``rig.commands``
(name to a typer app, or to a function that is one command), ``rig.children`` (name to the module the
engine starts as a process of its own). Our own register the same way as anybody else's, so the layers below never
import those above.
"""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from rig.errors import ConfigError

DRIVERS = "rig.drivers"
DECODERS = "rig.decoders"
COMMANDS = "rig.commands"
CHILDREN = "rig.children"


@cache
def _entries(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}


def names(group: str) -> list[str]:
    """Names registered in a group, sorted."""
    return sorted(_entries(group))


def load(group: str, name: str) -> Any:
    """Import what is registered under a name.

    Raises
    ------
    ConfigError
        When there is no such name, or the package that registered it cannot be imported.
    """
    entry = _entries(group).get(name)
    if entry is None:
        raise ConfigError(f"nothing named {name!r} is installed as {group}; valid: {', '.join(names(group))}")
    try:
        return entry.load()
    except ImportError as error:
        raise ConfigError(f"{name!r} ({entry.value}) cannot be imported: {error}") from error


def module(group: str, name: str) -> str:
    """Name of the module behind an entry, without importing it."""
    entry = _entries(group).get(name)
    if entry is None:
        raise ConfigError(f"nothing named {name!r} is installed as {group}; valid: {', '.join(names(group))}")
    return entry.module
