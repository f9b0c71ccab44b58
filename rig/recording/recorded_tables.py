"""What a session file gives back of each kind of stream."""

from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rig.errors import SessionFileError
from rig.messages import NO_FRAME

Int64s = NDArray[np.int64]


class LazyFrames:
    """Frames (n, H, W) that stay on disk until they are asked for, by frame number or slice."""

    def __init__(self, dataset: h5py.Dataset, count: int) -> None:
        self._dataset = dataset
        self.shape: tuple[int, ...] = (count, *dataset.shape[1:])
        self.dtype: np.dtype[Any] = dataset.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice) -> NDArray[np.generic]:
        """Read one frame (H, W), or a slice of them (m, H, W).

        Raises
        ------
        SessionFileError
            When the file is damaged at this place.
        """
        place = range(len(self))[key]
        chosen = place if isinstance(place, int) else slice(*key.indices(len(self)))  # type: ignore[union-attr]
        try:
            pixels: NDArray[np.generic] = self._dataset[chosen]
        except OSError as error:
            name = self._dataset.file.filename
            raise SessionFileError(
                f"{name}: frame {key} of {self._dataset.name} is damaged: {error}"
            ) from error
        return pixels

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.generic]:
        return np.asarray(self[:], dtype)


@dataclass(frozen=True, slots=True)
class FrameTable:
    """A camera's frames; all but `pixels` are (n,) and in memory."""

    pixels: LazyFrames
    sequence: Int64s
    index: Int64s
    device_ticks: Int64s
    arrival_ns: Int64s
    session_ns: Int64s
    uncertainty_ns: Int64s


@dataclass(frozen=True, slots=True)
class SampleTable:
    """A serial stream's samples, (n,) each; `values` is (n, columns). A batch shares one `sequence`."""

    columns: tuple[str, ...]
    sequence: Int64s
    index: Int64s
    device_ticks: Int64s
    arrival_ns: Int64s
    session_ns: Int64s
    uncertainty_ns: Int64s
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PredictionTable:
    """What a decoder said, (n,) each; `values` is (n, ...). Rows with a `source_index` of -1 answer no frame.

    `status` holds `rig.messages.PredictionStatus`.
    """

    values: NDArray[np.float32]
    index: Int64s
    generation: Int64s
    source_index: Int64s
    skipped: Int64s
    frame_session_ns: Int64s
    frame_arrival_ns: Int64s
    dequeue_ns: Int64s
    inference_start_ns: Int64s
    inference_end_ns: Int64s
    received_ns: Int64s
    status: Int64s

    @property
    def answers(self) -> NDArray[np.bool_]:
        """Which rows answer a frame, (n,)."""
        answers: NDArray[np.bool_] = self.source_index != NO_FRAME
        return answers
