"""Compares a replay's decisions with those of the live run, bit by bit.

Decisions about frames are compared: values and status. What a decoder said when no frame came was told by the host's
clock, which no replay can repeat; it is played back as it was recorded, and only counted here.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Decision = tuple[NDArray[np.float32], int]  # values and status
Decisions = dict[int, Decision]  # by the index of the frame that was decoded


@dataclass(frozen=True, slots=True)
class Comparison:
    """One decoder: how many decisions were live, how many came again, and how many are the same to the bit.

    `first_difference` is the index of the first frame whose decision differs or is missing, None when there is none.
    `same_decoder` tells whether the decoder said the same of itself (checkpoint, engine) as when live. `stalls` is how
    often the live decoder said that no frame came, which takes no part.
    """

    live: int
    replayed: int
    identical: int
    first_difference: int | None
    same_decoder: bool
    stalls: int

    def as_dict(self) -> dict[str, int | None]:
        """Everything, for JSON."""
        return asdict(self)


def compare_decisions(
    live: Decisions, replayed: Decisions, same_decoder: bool, stalls: int = 0
) -> Comparison:
    """Compare one decoder's decisions by frame; NaN equals NaN when the bits are the same."""
    different = [k for k, decision in live.items() if k not in replayed or not _same(decision, replayed[k])]
    identical = len(live) - len(different)
    return Comparison(len(live), len(replayed), identical, min(different, default=None), same_decoder, stalls)


def _same(a: Decision, b: Decision) -> bool:
    return a[0].shape == b[0].shape and a[0].tobytes() == b[0].tobytes() and a[1] == b[1]
