"""Plots of an evaluation, each as SVG text. Colours and markers are told apart by every kind of colour vision."""

import io
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decoders.behavior.evaluate import Evaluation, Run
from decoders.behavior.metrics import Answers, pooled, roc_curve
from decoders.behavior.onsets import MOST_PER_MIN

Json = Mapping[str, Any]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES = ("-", "--", "-.", ":")
GREY = "#8c8c8c"
STYLE: Any = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
_RUNNING = "#f3d9a4"
_EXAMPLE_S = 90.0
_MOST_SHOWN_PER_MIN = 10.0  # false alarms; nobody would close a loop with more


def draw(evaluation: Evaluation, report: Json) -> dict[str, Figure]:
    """Every plot that the evaluation has data for, by its title."""
    model = evaluation.request.model
    runs = _first_runs(evaluation.runs[model])
    with rc_context(STYLE):
        found = {
            "Area under the ROC curve by mouse": _models(report, model, "auc"),
            "Accuracy at a probability of 0.5 by mouse": _models(report, model, "accuracy"),
            "ROC curves": _roc(runs),
            "Calibration": _reliability(report["mice"]),
            "Delay against false alarms": _trade_off(report["mice"]),
        }
        if report["sweep"]:
            found["Window"] = _sweep(report["sweep"])
        example = _example(runs)
        if example is not None:
            found["Example"] = example
    return found


