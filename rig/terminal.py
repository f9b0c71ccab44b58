"""What the terminal shows: a run as it goes, progress bars, and reports for people."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.tree import Tree

if TYPE_CHECKING:
    from rig.acquisition.engine import Engine

_LOG = logging.getLogger(__name__)
_REFRESH_S = 0.25
_LOG_EVERY_S = 10.0


@contextmanager
def live(engine: "Engine") -> Iterator[None]:
    """Show a run while it goes: a table on a terminal, a line every ten seconds elsewhere."""
    done = threading.Event()
    console = Console(stderr=True)
    show = _show_table if console.is_terminal else _show_lines
    thread = threading.Thread(target=show, args=(engine, console, done), name="display")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def bar(title: str, total: int, *, transient: bool = False) -> Iterator[Callable[[int], None]]:
    """Show a progress bar with the time left, without a terminal a line every ten seconds; yields what advances it.

    A `transient` bar is gone when it is full. No thread outlives it, as that of `Progress.track` does after an error.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with progress(*columns, transient=transient) as shown:
        task, may_log = shown.add_task(title, total=total), seldom()

        def advance(steps: int) -> None:
            shown.advance(task, steps)
            if shown.disable and may_log():
                _LOG.info("%s: %.0f of %d", title, shown.tasks[0].completed, total)

        yield advance


def progress(*columns: ProgressColumn, transient: bool = False) -> Progress:
    """Make a progress display on standard error; without a terminal it prints nothing, not even an empty line."""
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=transient, disable=not console.is_terminal)


def seldom(period_s: float = _LOG_EVERY_S) -> Callable[[], bool]:
    """Make what says whether to log again: True when `period_s` have passed since now, or since it last said so."""
    last_s = time.monotonic()

    def due() -> bool:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s < period_s:
            return False
        last_s = now_s
        return True

    return due


def print_report(content: dict[str, Any]) -> None:
    """Print a report for people."""
    tree = Tree(str(content.get("session", "report")), hide_root=True)
    _grow(tree, content)
    console = Console()
    if not console.is_terminal:  # a file or a pipe wants whole values
        console = Console(width=1000)
    console.print(tree)


def _grow(tree: Tree, content: dict[str, Any]) -> None:
    for key, value in content.items():
        if isinstance(value, dict) and value:
            _grow(tree.add(str(key)), value)
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            tree.add(f"{key}: {shown}".replace("[", "\\["))


def _show_table(engine: "Engine", console: Console, done: threading.Event) -> None:
    with Live(console=console, refresh_per_second=4, transient=True) as screen:
        while not done.wait(_REFRESH_S):
            screen.update(_table(engine.status()))


def _show_lines(engine: "Engine", console: Console, done: threading.Event) -> None:
    while not done.wait(_LOG_EVERY_S):
        status = engine.status()
        streams = ", ".join(
            f"{name} {s['received']} ({s['rate_hz']} Hz, {s['lost']} lost)"
            for name, s in status["streams"].items()
        )
        _LOG.info("%s %.0f s: %s", status["state"], status["elapsed_s"], streams)


def _table(status: dict[str, Any]) -> Table:
    title = f"{status['state']}   {status['elapsed_s']:.1f} s   {status['file'] or 'not recorded'}"
    table = Table("stream", "received", "rate", "lost", "clock residual", title=title, title_justify="left")
    for name, s in status["streams"].items():
        residual = s.get("clock_residual_ms", -1.0)
        lost = f"[bold red]{s['lost']}[/]" if s["lost"] else "0"
        table.add_row(
            name,
            str(s["received"]),
            f"{s['rate_hz']:.1f} Hz",
            lost,
            f"{residual:.2f} ms" if residual >= 0 else "-",
        )
    for name, d in status["decoders"].items():
        latency = d["latency_ms"]
        spent = f"p50 {latency['p50']:.1f}, p99 {latency['p99']:.1f} ms" if latency else "-"
        table.add_row(
            name, f"{d['decisions']} decisions", spent, f"{d['skipped']} skipped", f"start {d['generation']}"
        )
    recorder = status["recorder"]
    if recorder:
        table.caption = (
            f"disk queue {recorder['queued_mb']} MB (most {recorder['high_water_mb']}), "
            f"{recorder['disk_free_gb']} GB free, {recorder['minutes_left']:.0f} min left"
        )
    return table
