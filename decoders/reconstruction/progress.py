"""How far something iterative has come: a bar on standard error."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Advance = Callable[[float, int], None]
"""Told the loss (NaN: none) and how many iterations were made."""


@contextmanager
def show_progress(iterations: int, *, shown: bool, name: str = "reconstructing") -> Iterator[Advance]:
    """Show a bar with the time left on standard error; yields what tells it the loss and how far it has come."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown) as progress:
        bar = progress.add_task(name, total=iterations)

        def advance(loss: float, made: int) -> None:
            description = name if math.isnan(loss) else f"{name}, loss {loss:.4g}"
            progress.update(bar, advance=made, description=description)

        yield advance
