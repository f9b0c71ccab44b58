"""From drops to answers: which areas come first, and whether their intervals lie apart from the rest.

Owns the statistics of `rig explain behavior`, the same for its two measures, AUC and evidence. A mouse's figure is the
mean over its models and sessions, with a bootstrap interval over those and over blocks of time; the figure of all is
the mean over mice, with a t interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from decoders.behavior.explain import Group, Measure, Run
from decoders.behavior.parts import LIMBS
from decoders.behavior.resampling import Interval, Samples, interval_over_mice, mean_samples

_LIMBS = (frozenset({"FL", "HL"}), frozenset({"SSp-ul", "SSp-ll"}), frozenset({LIMBS}))
"""Forelimb and hindlimb S1, as the built-in outline and the Allen CCF call them, and both as one part."""

_UNMASKED: Mapping[Measure, str] = {"auc": "auc", "evidence": "log_odds"}
"""Name in the report of a measure without a mask."""

Figures = Mapping[str, Sequence[Samples]]
"""Name of a mask to its samples: of one mouse, or of each mouse."""


@dataclass(frozen=True, slots=True)
class AreaRank:
    """One area, or one part of the cortex, both hemispheres together.

    Attributes
    ----------
    drop
        By how much the AUC, or the mean log odds, falls without the area.
    drop_per_mm2
        The same, divided by the area's size.
    circle_drop
        By how much it falls without a circle of one size for all areas, on each side; None when not asked for.
    above
        Areas whose drop is smaller: the paired difference's 95 % interval lies above zero.
    """

    name: str
    rank: int
    drop: Interval
    mm2: float
    drop_per_mm2: Interval
    circle_drop: Interval | None
    above: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Limbs:
    """Whether forelimb and hindlimb S1 rank first, and apart from all other areas."""

    ranks: Mapping[str, int]
    first: bool
    apart: bool


def by_mouse(runs: Sequence[Run], measure: Measure, group: Group) -> dict[str, dict[str, Samples]]:
    """Samples of every mask of a group, by mouse and name; only masks that all the mouse's recordings have."""
    mice: dict[str, dict[str, Samples]] = {}
    for mouse in dict.fromkeys(run.mouse for run in runs):
        own = [run.measured[measure].drops.get(group, {}) for run in runs if run.mouse == mouse]
        names = [name for name in own[0] if all(name in drops for drops in own)]
        mice[mouse] = {name: mean_samples([drops[name] for drops in own]) for name in names}
    return mice


def across(mice: Mapping[str, Mapping[str, Samples]]) -> dict[str, list[Samples]]:
    """Samples of each mask, one per mouse; only masks that all mice have."""
    first, *others = mice.values()
    return {
        name: [first[name], *(other[name] for other in others)] for name in first if _in_all(name, others)
    }


def rank_areas(
    areas: Figures,
    circles: Figures,
    mm2: Mapping[str, float],
) -> list[AreaRank]:
    """Order areas by their mean drop, largest first.

    Parameters
    ----------
    areas, circles
        Samples of one mouse or of several, in the same order of mice for every name.
    mm2
        Size of every area.
    """
    drops = {name: interval_over_mice(samples) for name, samples in areas.items()}
    ordered = sorted(drops, key=lambda name: -drops[name].mean)
    return [
        AreaRank(
            name=name,
            rank=rank,
            drop=drops[name],
            mm2=mm2[name],
            drop_per_mm2=interval_over_mice([samples / mm2[name] for samples in areas[name]]),
            circle_drop=interval_over_mice(circles[name]) if name in circles else None,
            above=_above(name, ordered, areas),
        )
        for rank, name in enumerate(ordered, start=1)
    ]


def _above(name: str, ordered: Sequence[str], areas: Figures) -> tuple[str, ...]:
    def difference(other: str) -> Interval:
        return interval_over_mice([a - b for a, b in zip(areas[name], areas[other], strict=True)])

    return tuple(other for other in ordered if other != name and difference(other).low > 0)


def limbs(ranked: Sequence[AreaRank]) -> Limbs | None:
    """Tell whether the limb areas rank first; None when the atlas has none in the frame."""
    names = {area.name for area in ranked}
    for pair in _LIMBS:
        if pair <= names:
            found = [area for area in ranked if area.name in pair]
            rest = names - pair
            return Limbs(
                ranks={area.name: area.rank for area in found},
                first=all(area.rank <= len(pair) for area in found),
                apart=bool(rest) and all(rest <= set(area.above) for area in found),
            )
    return None


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """All figures of a perturbation as plain JSON: `mean` over mice, and each of `mice`; `evidence` within each."""
    mean, mice = _measure(runs, "auc")
    mean["evidence"], evidence = _measure(runs, "evidence")
    limbs_counted = {**_counted(list(mice.values())), "evidence": _counted(list(evidence.values()))}
    told = {
        mouse: {
            "sessions": sorted({run.session for run in runs if run.mouse == mouse}),
            "models": sorted({run.model for run in runs if run.mouse == mouse}),
            **section,
            "evidence": evidence[mouse],
        }
        for mouse, section in mice.items()
    }
    return {"mean": mean, "limbs": limbs_counted, "mice": told}


