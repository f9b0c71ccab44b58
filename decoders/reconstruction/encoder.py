"""What every encoding model of the movies offers, and reading one from its file."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decoders.checkpoint import read_checkpoint
from decoders.datasets.movie_trials import MOVIE_PX
from rig.errors import CheckpointError, DataError

HEIGHT_PX, WIDTH_PX = MOVIE_PX
BEHAVIORS = ("pupil dilation", "running speed")
LIGHT_KIND = "encoder-light"
_OURS = "metadata.npy"  # the member that every checkpoint of ours has


class Encoder(Protocol):
    """An encoding model: movies and behaviour to responses of neurons.

    A network underneath, in evaluation mode and with fixed weights. Movies are raw grey levels 0 to 255 at 30 Hz;
    behaviour is pupil dilation and running speed, as recorded; T frames, N neurons.
    """

    @property
    def kind(self) -> str:
        """Which model: "dwiseneuro" or "light"."""
        ...

    @property
    def neurons(self) -> tuple[int, ...]:
        """Neurons of each mouse it knows."""
        ...

    @property
    def mice(self) -> tuple[str, ...]:
        """Names of the mice, "" where the file has none."""
        ...

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of `assemble`'s planes: (36, 64), or more with the movie in the middle."""
        ...

    @property
    def shortest(self) -> int:
        """The fewest frames of a clip."""
        ...

    def assemble(self, video: Tensor, behavior: Tensor, pupil_center: Tensor) -> Tensor:
        """Inputs (B, 5, T, h, w) of (B, T, 36, 64), (B, 2, T) and (B, 2, T), where the network is (CPU or GPU).

        Channel 0 is the movie; h, w are `input_size`.
        """
        ...

    def respond(self, inputs: Tensor, mouse: int) -> Tensor:
        """Responses (B, N, T) to whole clips (B, 5, T, h, w) of `shortest` frames or more; differentiable."""
        ...

    def predict(
        self,
        video: NDArray[np.float32],
        behavior: NDArray[np.float32],
        pupil_center: NDArray[np.float32],
        mouse: int = 0,
    ) -> NDArray[np.float32]:
        """Responses (N, T) to a clip: video (36, 64, T), behavior (2, T), pupil_center (2, T).

        Raises
        ------
        DataError
            For other shapes, values that are not finite, too few frames or an unknown mouse.
        """
        ...


def load_encoder(path: Path | str) -> Encoder:
    """Read an encoder: a published DwiseNeuro checkpoint (.pth), or one that `rig train encoder` wrote.

    What the file holds counts, not its name; nothing in it is executed.

    Raises
    ------
    CheckpointError
        When the file is missing, damaged or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such encoder; make one with `rig train encoder`")
    if not _is_ours(path):
        from decoders.reconstruction import dwiseneuro_encoder

        return dwiseneuro_encoder.load(path)
    checkpoint = read_checkpoint(path)
    if checkpoint.kind != LIGHT_KIND:
        raise CheckpointError(f"{path}: holds a {checkpoint.kind!r} decoder; valid here is {LIGHT_KIND!r}")
    from decoders.reconstruction import light_encoder

    return light_encoder.load(checkpoint, path)


def mouse_index(encoder: Encoder, name: str, neurons: int, path: Path) -> int:
    """Which of an encoder's mice this is: by name, or in a file without names the only one with as many neurons.

    Raises
    ------
    CheckpointError
        When the encoder, read from `path`, does not know it.
    """
    alike = [k for k, count in enumerate(encoder.neurons) if count == neurons]
    found = [k for k in alike if encoder.mice[k] == name]
    if not any(encoder.mice) and len(alike) == 1:
        return alike[0]
    if not found:
        knows = ", ".join(
            f"{name or 'a mouse'} ({n})" for name, n in zip(encoder.mice, encoder.neurons, strict=True)
        )
        raise CheckpointError(
            f"{path}: does not know mouse {name!r} with {neurons} neurons; it knows {knows}"
        )
    return found[0]


def predict_mean(
    encoders: Sequence[Encoder],
    video: NDArray[np.float32],
    behavior: NDArray[np.float32],
    pupil_center: NDArray[np.float32],
    mouse: int = 0,
) -> NDArray[np.float32]:
    """Mean prediction of an ensemble, (N, T); see `Encoder.predict`."""
    total = sum(encoder.predict(video, behavior, pupil_center, mouse) for encoder in encoders)
    return np.asarray(total / len(encoders), np.float32)


def predict_clip(
    encoder: Encoder,
    video: NDArray[np.float32],
    behavior: NDArray[np.float32],
    pupil_center: NDArray[np.float32],
    mouse: int,
) -> NDArray[np.float32]:
    """What `Encoder.predict` does, for any encoder: check, assemble, respond."""
    movie = np.asarray(video)
    frames = movie.shape[-1] if movie.ndim else 0
    check_shape("video", movie, (HEIGHT_PX, WIDTH_PX, frames))
    check_finite("video", movie)
    check_clip(encoder, behavior, pupil_center, frames, mouse)
    with torch.no_grad():
        inputs = encoder.assemble(
            as_batch(np.moveaxis(movie, -1, 0)), as_batch(behavior), as_batch(pupil_center)
        )
        return encoder.respond(inputs, mouse)[0].float().cpu().numpy()


def check_clip(encoder: Encoder, behavior: Any, pupil_center: Any, frames: int, mouse: int) -> None:
    """Refuse behaviour that is not (2, frames) and finite, too short a clip, and an unknown mouse.

    Raises
    ------
    DataError
        Saying what was given and what would be valid.
    """
    if not 0 <= mouse < len(encoder.neurons):
        raise DataError(f"mouse {mouse}: unknown to the encoder; valid are 0 to {len(encoder.neurons) - 1}")
    if frames < encoder.shortest:
        raise DataError(f"a clip of {frames} frames; valid for this encoder is {encoder.shortest} or more")
    for name, values in (("behavior", behavior), ("pupil_center", pupil_center)):
        check_shape(name, values, (2, frames))
        check_finite(name, values)


def check_shape(name: str, values: Any, valid: tuple[int, ...]) -> None:
    """Raise `DataError` when an array is of another shape."""
    if np.shape(values) != valid:
        raise DataError(f"{name} is {_shown(np.shape(values))}; valid is {_shown(valid)}")


def check_finite(name: str, values: Any) -> None:
    """Raise `DataError` when an array holds a value that is not a finite number."""
    wrong = np.argwhere(~np.isfinite(np.asarray(values, np.float64)))
    if len(wrong):
        where = ", ".join(str(at) for at in wrong[0])
        raise DataError(f"{name} has {len(wrong)} values that are not finite, the first at [{where}]")


def middle(planes: NDArray[Any], size: tuple[int, int] = (HEIGHT_PX, WIDTH_PX)) -> NDArray[Any]:
    """Cut the middle out of planes (..., h, w): the movie without its padding."""
    top, left = (planes.shape[-2] - size[0]) // 2, (planes.shape[-1] - size[1]) // 2
    return planes[..., top : top + size[0], left : left + size[1]]


def as_batch(values: Any) -> Tensor:
    """An array as a float32 tensor with a batch axis in front."""
    return torch.from_numpy(np.array(values, np.float32))[None]


def _shown(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape) or "one number"


def _is_ours(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return _OURS in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
