"""Compares a replay's decisions with those of the live run, bit by bit."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Decisions = dict[int, NDArray[np.float32]]  # by the index of the frame that was decoded


@dataclass(frozen=True, slots=True)
class Comparison:
    """One decoder: how many decisions were live, how many came again, and how many are the same to the bit.

    `first_difference` is the index of the first frame whose decision differs or is missing, None when there is none.
    `same_decoder` tells whether the decoder said the same of itself (checkpoint, engine) as when live.
    """

    live: int
    replayed: int
    identical: int
    first_difference: int | None
    same_decoder: bool

    def as_dict(self) -> dict[str, int | None]:
        """Everything, for JSON."""
        return asdict(self)


def compare_decisions(live: Decisions, replayed: Decisions, same_decoder: bool) -> Comparison:
    """Compare one decoder's decisions by frame; NaN equals NaN when the bits are the same."""
    different = [k for k, values in live.items() if k not in replayed or not _same_bits(values, replayed[k])]
    identical = len(live) - len(different)
    return Comparison(len(live), len(replayed), identical, min(different, default=None), same_decoder)


def _same_bits(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()
