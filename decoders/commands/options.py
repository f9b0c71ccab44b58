"""What the decoders' commands share: options, where a result came from, and how it is printed."""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import yaml

from rig.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from decoders.datasets.behavior import LabelRule

Data = Annotated[
    list[Path], typer.Option("--data", help="Session file, or folder of recordings; may be repeated.")
]
Out = Annotated[Path, typer.Option("--out", help="Checkpoint to write; never overwritten.")]
Series = Annotated[
    str | None, typer.Option("--series", help="One-photon series in other programs' NWB files, name or path.")
]
Speed = Annotated[
    str | None, typer.Option("--speed", help="Running speed in other programs' NWB files, name or path.")
]
SpeedUnit = Annotated[
    Literal["m/s", "cm/s", "mm/s"] | None,
    typer.Option("--speed-unit", help="Unit of the speed, if not as stated; layout kobe: cm/s."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")]
Threads = Annotated[int, typer.Option(min=1, max=1024, help="CPU threads of a network.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of weights, and of what is drawn.")]


def _found(device: str) -> str:
    """Look for the GPU that is asked for, before the work and not after; torch is imported only then."""
    if device != "cpu":
        from decoders.training import check_device

        check_device(device)
    return device


Device = Annotated[Literal["cpu", "cuda"], typer.Option(callback=_found, help="Where networks compute.")]


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
    """Print a report on standard output: one line of JSON for scripts, a tree for people."""
    from rig import terminal

    if as_json:
        sys.stdout.write(json.dumps(content) + "\n")
    else:
        terminal.print_report(content)


def settings(given: list[str]) -> dict[str, Any]:
    """Numbers of a model's recipe from KEY=VALUE; values as in YAML. Raises `ConfigError`."""
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {text}: valid is KEY=VALUE")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"--set {text}: the value cannot be read; valid is a number, word or list"
            ) from error
    return found


def label_rule(
    threshold_mm_s: float | None, smoothing_s: float | None, min_bout_s: float | None
) -> "LabelRule | None":
    """Rule to label running anew by, the usual numbers where None; None when all are: the data's own labels."""
    from decoders.datasets.behavior import LabelRule

    given = {"threshold_mm_s": threshold_mm_s, "smoothing_s": smoothing_s, "min_bout_s": min_bout_s}
    changed = {name: value for name, value in given.items() if value is not None}
    return LabelRule(**changed) if changed else None
