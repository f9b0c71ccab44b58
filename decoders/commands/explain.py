"""`rig explain`."""

import typer

explain = typer.Typer(
    name="explain",
    help="Show which cortex a decoder used.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@explain.callback()
def _group() -> None:
    """Show which cortex a decoder used."""
