"""What an inversion is asked for, checked once: responses, behaviour and mask of one clip of one mouse."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from decoders.reconstruction.encoder import (
    HEIGHT_PX,
    WIDTH_PX,
    Encoder,
    check_clip,
    check_finite,
    check_shape,
)
from rig.errors import DataError

UPDATE_THRESHOLD = 0.5  # published: pixels of a transparency mask at or above it are reconstructed
_PUBLISHED_PLANES = (64, 64)


@dataclass(frozen=True, slots=True)
class InversionOptions:
    """How any recipe is run.

    `iterations` None: the recipe's own number. `folder` keeps the state of an unfinished reconstruction, from which
    the same call goes on; `save_every` iterations apart. `progress` shows a bar on standard error.
    """

    iterations: int | None = None
    folder: Path | None = None
    save_every: int = 50
    progress: bool = True


@dataclass(frozen=True, slots=True)
class InversionProblem:
    """Find the movie that a mouse saw.

    `responses` (N, T) are NaN where a neuron is unknown; `behavior` and `pupil_center` are (2, T); `mask` (36, 64)
    or of the encoders' planes (64, 64), a transparency mask, says by its threshold which pixels are looked for;
    None: all of the movie. All float32.
    """

    responses: NDArray[np.float32]
    behavior: NDArray[np.float32]
    pupil_center: NDArray[np.float32]
    mouse: int
    mask: NDArray[np.float32] | None = None

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
            _check_mask(given, encoders)
        return cls(
            measured, np.asarray(behavior, np.float32), np.asarray(pupil_center, np.float32), mouse, given
        )

    @property
    def frames(self) -> int:
        """Frames of the clip."""
        return int(self.responses.shape[1])

    def updated(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Which pixels of the planes (h, w) are looked for; the padding never is, unless the mask says so."""
        mask = np.ones((HEIGHT_PX, WIDTH_PX)) if self.mask is None else self.mask
        (height, width), (rows, columns) = size, mask.shape
        below, right = max(height - rows, 0), max(width - columns, 0)
        padded = np.pad(mask, ((below // 2, below - below // 2), (right // 2, right - right // 2)))
        return np.asarray(middle(padded, size) >= UPDATE_THRESHOLD)


def middle(planes: NDArray[Any], size: tuple[int, int] = (HEIGHT_PX, WIDTH_PX)) -> NDArray[Any]:
    """Cut the middle out of planes (..., h, w): the movie without its padding."""
    top, left = (planes.shape[-2] - size[0]) // 2, (planes.shape[-1] - size[1]) // 2
    return planes[..., top : top + size[0], left : left + size[1]]


def _floats(name: str, values: Any) -> NDArray[np.float32]:
    try:
        return np.array(values, np.float32)
    except (TypeError, ValueError):
        raise DataError(f"{name} are not numbers; valid is an array of float32") from None


def _check_responses(responses: NDArray[np.float32]) -> None:
    if np.isnan(responses).all():
        raise DataError("responses are all NaN; valid is one known neuron or more")
    check_finite("responses", np.where(np.isnan(responses), 0, responses))


def _check_mask(mask: NDArray[np.float32], encoders: Sequence[Encoder]) -> None:
    sizes = dict.fromkeys([(HEIGHT_PX, WIDTH_PX), _PUBLISHED_PLANES, *(item.input_size for item in encoders)])
    if mask.shape not in sizes:
        valid = " or ".join(f"{height} x {width}" for height, width in sizes)
        raise DataError(f"mask is {' x '.join(map(str, mask.shape))}; valid is {valid}")
    check_finite("mask", mask)
    if not (mask >= UPDATE_THRESHOLD).any():
        raise DataError(
            f"mask has no pixel of {UPDATE_THRESHOLD} or more, its largest is {mask.max():g}; nothing would be"
            " reconstructed"
        )
