"""Numbers from MATLAB files: the old formats through scipy, version 7.3 (which is HDF5) through h5py."""

import struct
import zlib
from collections.abc import Collection
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from rig.errors import DataError

_DAMAGED = (OSError, RuntimeError, ValueError, TypeError, KeyError, IndexError, struct.error, zlib.error)


def matrices(path: Path, names: Collection[str]) -> dict[str, NDArray[np.float64]]:
    """Return those of the named variables that are there, as MATLAB shows them (rows, columns).

    Raises
    ------
    DataError
        When the file is damaged, is none of MATLAB's, or a variable is not of numbers.
    """
    try:
        return _from_hdf5(path, names) if h5py.is_hdf5(path) else _from_matlab(path, names)
    except _DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: damaged, or no MATLAB file of numbers: {reason}") from error


def _from_matlab(path: Path, names: Collection[str]) -> dict[str, NDArray[np.float64]]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        read = loadmat(path, variable_names=list(names))
    except MatReadError as error:
        raise ValueError(str(error)) from error
    return {name: np.asarray(read[name], np.float64) for name in names if name in read}


def _from_hdf5(path: Path, names: Collection[str]) -> dict[str, NDArray[np.float64]]:
    with h5py.File(path, "r") as file:  # MATLAB stores columns first, so HDF5 sees every matrix turned
        return {name: np.asarray(file[name][()], np.float64).T for name in names if name in file}
