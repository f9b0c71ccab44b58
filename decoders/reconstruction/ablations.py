"""Ways to reconstruct that leave something out, to see what it is worth, with the published figures of each.

Published: Bauer, Margrie, Clopath, eLife 14: RP105081 (2026), doi 10.7554/eLife.105081; correlations of 50 clips of
five mice, seven models, after smoothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from rig.errors import ConfigError

ABLATIONS = (
    "ensemble",
    "population",
    "mask",
    "strict-mask",
    "gradient-ensembling",
    "noise-free",
    "behavior",
    "motion",
)
POPULATION_SHARES = (0.5, 0.25, 0.125)
MAIN = "all"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to reconstruct; by default with everything.

    Attributes
    ----------
    models
        How many of the encoders take part; None: all.
    population
        Share of the neurons, drawn at random; the others are left out of the loss.
    responses
        Recorded, or noise-free: what the encoders predict for the movie that was shown.
    behavior
        As recorded, or the mean of the training tier at every frame.
    mask
        As given, none, or only pixels of 1 and more.
    motion
        Average along the camera's motion.
    gradients
        Average the models' gradients in one reconstruction, rather than their movies.
    """

    name: str = MAIN
    models: int | None = None
    population: float = 1.0
    responses: Literal["recorded", "predicted"] = "recorded"
    behavior: Literal["recorded", "mean"] = "recorded"
    mask: Literal["given", "none", "strict"] = "given"
    motion: bool = True
    gradients: bool = False

    @property
    def published(self) -> float | None:
        """The published correlation; None where none is stated."""
        return _PUBLISHED.get(self.name)


_PUBLISHED = {
    MAIN: 0.569,
    "ensemble 1": 0.44,  # implied by "28 % higher than a single model"
    "population 50 %": 0.512,
    "population 25 %": 0.427,
    "population 12.5 %": 0.344,
    "no mask": 0.510,
    "strict mask": 0.551,
    "gradient ensembling": 0.552,
    "noise-free responses": 0.766,
}


def variants(
    asked: Iterable[str],
    models: int,
    *,
    masked: bool,
    recipe: str,
    begun: bool = False,
    motion: bool = True,
) -> list[Variant]:
    """Ways to reconstruct that some ablations ask for, everything first; "all" stands for those that are possible.

    `begun` tells whether the reconstruction begins at what a preview reads, `motion` whether it is averaged along the
    camera's motion.

    Raises
    ------
    ConfigError
        For an unknown ablation, or one that these encoders, this recipe or the lack of a mask do not allow.
    """
    named = list(dict.fromkeys(asked))
    obstacle = partial(_obstacle, models=models, masked=masked, recipe=recipe, begun=begun, motion=motion)
    for name in named:
        if name not in (*ABLATIONS, "all"):
            raise ConfigError(f"--ablation {name}: unknown; valid: {', '.join((*ABLATIONS, 'all'))}")
        if reason := obstacle(name):
            raise ConfigError(f"--ablation {name}: {reason}")
    if "all" in named:
        named = [name for name in ABLATIONS if not obstacle(name)]
    return [Variant(), *(variant for name in named for variant in _of(name, models))]


def _obstacle(name: str, models: int, *, masked: bool, recipe: str, begun: bool, motion: bool) -> str | None:
    if name in ("ensemble", "gradient-ensembling") and models < 2:
        return "needs two encoders or more"
    if name in ("mask", "strict-mask") and not masked:
        return "needs a mask; give --mask"
    if name == "population" and begun:
        return "is of a preview that knows all neurons; leave out --preview"
    if name == "gradient-ensembling" and recipe != "published":
        return f"is of the published recipe, not of {recipe!r}; give --recipe published"
    if name == "motion" and recipe != "fast":
        return f"is of the fast recipe, not of {recipe!r}; give --recipe fast"
    if name == "motion" and not motion:
        return "compares with the average along the motion; leave out --no-motion"
    return None


def _of(name: str, models: int) -> list[Variant]:
    if name == "ensemble":
        return [Variant(f"ensemble {count}", models=count) for count in range(1, models)]
    if name == "population":
        return [Variant(f"population {share:.1%}".replace(".0%", "%").replace("%", " %"), population=share)
                for share in POPULATION_SHARES]  # fmt: skip
    return {
        "mask": [Variant("no mask", mask="none")],
        "strict-mask": [Variant("strict mask", mask="strict")],
        "gradient-ensembling": [Variant("gradient ensembling", gradients=True)],
        "noise-free": [Variant("noise-free responses", responses="predicted")],
        "behavior": [Variant("without behaviour", behavior="mean")],
        "motion": [Variant("not along the motion", motion=False)],
    }[name]
