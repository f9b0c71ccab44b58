"""Reconstructions of many clips in many ways, each kept as soon as it is finished, so that nothing is made twice."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.datasets.movie_trials import Trial
from decoders.reconstruction.ablations import MAIN, Variant
from decoders.reconstruction.encoder import Encoder, predict_mean
from decoders.reconstruction.inversion import check_recipe, invert
from decoders.reconstruction.linear_movies import TrainingTier
from decoders.reconstruction.mask import EVALUATION_THRESHOLD
from decoders.reconstruction.problem import InversionProblem
from decoders.reconstruction.published_inversion import PublishedRecipe, invert_published
from decoders.reconstruction.scored_clips import ScoredClip
from decoders.result_folder import read_arrays, write_arrays
from rig.errors import DataError

_POPULATION_SEED = 0


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """A movie (T, 36, 64) in grey levels, not smoothed, and the seconds that it took when it was made."""

    movie: NDArray[np.float32]
    seconds: float


@dataclass(frozen=True, slots=True)
class Reconstructor:
    """Encoders and a recipe, and the folder in which finished movies are kept.

    `iterations` None: as many as the recipe has. `preview` is the file of a preview that the recipe begins at;
    `motion`: average along the camera's motion, see `invert`.
    """

    encoders: tuple[Encoder, ...]
    recipe: str
    iterations: int | None
    folder: Path
    preview: Path | None = None
    motion: bool = True

    def __post_init__(self) -> None:
        """Refuse a recipe that is unknown, or cannot begin at the preview, before any work."""
        check_recipe(self.recipe, self.preview)

    def __call__(
        self, clip: ScoredClip, trial: Trial, variant: Variant, tier: TrainingTier | None = None
    ) -> list[Reconstruction]:
        """Reconstruct a clip in one way, once for every group of models that is as good as any other.

        `tier` is needed for a variant without behaviour.

        Raises
        ------
        DataError
            When the clip does not fit the encoders, the loss is not finite, or a kept movie is damaged.
        """
        return [self._by(group, clip, trial, variant, tier) for group in self._groups(variant.models)]

    def by_model(self, clip: ScoredClip, trial: Trial) -> list[Reconstruction]:
        """Reconstruct with each encoder alone."""
        return [self._by((k,), clip, trial, Variant(), None) for k in range(len(self.encoders))]

    def _groups(self, models: int | None) -> list[tuple[int, ...]]:
        """Which models take part: for a part of the ensemble every run of neighbours, which costs nothing."""
        total = len(self.encoders)
        if models is None or models == total:
            return [tuple(range(total))]
        return [tuple((first + k) % total for k in range(models)) for first in range(total)]

    def _by(
        self,
        models: tuple[int, ...],
        clip: ScoredClip,
        trial: Trial,
        variant: Variant,
        tier: TrainingTier | None,
    ) -> Reconstruction:
        if len(models) > 1 and not variant.gradients:
            alone = [self._by((k,), clip, trial, variant, tier) for k in models]
            movie = np.mean([one.movie for one in alone], axis=0)
            return Reconstruction(np.asarray(movie, np.float32), sum(one.seconds for one in alone))
        way = MAIN if variant.models else variant.name.replace(" %", "").replace(" ", "-")
        everyone = len(models) == len(self.encoders)
        by = "" if everyone else "-model-" + "-".join(map(str, models))
        inverted = partial(self._inverted, models, clip, trial, variant, tier)
        return self.kept(way, clip, trial, inverted, by)

    def kept(
        self,
        way: str,
        clip: ScoredClip,
        trial: Trial,
        compute: Callable[[], NDArray[np.float32]],
        suffix: str = "",
    ) -> Reconstruction:
        """Read a finished movie of a clip, or make it and keep it."""
        path = self.folder / "movies" / way / f"{clip.of.mouse.name}-{clip.trial.name}{suffix}.npz"
        if path.exists():
            return _read(path, trial.responses.shape[1])
        started_s = time.perf_counter()
        movie = compute()
        made = Reconstruction(_in_half(movie), time.perf_counter() - started_s)
        write_arrays(path, {"movie": made.movie.astype(np.float16), "seconds": made.seconds})
        return made

    def _inverted(
        self,
        models: tuple[int, ...],
        clip: ScoredClip,
        trial: Trial,
        variant: Variant,
        tier: TrainingTier | None,
    ) -> NDArray[np.float32]:
        given = self._given(clip, trial, variant, tier)
        encoders = [self.encoders[k] for k in models]
        motion = self.motion and variant.motion
        ours = partial(invert, recipe=self.recipe, preview=self.preview, motion=motion)
        recipe = _by_gradients if variant.gradients else ours
        try:
            return recipe(
                encoders,
                given.responses,
                given.behavior,
                given.pupil_center,
                mouse=clip.of.index,
                mask=_mask(clip, variant),
                iterations=self.iterations,
                folder=self.folder / "unfinished",
                progress=False,
            )
        except DataError as error:
            raise DataError(f"{clip.of.mouse.path}: trial {clip.trial.name!r}: {error}") from None

    def _given(self, clip: ScoredClip, trial: Trial, variant: Variant, tier: TrainingTier | None) -> Trial:
        """What the inversion is told about the clip: everything but its video."""
        given = trial
        if variant.responses == "predicted":
            movie = (trial.video, trial.behavior, trial.pupil_center)
            given = replace(given, responses=predict_mean(self.encoders, *movie, clip.of.index))
        if variant.population < 1:
            given = replace(given, responses=_thinned(clip, given.responses, variant.population))
        if variant.behavior == "mean" and tier is not None:
            frames = (1, trial.behavior.shape[1])
            given = replace(
                given,
                behavior=np.tile(tier.behavior[:, None], frames),
                pupil_center=np.tile(tier.pupil_center[:, None], frames),
            )
        return given


def _thinned(clip: ScoredClip, responses: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """Responses with a random part of the neurons unknown; smaller shares are parts of the larger ones."""
    name = int.from_bytes(hashlib.sha256(clip.of.mouse.name.encode()).digest()[:4])
    order = np.random.default_rng((_POPULATION_SEED, name)).permutation(len(responses))
    left_out = order[max(1, round(len(order) * share)) :]
    thinned = responses.copy()
    thinned[left_out] = np.nan
    return thinned


def _mask(clip: ScoredClip, variant: Variant) -> NDArray[np.float32] | None:
    if variant.mask == "none" or clip.of.mask is None:
        return None
    if variant.mask == "strict":
        return (clip.of.mask >= EVALUATION_THRESHOLD).astype(np.float32)
    return clip.of.mask


def _by_gradients(
    encoders: Sequence[Encoder],
    responses: NDArray[np.float32],
    behavior: NDArray[np.float32],
    pupil_center: NDArray[np.float32],
    *,
    mouse: int,
    mask: NDArray[np.float32] | None,
    **options: Any,
) -> NDArray[np.float32]:
    """One reconstruction by the models' mean gradient, as published; see `invert`."""
    from decoders.reconstruction.problem import InversionOptions

    problem = InversionProblem.of(encoders, responses, behavior, pupil_center, mouse=mouse, mask=mask)
    return invert_published(
        encoders, problem, InversionOptions(**options), PublishedRecipe(models="gradients")
    )


def _in_half(movie: NDArray[np.float32]) -> NDArray[np.float32]:
    """As a kept movie comes back: half precision moves a pixel by a sixteenth of a grey level at most."""
    return movie.astype(np.float16).astype(np.float32)


def _read(path: Path, frames: int) -> Reconstruction:
    kept = read_arrays(path)
    shape = kept["movie"].shape if "movie" in kept else ()
    if shape != (frames, 36, 64) or "seconds" not in kept:
        raise DataError(f"{path}: {shape} is no movie of {frames} frames; delete it to have it made anew")
    return Reconstruction(kept["movie"].astype(np.float32), float(kept["seconds"]))
