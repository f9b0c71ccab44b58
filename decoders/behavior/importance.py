"""Which part of the image the decoder uses now, worked out while no frame waits.

The published perturbation (Ajioka et al. 2024, doi 10.1371/journal.pcbi.1011074: squares of 32 px of 128, stride 16,
zeroed after normalisation), without labels: the frames of the last second are run again with one square blanked, and
its score is how much the probability of what the decoder had said (run or rest) drops. One square a frame, one call
of the network at a time; the decoder's own state is read, never written. `rig explain behavior` does it thoroughly.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.occlusion import (
    PUBLISHED_FRAME_PX,
    PUBLISHED_SIZE_PX,
    PUBLISHED_STRIDE_PX,
    occlusion_grid,
)

Pixels = NDArray[np.float32]  # (H, W), normalised
State = NDArray[np.float32]  # what the network carries from frame to frame
# to the probability of running, and the state after
NetworkStep = Callable[[Pixels, State], tuple[float, State]]
# a frame as it was decoded, the state before it, the probability after it; one is made on every frame
_Moment = tuple[Pixels, State, float]

RECENT_S = 1.0
AVERAGED_S = 30.0


@dataclass(slots=True)
class _Trial:
    """One square, part of the way through the recent frames."""

    square: int
    moments: tuple[_Moment, ...]
    state: State
    done: int = 0
    drop: float = 0.0  # sum over the frames done


class LiveImportance:
    """Follows a decoder, and makes its map when given time.

    Parameters
    ----------
    step
        The decoder's network, as a pure function.
    height_px, width_px
        Size of the frames that the network sees; the published squares are scaled to it.
    rate_hz
        Their rate.
    """

    def __init__(self, step: NetworkStep, height_px: int, width_px: int, rate_hz: float) -> None:
        self._step = step
        edge_px = min(height_px, width_px)
        size_px = max(1, edge_px * PUBLISHED_SIZE_PX // PUBLISHED_FRAME_PX)
        stride_px = max(1, edge_px * PUBLISHED_STRIDE_PX // PUBLISHED_FRAME_PX)
        squares = occlusion_grid(height_px, width_px, size_px, stride_px)
        self._masks = np.stack([square.mask for square in squares])  # (squares, H, W)
        self._drops = np.full(len(squares), np.nan)
        self._trials = np.zeros(len(squares), np.int64)
        seconds_a_round = len(squares) / rate_hz  # at one square a frame
        self._least_share = 1.0 - math.exp(-seconds_a_round / AVERAGED_S)
        self._recent: deque[_Moment] = deque(maxlen=max(1, round(RECENT_S * rate_hz)))
        self._trial: _Trial | None = None
        self._next_square = 0
        self._fresh = False  # a frame has come since the last square was begun

    def follow(self, pixels: Pixels, before: State, probability: float) -> None:
        """Take note of a decision: pixels as the network saw them, its state before, its answer."""
        self._recent.append((pixels, before, probability))
        self._fresh = True

    def forget(self) -> None:
        """Forget the recent frames, because the next one does not follow on them; what was learnt is kept."""
        self._recent.clear()
        self._trial, self._fresh = None, False

    @property
    def has_work(self) -> bool:
        """Whether there is anything to work out before the next frame comes."""
        return self._trial is not None or (self._fresh and len(self._recent) == self._recent.maxlen)

    def work(self) -> bool:
        """Call the network once; whether that finished a square, and the map is new."""
        trial = self._trial = self._trial or self._begin()
        pixels, _, said = trial.moments[trial.done]
        blanked = np.where(self._masks[trial.square], np.float32(0), pixels)
        probability, trial.state = self._step(blanked, trial.state)
        trial.drop += _drop(said, probability)
        trial.done += 1
        if trial.done < len(trial.moments):
            return False
        self._finish(trial)
        return True

    def image(self) -> Pixels:
        """The map (H, W): mean over the squares on each pixel, NaN where none has been tried yet."""
        tried = self._trials > 0
        cover = self._masks[tried].sum(axis=0)
        total = np.tensordot(self._drops[tried], self._masks[tried].astype(np.float64), axes=1)
        mean: Pixels = np.full(cover.shape, np.nan, np.float32)
        np.divide(total, cover, out=mean, where=cover > 0, casting="same_kind")
        return mean

    def _begin(self) -> _Trial:
        square, self._fresh = self._next_square, False
        self._next_square = (square + 1) % len(self._masks)
        _, before, _ = self._recent[0]
        return _Trial(square, tuple(self._recent), before)

    def _finish(self, trial: _Trial) -> None:
        """Mean of all trials of a square at first, then one that forgets within `AVERAGED_S`."""
        drop, square = trial.drop / len(trial.moments), trial.square
        self._trial = None
        self._trials[square] += 1
        share = max(1.0 / self._trials[square], self._least_share)
        old = self._drops[square]
        self._drops[square] = drop if self._trials[square] == 1 else old + share * (drop - old)


def _drop(whole: float, blanked: float) -> float:
    """Loss of probability of what was said with the whole image."""
    return whole - blanked if whole >= 0.5 else blanked - whole