def _measure(runs: Sequence[Run], measure: Measure) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Figures of one measure: of the mean over mice, and of each mouse."""
    groups: tuple[Group, ...] = ("grid", "areas", "parts", "sides", "circles", "border")
    samples = {group: by_mouse(runs, measure, group) for group in groups}
    of_mouse = {
        mouse: [run for run in runs if run.mouse == mouse]
        for mouse in dict.fromkeys(run.mouse for run in runs)
    }
    unmasked = {
        mouse: mean_samples([run.measured[measure].unmasked for run in own])
        for mouse, own in of_mouse.items()
    }
    key = _UNMASKED[measure]
    mice = {
        mouse: {
            key: as_json(interval_over_mice([unmasked[mouse]])),
            **_section(
                {group: {name: [one] for name, one in samples[group][mouse].items()} for group in groups},
                _mean_mm2(own),
            ),
        }
        for mouse, own in of_mouse.items()
    }
    mean = _section({group: across(samples[group]) for group in groups}, _mean_mm2(runs))
    return {key: as_json(interval_over_mice(list(unmasked.values()))), **mean}, mice


def _counted(mice: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """In how many mice the limb areas come first and lie apart: by areas, by circles of one size, as one part."""
    counts = {}
    for key in ("limbs_first", "limbs_first_by_circles", "limbs_first_of_parts"):
        found = [mouse[key] for mouse in mice if mouse.get(key)]
        if found:
            told = {what: sum(one[what] for one in found) for what in ("first", "apart")}
            counts[key] = {"mice": len(found), **told}
    return counts


def _section(figures: Mapping[Group, Figures], mm2: Mapping[str, float]) -> dict[str, Any]:
    section: dict[str, Any] = {"grid": _grid(figures["grid"])}
    if figures["border"]:
        section["border"] = [as_json(interval_over_mice(samples)) for samples in figures["border"].values()]
    if figures["areas"]:
        ranked = rank_areas(figures["areas"], figures["circles"], mm2)
        section["areas"] = [_area_json(area) for area in ranked]
        found = limbs(ranked)
        section["limbs_first"] = asdict(found) if found else None
    if figures["parts"]:
        ranked = rank_areas(figures["parts"], {}, mm2)
        section["parts"] = [_area_json(part) for part in ranked]
        section["limbs_first_of_parts"] = asdict(found) if (found := limbs(ranked)) else None
    if figures["circles"]:
        alike = rank_areas(figures["circles"], {}, dict.fromkeys(figures["circles"], 1.0))
        section["limbs_first_by_circles"] = asdict(found) if (found := limbs(alike)) else None
    if figures["sides"]:
        section["sides"] = {
            name: as_json(interval_over_mice(samples)) for name, samples in figures["sides"].items()
        }
    return section


def _grid(cells: Figures) -> dict[str, list[list[float | None]]]:
    places = [tuple(map(int, name.split(","))) for name in cells]
    rows, columns = (max(at) + 1 for at in zip(*places, strict=True))
    found = [as_json(interval_over_mice(samples)) for samples in cells.values()]
    return {
        what: [[cell[key] for cell in found[row * columns : (row + 1) * columns]] for row in range(rows)]
        for what, key in (("drop", "mean"), ("low", "low"), ("high", "high"))
    }


def _area_json(area: AreaRank) -> dict[str, Any]:
    return {
        "name": area.name,
        "rank": area.rank,
        "drop": as_json(area.drop),
        "mm2": round(area.mm2, 3),
        "drop_per_mm2": as_json(area.drop_per_mm2),
        "circle_drop": as_json(area.circle_drop) if area.circle_drop else None,
        "above": list(area.above),
    }


def as_json(found: Interval) -> dict[str, float | None]:
    """Five decimals; null where there is no number, as JSON has no NaN."""
    return {key: round(value, 5) if np.isfinite(value) else None for key, value in asdict(found).items()}


def _mean_mm2(runs: Sequence[Run]) -> dict[str, float]:
    names = dict.fromkeys(name for run in runs for name in run.mm2)
    return {name: float(np.mean([run.mm2[name] for run in runs if name in run.mm2])) for name in names}


def _in_all(name: str, others: Sequence[Mapping[str, Samples]]) -> bool:
    return all(name in other for other in others)
