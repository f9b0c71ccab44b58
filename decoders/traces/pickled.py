"""Reads what suite2p pickles into ``.npy`` files, without executing anything.

NumPy stores arrays of Python objects as a pickle, and a pickle may call any function it names. Here it may name only
arrays, array types, dates and paths, and none of them is called: stand-ins of ours take what the pickle says of an
array and build it from its bytes. A file that names anything else is refused before that name is looked up.
"""

import datetime
import io
import pickle  # the base class of the reader that looks no name up
import struct
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rig.errors import DataError

_PLAIN_KINDS = "biufcSU?"  # one letter of NumPy for each kind whose bytes are the value itself
_DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    MemoryError,
    RecursionError,
    ImportError,
    struct.error,
    zipfile.BadZipFile,
)


class _Type:
    """Stand-in for an array's type: its code and byte order."""

    def __init__(self, code: str, *copy_and_align: object) -> None:
        self._code, self._order = str(code), "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = str(state[1])

    @property
    def holds_objects(self) -> bool:
        """Whether its elements are Python values of their own."""
        return self._code.startswith("O")

    def plain(self) -> np.dtype[Any]:
        """Make the type, if its bytes are its values."""
        if self._code[:1] not in _PLAIN_KINDS or self._order not in "<>=|":
            raise pickle.UnpicklingError(f"an array of type {self._code!r}")
        return np.dtype(self._code if self._order == "|" else self._order + self._code)


class _Array:
    """Stand-in for an array: shape, type and bytes, or a list of values."""

    def __init__(self, *placeholders: object) -> None:
        self._state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._state = state

    def build(self, known: dict[int, Any]) -> NDArray[Any]:
        """Make the array; `known` are values built already."""
        _, shape, kind, is_column_major, content = self._state
        if not isinstance(kind, _Type):
            raise pickle.UnpicklingError("an array without a type")
        if kind.holds_objects:
            array = np.empty(len(content), object)
            for place, value in enumerate(content):
                array[place] = _built(value, known)
        else:
            array = np.frombuffer(_latin1(content), kind.plain()).copy()
        return array.reshape(tuple(shape), order="F" if is_column_major else "C")


class _Scalar:
    """Stand-in for one NumPy number."""

    def __init__(self, kind: object, content: object = b"") -> None:
        self._kind, self._content = kind, content

    def build(self) -> Any:
        """Make the number."""
        if not isinstance(self._kind, _Type):
            raise pickle.UnpicklingError("a number without a type")
        return np.frombuffer(_latin1(self._content), self._kind.plain())[0].item()


def _buffer(content: Any, kind: Any, shape: Any, order: str) -> _Array:
    """Stand-in for what newer NumPy makes of an array's bytes."""
    array = _Array()
    array.__setstate__((1, shape, kind, order == "F", bytes(content)))
    return array


def _latin1(content: Any, encoding: str = "latin1") -> bytes:
    """Bytes that Python 2 or an old protocol wrote as text."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"text encoded as {encoding!r}")
    return content.encode("latin1") if isinstance(content, str) else bytes(content)


def _no_bytes() -> bytes:
    """How an old protocol writes empty bytes."""
    return b""


_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_STAND_INS: dict[tuple[str, str], Any] = {
    **{(module, "_reconstruct"): _Array for module in _MULTIARRAY},
    **{(module, "scalar"): _Scalar for module in _MULTIARRAY},
    **{(module, "_frombuffer"): _buffer for module in _NUMERIC},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _latin1,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    # suite2p notes when and where it ran; neither touches the disk
    ("datetime", "datetime"): datetime.datetime,
    ("datetime", "date"): datetime.date,
    ("pathlib", "PosixPath"): PurePosixPath,
    ("pathlib", "PurePosixPath"): PurePosixPath,
    ("pathlib", "WindowsPath"): PureWindowsPath,
    ("pathlib", "PureWindowsPath"): PureWindowsPath,
}


class _Refused(pickle.UnpicklingError):
    """The pickle names something that is neither an array nor a plain value."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[module.replace("pathlib._local", "pathlib"), name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None


def _built(value: Any, known: dict[int, Any]) -> Any:
    """Replace stand-ins by what they stand for, each once however often it is named."""
    if id(value) in known:
        return known[id(value)]
    made: Any = value
    if isinstance(value, _Array):
        made = value.build(known)
    elif isinstance(value, _Scalar):
        made = value.build()
    elif isinstance(value, _Type):
        made = value.plain()
    elif isinstance(value, dict):
        made = {_built(key, known): _built(held, known) for key, held in value.items()}
    elif isinstance(value, list | tuple):
        made = type(value)(_built(held, known) for held in value)
    known[id(value)] = made
    return made


def read_npy(path: Path) -> NDArray[Any]:
    """Read an ``.npy`` of numbers, or of dictionaries of arrays and plain values as suite2p writes them.

    Raises
    ------
    DataError
        When the file is missing, cut short or damaged, or would call a function; that function is named.
    """
    try:
        return _read(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; valid is one that suite2p wrote") from None
    except _Refused as error:
        raise DataError(
            f"{path}: refused, it would call {error}; valid are arrays and plain values alone"
        ) from None
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: cut short, damaged or no .npy file: {reason}") from error


def _read(path: Path) -> NDArray[Any]:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else _later_header
        shape, _, dtype = header(file)
        if not dtype.hasobject:
            file.seek(0)
            plain: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
            return plain
        array = _built(_Reader(io.BytesIO(file.read())).load(), {})
    if not isinstance(array, np.ndarray):
        raise pickle.UnpicklingError(f"holds a {type(array).__name__}, not an array")
    return array.reshape(shape)


def _later_header(file: Any) -> Any:
    return np.lib.format.read_array_header_2_0(file)
