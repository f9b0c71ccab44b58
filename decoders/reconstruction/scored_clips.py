"""Which presentations are reconstructed, of which of the encoders' mice, and in which pixels they are scored."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.datasets.movies import TRAIN, MovieMouse, MovieTrial, Trial
from decoders.reconstruction.encoder import Encoder, mouse_index
from decoders.reconstruction.mask import EVALUATION_THRESHOLD, load_mask, selected
from decoders.reconstruction.similarity import DROPPED_FRAMES
from rig.errors import CheckpointError, DataError

_SIZE = (36, 64)


@dataclass(frozen=True, slots=True)
class ScoredMouse:
    """A mouse, its number in the encoders, and its transparency mask."""

    mouse: MovieMouse
    index: int
    mask: NDArray[np.float32] | None

    @property
    def scored(self) -> NDArray[np.bool_] | None:
        """Pixels (36, 64) that are scored: those of 1 or more in the mask, as published; None: all."""
        return None if self.mask is None else selected(self.mask, _SIZE, EVALUATION_THRESHOLD)


@dataclass(frozen=True, slots=True)
class ScoredClip:
    """One presentation that is reconstructed and scored."""

    of: ScoredMouse
    trial: MovieTrial

    @property
    def name(self) -> str:
        """Mouse and trial."""
        return f"{self.of.mouse.name}/{self.trial.name}"

    def load(self) -> Trial:
        """Read the presentation.

        Raises
        ------
        DataError
            When a file is missing or damaged, or too few frames are left to be scored.
        """
        trial = self.trial.load()
        frames = trial.video.shape[2]
        if frames < DROPPED_FRAMES + 2:
            raise DataError(
                f"{self.of.mouse.path}: trial {self.trial.name!r} has {frames} frames, of which the first"
                f" {DROPPED_FRAMES} are not scored; valid is {DROPPED_FRAMES + 2} or more"
            )
        return trial

    @property
    def trained_without(self) -> tuple[str, str]:
        """Mouse, and the movie that is left out of `training` for this clip alone: none for a clip of another tier."""
        return self.of.mouse.name, self.trial.clip if self.trial.tier == TRAIN else ""

    def training(self) -> list[MovieTrial]:
        """The mouse's training trials; of those, the ones of movies that are in another tier too are left out."""
        tested = {trial.clip for trial in self.of.mouse.trials if trial.tier != TRAIN}
        return [
            t for t in self.of.mouse.trials if t.tier == TRAIN and t.clip not in tested | {self.trial.clip}
        ]


def scored_mice(
    mice: Sequence[MovieMouse], encoders: Sequence[Encoder], paths: Sequence[Path], mask: Path | None
) -> list[ScoredMouse]:
    """Pair mice with the encoders' numbers and their masks; `mask` is a file, or a folder with MOUSE.npy each.

    Raises
    ------
    CheckpointError
        When an encoder does not know a mouse, or the encoders number it differently.
    DataError
        When a mask is missing or damaged, or selects no pixel to be scored.
    """
    found = []
    for mouse in mice:
        indices = [
            mouse_index(e, mouse.name, mouse.neurons, path) for e, path in zip(encoders, paths, strict=True)
        ]
        if len(set(indices)) > 1:
            listed = ", ".join(f"{path}: {at}" for path, at in zip(paths, indices, strict=True))
            raise CheckpointError(f"mouse {mouse.name!r} has another number in each encoder ({listed})")
        file = mask / f"{mouse.name}.npy" if mask is not None and mask.is_dir() else mask
        scored = ScoredMouse(mouse, indices[0], None if file is None else load_mask(file))
        if scored.scored is not None and not scored.scored.any():
            raise DataError(f"{file}: no pixel of {EVALUATION_THRESHOLD:g} or more, so none would be scored")
        found.append(scored)
    return found


def scored_clips(
    mice: Sequence[ScoredMouse], tier: str, most: int | None, *, repeats: bool, names: Sequence[str] = ()
) -> list[ScoredClip]:
    """Presentations of a tier: of each movie the first, or all `repeats`; at most so many movies of each mouse.

    `names` picks trials by name instead, of any tier.

    Raises
    ------
    DataError
        When a mouse has no trial of the tier, or no mouse has a trial of that name.
    """
    found = []
    for one in mice:
        if names:
            found += [ScoredClip(one, trial) for trial in one.mouse.trials if trial.name in names]
            continue
        trials = one.mouse.of_tier(tier)
        clips = list(dict.fromkeys(trial.clip for trial in trials))[:most]
        first = {trial.clip: trial for trial in reversed(trials)}
        chosen = [t for t in trials if t.clip in clips] if repeats else [first[clip] for clip in clips]
        found += [ScoredClip(one, trial) for trial in chosen]
    if missing := set(names) - {clip.trial.name for clip in found}:
        have = [trial.name for one in mice for trial in one.mouse.trials]
        raise DataError(f"no trial {min(missing)!r}; valid: {', '.join(have[:12])}, ...")
    return found
