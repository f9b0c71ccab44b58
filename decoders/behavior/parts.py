"""Parts of the cortex: the groups of regions that Ajioka et al. 2024 (doi 10.1371/journal.pcbi.1011074) compared.

By the names that the built-in outline, the Allen CCF and the published data set's ROIs have for them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALL, LIMBS, REST = "all", "FL&HL", "all but FL&HL"
_ROIS = 50


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the cortex: the built-in outline's and the Allen CCF's names of its areas.

    `rois` are the numbers of the published data set's ROIs, and `published_auc` what its ROI-GRU reached with them
    (Ajioka et al. 2024, from the outputs stored with the published code).
    """

    areas: frozenset[str]
    rois: frozenset[int]
    published_auc: float


def _both(first: int, last: int) -> frozenset[int]:
    """ROIs of one hemisphere and their mirror images, 25 further on."""
    return frozenset(roi + side for roi in range(first, last + 1) for side in (0, 25))


_FOUR = frozenset({6, 8, 31, 33})  # forelimb and hindlimb S1: what "the other 46" leave out
PARTS: Mapping[str, Part] = {
    LIMBS: Part(frozenset({"FL", "HL", "SSp-ul", "SSp-ll"}), _both(6, 9), 0.966),
    "M1&M2": Part(frozenset({"M1", "M2", "MOp", "MOs"}), _both(1, 4), 0.869),
    "parietal&RS": Part(frozenset({"A", "RS", "VISa", "RSPagl", "RSPd", "RSPv"}), _both(14, 17), 0.776),
    "V1&medial visual": Part(frozenset({"V1", "AM", "PM", "VISp", "VISam", "VISpm"}), _both(18, 21), 0.793),
    "lateral visual&A1": Part(
        frozenset({"L", "LI", "AL", "RL", "POR", "PL", "AU"})
        | {"VISl", "VISli", "VISal", "VISrl", "VISpor", "VISpl", "AUDd", "AUDp", "AUDpo", "AUDv"},
        _both(22, 25),
        0.798,
    ),
}
PUBLISHED_AUC = {ALL: 0.974, REST: 0.938, **{name: part.published_auc for name, part in PARTS.items()}}
"""AUC of the published ROI-GRU by part; `REST` is that of the 46 ROIs other than 6, 8, 31 and 33."""


def part_names() -> list[str]:
    """Every part's name."""
    return [ALL, *PARTS, REST]


def part_rois(names: Sequence[str], part: str) -> tuple[str, ...]:
    """Those of a recording's ROIs that belong to a part: by area ("L-FL"), or by the published numbers 1 to 50."""
    if part == ALL:
        return tuple(names)
    if part == REST:
        limbs = part_rois(names, LIMBS)
        left_out = set(map(str, _FOUR)) if _published(names) else set(limbs)
        return tuple(name for name in names if name not in left_out) if limbs else ()
    if _published(names):
        return tuple(name for name in names if int(name) in PARTS[part].rois)
    return tuple(name for name in names if "-" in name and area_of(name) in PARTS[part].areas)


def part_mask(sides: Mapping[str, NDArray[np.bool_]], part: str) -> NDArray[np.bool_] | None:
    """Pixels (H, W) of a part, from those of its areas ("L-FL"); None when none of them lies in the frame."""
    names = part_rois(list(sides), part)
    return np.any([sides[name] for name in names], axis=0) if names else None


def _published(names: Sequence[str]) -> bool:
    return len(names) == _ROIS and all(name.isdecimal() for name in names)


def area_of(side: str) -> str:
    """Give the area of "L-FL": "FL"."""
    return side.split("-", 1)[1]
