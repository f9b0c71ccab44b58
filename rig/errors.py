"""Every error the toolkit raises on purpose.

::

    CortexrigError                 anything we can explain; the command line prints it on one line, exit code 2
    ├── ConfigError                a YAML file, an option or a value in them is wrong
    ├── DeviceError                a device cannot be opened, configured or read
    │   └── DeviceLost             it was working and has vanished
    ├── BusError                   shared memory cannot be had or a message does not fit
    ├── RecordingError             a session file cannot be created or written
    │   └── RecorderOverflow       the disk could not keep up; the run stops rather than lose a message
    ├── SessionFileError           a session file cannot be read or is not one of ours
    ├── CheckpointError            a decoder's checkpoint cannot be read or does not fit the data
    └── DataError                  data given to training or evaluation are unusable

A message says what was wrong, where (file, line, device) and what would be valid.
"""


class CortexrigError(Exception):
    """Anything we can explain to the person at the rig."""


class ConfigError(CortexrigError):
    """A configuration file or an option is wrong; names file, line, key, value and what is valid."""


class DeviceError(CortexrigError):
    """A device cannot be opened, configured or read; names the device."""


class DeviceLost(DeviceError):
    """A device that was working has vanished, or a camera has fallen silent."""


class BusError(CortexrigError):
    """Shared memory cannot be had, or a message does not fit."""


class RecordingError(CortexrigError):
    """A session file cannot be created or written."""


class RecorderOverflow(RecordingError):
    """The recorder's queue is full: the disk did not keep up, so the run must stop."""


class SessionFileError(CortexrigError):
    """A session file cannot be read, or is not one of ours."""


class CheckpointError(CortexrigError):
    """A checkpoint cannot be read, or does not fit the data it is asked to decode."""


class DataError(CortexrigError):
    """Data given to training or evaluation are unusable."""


def one_line(error: Exception) -> str:
    """What an error says, on one line; one that is not ours with its type, since it may say little without."""
    text = " ".join(str(error).split())
    return text if isinstance(error, CortexrigError) else f"{type(error).__name__}: {text}"
