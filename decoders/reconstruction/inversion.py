"""From the responses of neurons to the movie that was seen: one call for every recipe."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.reconstruction.encoder import Encoder
from decoders.reconstruction.fast_inversion import invert_fast
from decoders.reconstruction.movie_prior import MoviePrior
from decoders.reconstruction.problem import InversionOptions, InversionProblem
from decoders.reconstruction.published_inversion import invert_published
from rig.errors import DataError

Recipe = Callable[[Sequence[Encoder], InversionProblem, InversionOptions], NDArray[np.float32]]

RECIPES: dict[str, Recipe] = {"fast": invert_fast, "published": invert_published}


def invert(
    encoders: Encoder | Sequence[Encoder],
    responses: NDArray[np.float32],
    behavior: NDArray[np.float32],
    pupil_center: NDArray[np.float32],
    *,
    mouse: int,
    mask: NDArray[np.float32] | None = None,
    recipe: str = "fast",
    preview: Path | str | None = None,
    iterations: int | None = None,
    folder: Path | str | None = None,
    windows_at_once: int | None = None,
    progress: bool = True,
    motion: bool = True,
) -> NDArray[np.float32]:
    """Reconstruct the movie that a mouse saw, (T, 36, 64) in grey levels 0 to 255; no blur is applied.

    Parameters
    ----------
    encoders
        One or several models of the same mice; their movies are averaged.
    responses
        (N, T); neurons or moments that are NaN are left out.
    behavior, pupil_center
        (2, T) each, as recorded.
    mouse
        Which of the encoders' mice it is.
    mask
        Transparency mask, (36, 64) or (64, 64): pixels of 0.5 and more are reconstructed; None: all.
    recipe
        One of `RECIPES`.
    preview
        File of a live preview of the same neurons: the fast recipe begins at what it reads. None: at the mean frame.
    iterations
        None: as many as the recipe has.
    folder
        Keeps the state of an unfinished reconstruction; the same call goes on from it.
    windows_at_once
        Windows of the clip in memory together; None: as many as the recipe has.
    progress
        Show a bar on standard error.
    motion
        The fast recipe averages the movie along the camera's motion over the scene; not for stimuli that are no scene
        (noise, gratings).

    Raises
    ------
    CheckpointError
        When `preview` is no preview that tells how far it errs.
    DataError
        For an unknown recipe, data that do not fit the encoders, or a loss that is not finite.
    """
    check_recipe(recipe, preview)
    for name, value in (("iterations", iterations), ("windows_at_once", windows_at_once)):
        if value is not None and value < 1:
            raise DataError(f"{name} is {value}; valid is 1 or more")
    models = _listed(encoders)
    problem = InversionProblem.of(models, responses, behavior, pupil_center, mouse=mouse, mask=mask)
    options = InversionOptions(
        iterations,
        Path(folder) if folder else None,
        windows_at_once=windows_at_once,
        progress=progress,
        motion=motion,
    )
    if preview is not None:
        problem = replace(problem, prior=MoviePrior.read(preview, problem.responses))
    return RECIPES[recipe](models, problem, options)


def check_recipe(recipe: str, preview: Path | str | None) -> None:
    """Refuse a recipe that is unknown, or that cannot begin at a preview."""
    if recipe not in RECIPES:
        raise DataError(f"recipe {recipe!r} is unknown; valid is {' or '.join(map(repr, RECIPES))}")
    if preview is not None and recipe != "fast":
        raise DataError(f"recipe {recipe!r} begins at grey, as published; valid with a preview is 'fast'")


def _listed(encoders: Any) -> list[Encoder]:
    return list(encoders) if isinstance(encoders, Sequence) else [encoders]
