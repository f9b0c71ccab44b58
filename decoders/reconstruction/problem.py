"""What an inversion is asked for, checked once: responses, behaviour and mask of one clip of one mouse."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from decoders.reconstruction.encoder import Encoder, check_clip, check_finite, check_shape
from decoders.reconstruction.mask import SIZES, UPDATE_THRESHOLD, check_mask, selected
from decoders.reconstruction.movie_prior import MoviePrior
from rig.errors import DataError


@dataclass(frozen=True, slots=True)
class InversionOptions:
    """How any recipe is run.

    `iterations` None: the recipe's own number. `folder` keeps the state of an unfinished reconstruction, from which
    the same call goes on; `save_every` iterations apart. `windows_at_once` bounds the memory; None: the recipe's own.
    `progress` shows a bar on standard error. `motion`: average along the camera's motion, where the recipe does.
    """

    iterations: int | None = None
    folder: Path | None = None
    save_every: int = 50
    windows_at_once: int | None = None
    progress: bool = True
    motion: bool = True


@dataclass(frozen=True, slots=True)
class InversionProblem:
    """Find the movie that a mouse saw.

    `responses` (N, T) are NaN where a neuron is unknown; `behavior` and `pupil_center` are (2, T); `mask` (36, 64)
    or of the encoders' planes (64, 64), a transparency mask, says by its threshold which pixels are looked for;
    None: all of the movie. `prior` is of this clip, where a preview has read it. All float32.
    """

    responses: NDArray[np.float32]
    behavior: NDArray[np.float32]
    pupil_center: NDArray[np.float32]
    mouse: int
    mask: NDArray[np.float32] | None = None
    prior: MoviePrior | None = None

    @classmethod
    def of(
        cls,
        encoders: Sequence[Encoder],
        responses: Any,
        behavior: Any,
        pupil_center: Any,
        *,
        mouse: int,
        mask: Any = None,
    ) -> Self:
        """Check everything against every encoder.

        Raises
        ------
        DataError
            For no encoder, an unknown mouse, neurons, frames or a mask of another number or size, responses that are
            all NaN or infinite, or behaviour that is not finite.
        """
        if not encoders:
            raise DataError("no encoder was given; valid is one or more")
        measured = _floats("responses", responses)
        frames = measured.shape[-1] if measured.ndim else 0
        for encoder in encoders:
            check_clip(encoder, behavior, pupil_center, frames, mouse)
            check_shape("responses", measured, (encoder.neurons[mouse], frames))
        _check_responses(measured)
        given = None if mask is None else _floats("mask", mask)
        if given is not None:
            check_mask(given, [*SIZES, *(encoder.input_size for encoder in encoders)])
        return cls(
            measured, np.asarray(behavior, np.float32), np.asarray(pupil_center, np.float32), mouse, given
        )

    @property
    def frames(self) -> int:
        """Frames of the clip."""
        return int(self.responses.shape[1])

    def updated(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Which pixels of the planes (h, w) are looked for; without a mask all of the movie, but not its padding."""
        return selected(self.mask, size, UPDATE_THRESHOLD)


def _floats(name: str, values: Any) -> NDArray[np.float32]:
    try:
        return np.array(values, np.float32)
    except (TypeError, ValueError):
        raise DataError(f"{name} are not numbers; valid is an array of float32") from None


def _check_responses(responses: NDArray[np.float32]) -> None:
    if np.isnan(responses).all():
        raise DataError("responses are all NaN; valid is one known neuron or more")
    check_finite("responses", np.where(np.isnan(responses), 0, responses))
