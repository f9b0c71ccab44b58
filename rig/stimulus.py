"""The movies that were shown, read from a file or made again from their seed, and when. Light to import."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rig.config import MovieConfig
from rig.errors import ConfigError

GAP_S = 0.5  # chosen: grey before each clip; longer than the receptive fields remember
_VALID = "valid is a .npy file of uint8 (clips, frames, height, width)"


def load_movies(config: MovieConfig) -> NDArray[np.uint8]:
    """Return the movies as uint8 (clips, T, H, W).

    Raises
    ------
    ConfigError
        When the file is missing, unreadable, or holds something else.
    """
    if config.file is None:
        return _made(config.clips, config.frames, config.seed, config.rate_hz)
    try:
        movies = np.load(config.file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(
            f"stimulus.movie.file: {config.file}: cannot be read as movies: {error}; {_VALID}"
        ) from error
    if not isinstance(movies, np.ndarray):
        raise ConfigError(f"{config.file}: is an archive of several arrays; {_VALID}")
    if movies.dtype != np.uint8 or movies.ndim != 4 or movies.size == 0:
        raise ConfigError(f"{config.file}: holds {movies.dtype} {movies.shape}; {_VALID}")
    return movies


@lru_cache(maxsize=1)
def _made(clips: int, frames: int, seed: int, rate_hz: float) -> NDArray[np.uint8]:
    """Make movies, for the microscope and the recorder alike; not to be written to."""
    from rig.simulation.movies import natural_movies

    movies = natural_movies(clips, frames, seed, rate_hz=rate_hz)
    movies.flags.writeable = False
    return movies


def movie_size(config: MovieConfig) -> tuple[int, int]:
    """Number of clips, and of frames in each; raises `ConfigError` as `load_movies` does."""
    if config.file is None:
        return config.clips, config.frames
    clips, frames = load_movies(config).shape[:2]
    return clips, frames


def shown_at(index: int, clips: int, clip_frames: int, rate_hz: float) -> tuple[int, int]:
    """Clip and movie frame on the screen while frame `index` is taken; (-1, -1) for grey.

    The clips are shown in order, over and over, each after `GAP_S` of grey.
    """
    gap_frames = round(GAP_S * rate_hz)
    clip, place = divmod(index % (clips * (gap_frames + clip_frames)), gap_frames + clip_frames)
    shown = place - gap_frames
    return (clip, shown) if shown >= 0 else (-1, -1)