def as_svg(figure: Figure) -> str:
    """Return a figure as an SVG element, without the XML header, to stand in a page."""
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def _models(report: Json, model: str, figure: str) -> Figure:
    """One column a mouse: the model with its interval, the models beside it, the null's range in grey."""
    drawn, axes = _axes(6.4, 3.6)
    mice = list(report["mice"])
    beside = {**report["baselines"], **report["other_models"]}
    rows = {model: report["mice"], **{name: told["mice"] for name, told in beside.items()}}
    spread = np.linspace(-0.3, 0.3, len(rows))
    for shift, (name, told), (colour, marker) in zip(spread, rows.items(), _looks(len(rows)), strict=True):
        values = _numbers(told[mouse][figure] for mouse in mice)
        axes.plot(np.arange(len(mice)) + shift, values, marker, color=colour, markersize=7, label=name)
    for at, mouse in enumerate(mice):
        low_high = report["mice"][mouse]["intervals"].get(figure)
        if low_high and None not in low_high:
            axes.plot([at + spread[0]] * 2, low_high, color=COLOURS[0], linewidth=1.5)
        null = report["mice"][mouse]["null"].get("range")
        if figure == "auc" and null:
            axes.fill_between([at - 0.4, at + 0.4], *null, color=GREY, alpha=0.25, linewidth=0)
    if figure == "auc":
        axes.axhline(0.5, color=GREY, linewidth=1)
    axes.set_xticks(
        range(len(mice)), mice, rotation=20 if len(mice) > 3 else 0, ha="right" if len(mice) > 3 else "center"
    )
    axes.set_ylabel("AUC" if figure == "auc" else "fraction of frames right")
    axes.set_ylim(top=1.01)
    axes.legend(frameon=False, ncols=1, loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn


def _roc(runs: Sequence[Run]) -> Figure:
    drawn, axes = _axes(4.2, 4.0)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    for run, look in zip(runs, _line_looks(len(runs)), strict=True):
        probability, running, _ = pooled(run.answers)
        if running.any() and not running.all():
            false, true = roc_curve(probability, running)
            kept = np.unique(np.linspace(0, len(false) - 1, 400).astype(int))
            axes.plot(false[kept], true[kept], **look, label=run.mouse)
    axes.set_xlabel("rest frames called running, fraction")
    axes.set_ylabel("running frames called running, fraction")
    axes.set_aspect("equal")
    axes.legend(frameon=False, loc="lower right")
    return drawn


def _reliability(mice: Json) -> Figure:
    drawn, axes = _axes(4.2, 4.0)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    for (mouse, told), look in zip(mice.items(), _line_looks(len(mice)), strict=True):
        probability, ran = (_numbers(told["calibration"][key]) for key in ("probability", "run_fraction"))
        there = np.isfinite(probability)
        axes.plot(probability[there], ran[there], ".", **look, label=mouse)
    axes.set_xlabel("probability of running")
    axes.set_ylabel("time running at that probability, fraction")
    axes.set_aspect("equal")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn


def _trade_off(mice: Json) -> Figure:
    """Median delay over false alarms; thresholds at which half of the onsets are missed have no point."""
    drawn, axes = _axes(5.4, 4.0)
    for (mouse, told), look in zip(mice.items(), _line_looks(len(mice)), strict=True):
        curve, chosen = told["onsets"]["trade_off"], told["onsets"]
        axes.plot(_numbers(curve["false_alarms_per_min"]), _numbers(curve["median_ms"]), **look, label=mouse)
        at = _numbers([chosen["false_alarms_per_min"]]), _numbers([chosen["median_ms"]])
        axes.plot(*at, "o", color=look["color"], markersize=9, markeredgecolor="black")
    axes.axvline(MOST_PER_MIN, color=GREY, linewidth=1)
    axes.set_xlim(0, _MOST_SHOWN_PER_MIN)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("false alarms per minute of rest")
    axes.set_ylabel("median delay from onset to decision, ms")
    axes.legend(
        frameon=False,
        title="circle: threshold of the\nother animals",
        loc="center left",
        bbox_to_anchor=(1, 0.5),
    )
    return drawn


def _sweep(rows: Sequence[Json]) -> Figure:
    """AUC over the window, after figure 2F of Ajioka et al. 2024."""
    drawn, axes = _axes(5.4, 3.6)
    windows = [row["window_s"] for row in rows]
    mice = list(rows[0]["mice"])
    for mouse, look in zip(mice, _line_looks(len(mice)), strict=True):
        values = _numbers(row["mice"][mouse] for row in rows)
        axes.plot(windows, values, **{**look, "linewidth": 1.0}, label=mouse)
    axes.plot(windows, _numbers(row["auc"] for row in rows), "o-", color="black", linewidth=2.5, label="mean")
    axes.set_xscale("log")
    axes.set_xticks(windows, [f"{s:g}" for s in windows])
    axes.minorticks_off()
    axes.set_xlabel("window, s, all before the decision")
    axes.set_ylabel("AUC")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn


def _example(runs: Sequence[Run]) -> Figure | None:
    """Ninety seconds of the session whose score is in the middle: truth shaded, probability, threshold."""
    sessions = [a for run in runs for a in run.answers if a.known.any()]
    if not sessions:
        return None
    answers = sorted(sessions, key=_right)[len(sessions) // 2]
    start = int(np.flatnonzero(answers.known)[0])
    frames = slice(start, min(len(answers.running), start + round(_EXAMPLE_S * answers.rate_hz)))
    seconds = np.arange(frames.start, frames.stop) / answers.rate_hz
    drawn, axes = _axes(11.0, 2.4)
    shade: dict[str, Any] = {"color": _RUNNING, "linewidth": 0, "step": "mid", "label": "truly running"}
    axes.fill_between(seconds, 0, answers.running[frames], **shade)
    axes.plot(seconds, answers.probability[frames], color=COLOURS[0], linewidth=1.2, label="probability")
    axes.plot(
        seconds, answers.threshold[frames], color=COLOURS[1], linewidth=1, linestyle="--", label="threshold"
    )
    axes.set_xlabel(f"time in session {answers.session} of mouse {answers.mouse}, s")
    axes.set_ylabel("probability\nof running")
    axes.set_ylim(0, 1.02)
    axes.margins(x=0)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn


def _right(answers: Answers) -> float:
    known = answers.known
    right = (answers.probability >= answers.threshold) == answers.running
    return float(right[known].mean())


def _first_runs(runs: Sequence[Run]) -> list[Run]:
    """First run of every mouse."""
    return list({run.mouse: run for run in reversed(runs)}.values())[::-1]


def _axes(width_in: float, height_in: float) -> tuple[Figure, Axes]:
    drawn = Figure(figsize=(width_in, height_in))
    return drawn, drawn.subplots()


def _looks(count: int) -> list[tuple[str, str]]:
    return list(islice(zip(cycle(COLOURS), cycle(MARKERS), strict=False), count))


def _line_looks(count: int) -> list[dict[str, Any]]:
    """Colours first, then dashes: mice beyond the number of colours."""
    return [
        {
            "color": COLOURS[k % len(COLOURS)],
            "linestyle": _LINES[k // len(COLOURS) % len(_LINES)],
            "linewidth": 1.8,
        }
        for k in range(count)
    ]


def _numbers(values: Any) -> "np.ndarray[Any, np.dtype[np.float64]]":
    return np.array([np.nan if value is None else value for value in values], np.float64)
