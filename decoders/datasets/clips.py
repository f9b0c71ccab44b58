"""Which presentations show the same movie: repeats and near duplicates, told by small blurred copies.

Perceptual hashes of single frames missed some of the duplicates of Sensorium 2023. Here a movie is its mean over
blocks of space and time, and two whose blocks correlate are one: brighter copies, shifts by a few frames and slight
crops stay together.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_ROWS, _COLUMNS = 9, 16
_BIN_FRAMES = 30  # a second: a shift by a few frames moves little from one bin to the next
_SAME = 0.9  # correlation from which two movies are one: different ones stay below 0.5, crops by a tenth above 0.93
_BLOCK = 512  # descriptors compared at a time


def thumbnail(video: NDArray[np.floating]) -> NDArray[np.float32]:
    """Describe a movie (H, W, T) by means of blocks, (bins of a second, rows x columns)."""
    height, width, frames = video.shape
    bins = max(1, frames // _BIN_FRAMES)
    length = min(frames, _BIN_FRAMES)
    in_time = [video[:, :, k * length : (k + 1) * length].mean(axis=2, dtype=np.float32) for k in range(bins)]
    rows, columns = (_averaging(size, blocks) for size, blocks in ((height, _ROWS), (width, _COLUMNS)))
    small: NDArray[np.float32] = rows @ np.stack(in_time) @ columns.T
    return small.reshape(bins, -1)


def _averaging(size: int, blocks: int) -> NDArray[np.float32]:
    """Matrix that takes `size` pixels to means of overlapping, tapered blocks, (blocks, size)."""
    place = (np.arange(size) + 0.5) / size * blocks - 0.5
    weight = np.maximum(0.0, 1 - abs(place - np.arange(min(blocks, size))[:, None]) / 2.5)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True), np.float32)


def same_movies(thumbnails: Iterable[NDArray[np.float32]]) -> NDArray[np.int64]:
    """Group movies: for each of n thumbnails the number of the first that shows the same movie, (n,).

    What is the same as a third is the same. Of movies of different length the common beginning counts.
    """
    small = list(thumbnails)
    bins = np.array([len(one) for one in small])
    group = np.arange(len(small))
    for length in np.unique(bins):  # the shorter of two decides
        here = np.flatnonzero(bins >= length)
        known = _normalised(np.stack([small[k][:length].ravel() for k in here]))
        for first, second in _alike(known, bins[here] == length):
            _join(group, int(here[first]), int(here[second]))
    return np.array([_root(group, k) for k in range(len(small))], np.int64)


def _normalised(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Zero mean and unit length; a movie without contrast becomes zero, and is like no other."""
    centred = descriptors - descriptors.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.where(length > 1e-3, length, np.inf), np.float32)


def _alike(known: NDArray[np.float32], shortest: NDArray[np.bool_]) -> Iterable[tuple[int, int]]:
    """Pairs that correlate, of which at least one is of the shortest length."""
    own = np.flatnonzero(shortest)
    for start in range(0, len(own), _BLOCK):
        rows = own[start : start + _BLOCK]
        first, second = np.nonzero(known[rows] @ known.T > _SAME)
        yield from ((int(rows[a]), int(b)) for a, b in zip(first, second, strict=True) if rows[a] != b)


def _root(group: NDArray[np.int64], k: int) -> int:
    while group[k] != k:
        group[k] = group[group[k]]
        k = int(group[k])
    return k


def _join(group: NDArray[np.int64], first: int, second: int) -> None:
    """Make two one; the group's name is its first member."""
    a, b = _root(group, first), _root(group, second)
    group[max(a, b)] = min(a, b)
