"""Numbers from MATLAB files: the old formats through scipy, version 7.3 (which is HDF5) through h5py."""

import zlib
from collections.abc import Collection
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from rig.errors import DataError


def matrices(path: Path, names: Collection[str]) -> dict[str, NDArray[np.float64]]:
    """Return those of the named variables that are there, as MATLAB shows them (rows, columns).

    Raises
    ------
    DataError
        When the file is damaged, is none of MATLAB's, or a variable is not of numbers.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        if h5py.is_hdf5(path):
            return _from_hdf5(path, names)
        read = loadmat(path, variable_names=list(names))
        return {name: np.asarray(read[name], np.float64) for name in names if name in read}
    except (MatReadError, OSError, ValueError, TypeError, KeyError, NotImplementedError, zlib.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: damaged, or no MATLAB file of numbers: {reason}") from error


def _from_hdf5(path: Path, names: Collection[str]) -> dict[str, NDArray[np.float64]]:
    with h5py.File(path, "r") as file:  # MATLAB stores columns first, so HDF5 sees every matrix turned
        return {name: np.asarray(file[name][()], np.float64).T for name in names if name in file}
