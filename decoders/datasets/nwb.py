"""NWB files of other programs: a one-photon series and a running speed."""

from contextlib import AbstractContextManager
from pathlib import Path

import h5py

from decoders.datasets.behavior import BehaviorRecording, LabelRule
from decoders.datasets.reading import ReadingOptions
from rig.errors import DataError


def opened(path: Path) -> AbstractContextManager[h5py.File]:
    """Open the file for reading."""
    raise DataError(f"{path}: not a session of cortexrig; other NWB files cannot be read yet")


def behavior_recording(
    file: h5py.File, path: Path, rule: LabelRule | None, options: ReadingOptions
) -> BehaviorRecording:
    """Read one."""
    raise NotImplementedError
