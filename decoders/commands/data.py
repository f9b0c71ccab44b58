"""`rig data`: published data sets from where they were published."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from decoders.commands.options import Json, report

data = typer.Typer(
    name="data", help="Fetch published data sets.", no_args_is_help=True, pretty_exceptions_enable=False
)


@data.callback()
def _group() -> None:
    """Fetch published data sets."""


@data.command()
def kobe(
    to: Annotated[Path, typer.Option("--to", help="Folder for the data; made if need be.")],
    base_url: Annotated[
        str, typer.Option("--base-url", help="Zenodo, or a mirror that serves its records the same way.")
    ] = "https://zenodo.org",
    as_json: Json = False,
) -> None:
    """Fetch the run/rest data of Ajioka et al. 2024 (Zenodo 10408334). Broken off, the same command goes on."""
    from decoders.datasets.download import KOBE_RECORD, fetch_record

    fetched = fetch_record(KOBE_RECORD, to, base_url)
    report({"record": KOBE_RECORD, "folder": str(to), "files": [asdict(file) for file in fetched]}, as_json)


@data.command()
def sensorium(
    to: Annotated[Path, typer.Option("--to", help="Folder for the data; made if need be.")],
    mouse: Annotated[
        list[str] | None,
        typer.Option("--mouse", help="A mouse, e.g. dynamic29515-10-12; may be repeated. All ten: 148 GB."),
    ] = None,
    base_url: Annotated[
        str, typer.Option("--base-url", help="GIN, or a mirror that serves its files the same way.")
    ] = "https://gin.g-node.org",
    as_json: Json = False,
) -> None:
    """Fetch mice of Sensorium 2023 (Turishcheva et al., on GIN). Broken off, the same command goes on."""
    from decoders.datasets.sensorium_download import fetch_sensorium

    fetched = fetch_sensorium(mouse or [], to, base_url)
    report({"folder": str(to), "files": [asdict(file) for file in fetched]}, as_json)
