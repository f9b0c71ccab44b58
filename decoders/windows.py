"""Causal windows: the last n feature vectors, the same code offline and live.

Pure: only numpy. A window ends at the newest vector and never holds a later one; until n vectors have come, the
missing older ones are NaN.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class RecentFeatures:
    """The last `length` feature vectors, oldest first, always in one contiguous piece of memory.

    Every vector is written twice, `length` rows apart, so that a window never wraps and no copy is needed.
    """

    def __init__(self, length: int, features: int) -> None:
        if length < 1:
            raise ValueError(f"a window of {length} frames; valid is 1 or more")
        self._rows = np.full((2 * length, features), np.nan, np.float32)
        self._length = length
        self._next = 0
        self.seen = 0

    @property
    def full(self) -> bool:
        """Whether `length` vectors have come."""
        return self.seen >= self._length

    def push(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Take one vector (F,) and return the window (length, F) that ends with it.

        The window is a view: it is valid until the next `push`.
        """
        self._rows[self._next] = self._rows[self._next + self._length] = features
        self._next = (self._next + 1) % self._length
        self.seen += 1
        return self._rows[self._next : self._next + self._length]


def causal_windows(features: NDArray[Any], length: int) -> NDArray[np.float32]:
    """Windows of a whole recording, (T, F) to (T, length, F), by the live rule."""
    recent = RecentFeatures(length, features.shape[1])
    windows = np.empty((len(features), length, features.shape[1]), np.float32)
    for window, row in zip(windows, features, strict=True):
        window[:] = recent.push(row)
    return windows
