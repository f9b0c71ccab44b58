"""Frames to HDF5 chunks and back, compressed outside HDF5: twice as fast as through its filter pipeline."""

import struct
from collections.abc import Mapping
from typing import Any

import bitshuffle
import hdf5plugin
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

_HEAD = struct.Struct(">QI")  # bytes of the frame, bytes of a block: what the bitshuffle filter expects
_BLOCK_BYTES = 8192

COMPRESSIONS: dict[str, Mapping[str, Any]] = {
    "bitshuffle-lz4": dict(hdf5plugin.Bitshuffle(cname="lz4")),
    "none": {},
}
"""How h5py creates a dataset whose chunks `frame_chunk` makes, by the name in the configuration."""


def compress_in_one_thread() -> None:
    """Keep bitshuffle in the calling thread from starting threads of its own.

    Its OpenMP threads wait for each other: on a computer whose cores are busy a frame then takes a slice of
    the scheduler (8 ms measured for 512 x 512, 0.15 ms alone).
    """
    threadpool_limits(1, user_api="openmp")


def frame_chunk(pixels: NDArray[np.generic], compression: str) -> bytes | memoryview:
    """Bytes of the chunk that holds one frame (H, W)."""
    pixels = np.ascontiguousarray(pixels)
    if compression == "none":
        return pixels.data.cast("B")
    block = _BLOCK_BYTES // pixels.itemsize
    data: bytes = bitshuffle.compress_lz4(pixels, block).tobytes()
    return _HEAD.pack(pixels.nbytes, _BLOCK_BYTES) + data
