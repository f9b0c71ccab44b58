"""`rig data`."""

import typer

data = typer.Typer(
    name="data", help="Fetch published data sets.", no_args_is_help=True, pretty_exceptions_enable=False
)


@data.callback()
def _group() -> None:
    """Fetch published data sets."""
