"""An evaluation for people: one page that needs nothing else, and a table for the terminal."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.table import Table

from decoders.behavior.evaluate import Evaluation
from decoders.behavior.figures import as_svg, draw

Json = Mapping[str, Any]
_COLUMNS = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "accuracy_calibrated": "accuracy, calibrated",
    "brier": "Brier",
    "calibration_error": "ECE",
    "accuracy_own_majority": "own majority",
    "run_fraction": "runs",
}
_BRIEF = ("auc", "accuracy", "brier", "calibration_error")  # what a terminal of 80 columns has room for
_CAPTIONS = {
    "Area under the ROC curve by mouse": "Bar: 95 % interval over blocks of 10 s. Grey: 95 % of AUCs with labels"
    " shifted in time (chance).",
    "Accuracy at a probability of 0.5 by mouse": "No threshold chosen. Bar: 95 % interval over blocks of 10 s.",
    "ROC curves": "One line a mouse.",
    "Calibration": "On the grey line, the animal runs as often as the probability says.",
    "Delay against false alarms": "Each line is one mouse over all thresholds; the circle is what the threshold gives"
    " that was chosen on other animals for one false alarm per minute (grey line).",
    "Window": "The model fitted anew with each window.",
    "Example": "The session with the middle accuracy, from its first answer.",
}


def write_page(evaluation: Evaluation, report: Json, path: Path) -> None:
    """Write the report as a self-contained HTML page."""
    from jinja2 import Environment

    template = files("decoders.behavior").joinpath("report.html.j2").read_text(encoding="utf-8")
    figures = [
        (title, as_svg(figure), _CAPTIONS[title]) for title, figure in draw(evaluation, report).items()
    ]
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    text = page.render(
        report=report, columns=_COLUMNS, figures=figures, number=number, delay=delay, rows=_rows(report)
    )
    path.write_text(text, encoding="utf-8")


def table(report: Json) -> Table:
    """Figures by mouse, their mean, and the models beside, for the terminal."""
    shown = Table(title=f"{report['model']}, {report['scheme']}, {report['provenance']['data']} data")
    shown.add_column("", no_wrap=True)
    for heading in (*(_COLUMNS[column] for column in _BRIEF), "delay, ms", "false alarms/min"):
        shown.add_column(heading, justify="right")
    for name, figures in _rows(report).items():
        onsets = figures["onsets"]
        last = delay(onsets), number(onsets["false_alarms_per_min"], 2)
        shown.add_row(name, *(number(figures[column]) for column in _BRIEF), *last)
    return shown


def number(value: float | None, digits: int = 3) -> str:
    """Three decimals; a dash for a figure without a value."""
    return "-" if value is None else f"{value:.{digits}f}"


def delay(onsets: Json) -> str:
    """Median delay, or a dash."""
    return number(onsets["median_ms"], 0)


def _rows(report: Json) -> dict[str, Json]:
    """Rows of the table: every mouse, the mean, and the mean of every model beside."""
    beside = {**report["baselines"], **report["other_models"]}
    return {**report["mice"], "mean": report["mean"], **beside}
