"""An evaluation of reconstructions for people: one page that needs nothing else, and a table for the terminal."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from decoders.behavior.report import number
from decoders.reconstruction import figures
from decoders.reconstruction.departures import Departure

Json = Mapping[str, Any]
_ROWS = {
    "correlation": "correlation",
    "correlation_unsmoothed": "correlation, not smoothed",
    "frame_correlation": "correlation within frames",
    "ssim": "SSIM (not windowed)",
    "rmse": "RMSE, grey levels",
    "psnr_db": "PSNR, dB",
}
_DIGITS = {"rmse": 1, "psnr_db": 1}


def write_page(
    report: Json,
    path: Path,
    examples: Mapping[str, Mapping[str, NDArray[np.float32]]],
    departures: Mapping[str, Departure],
) -> None:
    """Write the report as a self-contained HTML page.

    Parameters
    ----------
    examples
        By clip, movies (T, 36, 64) by what they are.
    departures
        Maps by clip.
    """
    from jinja2 import Environment

    template = files("decoders.reconstruction").joinpath("report.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    text = page.render(
        report=report,
        rows=rows(report),
        number=number,
        interval=interval,
        clips=figures.embedded(figures.correlations(report)),
        ablations=figures.embedded(figures.ablations(report)) if report["ablations"] else None,
        surfaces={kind: figures.embedded(figures.surface(told)) for kind, told in report["stimuli"].items()},
        examples={name: figures.embedded(figures.strip(movies)) for name, movies in examples.items()},
        departures={
            name: [figures.embedded(draw(maps)) for draw in (figures.departure_maps, figures.departure_times)]
            for name, maps in departures.items()
        },
    )
    path.write_text(text, encoding="utf-8")


def rows(report: Json) -> dict[str, tuple[Json, int]]:
    """Rows of the table of figures: their name, what is told, decimals."""
    ours = {
        heading: (report[name], _DIGITS.get(name, 3)) for name, heading in _ROWS.items() if name in report
    }
    beside = {f"{name.replace('_', ' ')} (baseline)": (told, 3) for name, told in report["baselines"].items()}
    fits = report["response_fit"]
    return {
        **ours,
        "responses predicted from the movie": (fits["from_true"], 3),
        "responses predicted from the reconstruction": (fits["from_reconstruction"], 3),
        **beside,
    }


def tables(report: Json) -> list[Table]:
    """Figures, and ablations if there are any, for the terminal."""
    title = f"{report['recipe']} recipe, {len(report['models'])} models, {report['clips']} clips"
    shown = Table(title=f"{title}, {report['provenance']['data']} data")
    shown.add_column("")
    for heading in ("mean", "95 % interval"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for name, (told, digits) in rows(report).items():
        shown.add_row(name, number(told["mean"], digits), interval(told["interval"], digits))
    found = [shown]
    if report["ablations"]:
        found.append(_ablations(report))
    return found


def interval(low_high: list[float] | None, digits: int = 3) -> str:
    """Both ends; a dash where there is none."""
    return "-" if low_high is None else " to ".join(number(end, digits) for end in low_high)


def _ablations(report: Json) -> Table:
    shown = Table(title="ablations")
    shown.add_column("")  # the one that may wrap, on a narrow terminal
    for heading in ("correlation", "difference", "95 % interval", "published"):
        shown.add_column(heading, justify="right", no_wrap=True)
    everything, published = report["correlation"]["mean"], report["published_correlation"]
    shown.add_row("everything", number(everything), "-", "-", number(published))
    for name, told in report["ablations"].items():
        change = told["difference"]
        beside = number(told["published"])
        if told["published_difference"] is not None:
            beside += f" ({told['published_difference']:+.3f})"
        shown.add_row(
            name, number(told["mean"]), number(change["mean"]), interval(change["interval"]), beside
        )
    return shown
