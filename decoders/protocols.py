"""What a live decoder is.

A decoder is registered under the entry-point group ``rig.decoders`` by the tag that YAML's ``decoder:`` names. It is a
class with a pydantic model (a subclass of `rig.config.DecoderConfig`) as its ``Config`` attribute. Importing its
module must be light, without torch: the engine imports it to check the YAML. It is built in a process of its own
(`decoders.worker`), and whatever happens to that process, the recording goes on.
"""

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rig.config import DecoderConfig
from rig.messages import Frame, FrameStream, PredictionStatus, PredictionStream
from rig.rois import RoiMasks


@runtime_checkable
class LiveDecoder(Protocol):
    """Turns frames into answers, one at a time, never looking ahead."""

    def __init__(self, name: str, config: DecoderConfig) -> None: ...

    def load(self, source: FrameStream) -> PredictionStream:
        """Load the checkpoint and warm the engine up; called once, before the first frame.

        Raises
        ------
        CheckpointError
            When the checkpoint cannot be read or does not fit the camera's frames.
        """
        ...

    def step(self, frame: Frame) -> NDArray[np.float32]:
        """Decode one frame: values of the described shape, all NaN when the answer is not known.

        Called for every frame that was not skipped, in order. The answer may depend on this and earlier frames
        alone (pixels, index, device ticks, session time), so that a replay gives the same bits. The decoder need not
        say why it does not know: its process does, it has seen what was missing.
        """
        ...


@runtime_checkable
class Forgetful(Protocol):
    """A decoder whose memory is of no use once frames are missing; a decoder may leave this out."""

    def forget(self) -> None:
        """Begin anew with the next frame: longer than `max_gap_ms` is missing before it.

        Answer NaN until the memory is filled again. What changes over minutes (the mean image) may be kept. Short
        gaps are not told; the memory then lacks a few frames.
        """
        ...


@runtime_checkable
class Doubting(Protocol):
    """A decoder that has reasons of its own not to know; a decoder may leave this out."""

    @property
    def doubt(self) -> PredictionStatus | None:
        """Why the last answer is not known; None: its process knows why, from what was missing."""
        ...


@runtime_checkable
class WithRois(Protocol):
    """A decoder whose values are one for each region of interest (`PredictionStream.per_roi`)."""

    @classmethod
    def roi_masks(cls, config: DecoderConfig) -> RoiMasks:
        """Read the regions: the engine asks its class for them, to keep them in the session file.

        Raises
        ------
        DataError
            When they cannot be read.
        """
        ...


@runtime_checkable
class Explaining(Protocol):
    """A decoder that can say which part of the image it uses, or refine its answers; a decoder may leave this out.

    Which of the two, it describes as `PredictionStream.importance` or `refined`. It is given time only while no frame
    waits and somebody looks. Its answers must not depend on that: a replay has other idle times.
    """

    @property
    def has_work(self) -> bool:
        """Whether there is anything to work out before the next frame."""
        ...

    def work(self) -> NDArray[np.float32] | None:
        """Do one short piece of work (a call of the network); the map or the refined answer when it is new.

        The map (rows, columns) covers the camera's whole image with equal tiles: drop in the probability of what the
        decoder says when the tile is blanked, NaN where not known. A refined answer is of the answers' shape, and
        later than they are by as much as the decoder's description says.
        """
        ...
