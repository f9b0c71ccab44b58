"""What the decoders' commands share: options, where a result came from, and how it is printed."""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from rig.errors import CheckpointError

Data = Annotated[
    list[Path], typer.Option("--data", help="Session file, or folder of recordings; may be repeated.")
]
Out = Annotated[Path, typer.Option("--out", help="Checkpoint to write; never overwritten.")]
Json = Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")]


def refuse_existing(out: Path) -> None:
    """Say so before hours of training, not after."""
    if out.exists():
        raise CheckpointError(f"{out}: exists already; give --out another name or move the file away")
    if not out.parent.is_dir():
        raise CheckpointError(f"{out}: there is no folder {out.parent}")


def provenance(command: str, origins: list[str]) -> dict[str, str]:
    """Command, kind of data ("simulated", "recorded" or both) and versions: where a result came from."""
    versions = {name: version(name) for name in ("cortexrig", "numpy", "torch")}
    return {"command": command, "data": " and ".join(sorted(set(origins))), "versions": json.dumps(versions)}


def report(content: dict[str, Any], as_json: bool) -> None:
    """Print a report on standard output: one line of JSON for scripts, indented for people."""
    sys.stdout.write(json.dumps(content, indent=None if as_json else 2) + "\n")
