"""`rig evaluate`."""

import typer

evaluate = typer.Typer(
    name="evaluate",
    help="Score decoders on recordings they were not trained on.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@evaluate.callback()
def _group() -> None:
    """Score decoders on recordings they were not trained on."""
