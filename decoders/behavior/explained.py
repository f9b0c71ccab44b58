"""Which cortex a model uses, for people: the figures of `rig explain behavior` as short tables for the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from decoders.behavior.report import number

Json = Mapping[str, Any]
_SHOWN_AREAS = 12


def tables(content: Json) -> Iterator[Table]:
    """Make tables of a report: mice, areas ranked by their mean, and models retrained on parts; those it has."""
    data = content["provenance"]["data"]
    if "mice" in content:
        yield _mice(content, f"mice, {data} data")
    mean = content.get("mean", {})
    for group, each in (("areas", "area"), ("parts", "part of the cortex")):
        if group in mean:
            after = f"without each {each}, mean of mice, {data} data"
            yield _areas(mean[group], f"AUC drop {after}")
            yield _areas(mean["evidence"][group], f"evidence drop (log odds) {after}")
    if "retraining" in content:
        yield _parts(content["retraining"], data)


def _mice(content: Json, title: str) -> Table:
    table = _table(title, "AUC", "95 %", "most important area", "its drop")
    for name, section in {**content["mice"], "mean": content["mean"]}.items():
        first = section.get("areas", [None])[0]
        area = (first["name"], number(first["drop"]["mean"])) if first else ("-", "-")
        table.add_row(name, number(section["auc"]["mean"]), _between(section["auc"]), *area)
    return table


def _areas(areas: list[Json], title: str) -> Table:
    table = _table(title, "drop", "95 %", "by circle", "mm2")
    for area in areas[:_SHOWN_AREAS]:
        circle = area["circle_drop"]["mean"] if area["circle_drop"] else None
        figures = number(area["drop"]["mean"]), _between(area["drop"]), number(circle), number(area["mm2"], 2)
        table.add_row(f"{area['rank']} {area['name']}", *figures)
    if len(areas) > _SHOWN_AREAS:
        table.caption = f"{len(areas) - _SHOWN_AREAS} more areas below"
    return table


def _parts(retraining: Json, data: str) -> Table:
    table = _table(
        f"{retraining['model']} retrained on parts, {data} data", "AUC", "95 %", "published ROI-GRU"
    )
    for name, part in retraining["parts"].items():
        published = number(part["published_auc"])
        table.add_row(name, number(part["auc"]["mean"]), _between(part["auc"]), published)
    return table


def _between(interval: Json) -> str:
    return f"{number(interval['low'])} to {number(interval['high'])}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table
