"""Movies for people: the movie and its reconstruction side by side, as MP4."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from numpy.typing import NDArray

from rig.errors import DataError

if TYPE_CHECKING:
    from av.video.stream import VideoStream

_ENLARGED = 6  # 36 x 64 pixels are small
_GAP_PX = 2  # of the movie
_CODECS = ("libx264", "mpeg4")


def write_mp4(movies: Sequence[NDArray[np.float32]], path: Path, rate_hz: float) -> None:
    """Write movies (T, H, W) of grey levels 0 to 255 side by side; whole or not at all.

    Raises
    ------
    DataError
        When the file cannot be written.
    """
    frames = _side_by_side(movies)
    partial = path.with_name(f".{path.name}")
    try:
        with av.open(str(partial), "w", format="mp4") as file:
            codec = next(name for name in _CODECS if name in av.codecs_available)
            rate = Fraction(rate_hz).limit_denominator(1000)
            stream = cast("VideoStream", file.add_stream(codec, rate=rate))
            stream.height, stream.width = frames.shape[1:]
            stream.pix_fmt = "yuv420p"
            for frame in frames:
                file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
            file.mux(stream.encode())
        partial.replace(path)
    except (OSError, av.FFmpegError) as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written: {error}") from error


def _side_by_side(movies: Sequence[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """Enlarged frames (T, h, w), both even as the codec asks."""
    gap = np.full((len(movies[0]), movies[0].shape[1], _GAP_PX), 255, np.float32)
    parts = [part for movie in movies for part in (movie, gap)][:-1]
    joined = np.clip(np.rint(np.concatenate(parts, axis=2)), 0, 255).astype(np.uint8)
    return joined.repeat(_ENLARGED, axis=1).repeat(_ENLARGED, axis=2)
