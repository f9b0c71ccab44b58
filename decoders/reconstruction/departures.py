"""Where the reconstruction departs from what was shown, in pixels and time, and where the models agree that it does.

Three movies of differences in grey levels, (T, 36, 64). The models of an ensemble differ by their training alone, so
where the difference is large and their spread small, no model believes what was shown: the responses did not hold it.
What the encoder's own, noise-free responses would have given separates the noise of the responses from the rest.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from decoders.reconstruction.similarity import DROPPED_FRAMES, matched, pearson, smooth
from decoders.result_folder import read_arrays, write_arrays
from rig.errors import DataError

Movie = NDArray[np.float32]
_FAR = 2.0  # spreads


@dataclass(frozen=True, slots=True)
class Departure:
    """Maps of one clip, (T, 36, 64) in grey levels; `mask` (36, 64), the pixels that are scored (None: all).

    Attributes
    ----------
    difference
        Reconstruction, brought to the movie's mean and contrast, minus the movie.
    spread
        Standard deviation over reconstructions by each model alone, brought to the movie likewise; None for one model.
    noise
        Reconstruction from recorded responses minus that from predicted, noise-free ones, both brought to the movie.
    """

    difference: Movie
    spread: Movie | None
    noise: Movie
    mask: NDArray[np.bool_] | None

    @classmethod
    def of(
        cls,
        shown: Movie,
        reconstructed: Movie,
        by_model: list[Movie],
        noise_free: Movie,
        mask: NDArray[np.bool_] | None,
        smoothing: float,
    ) -> Self:
        """Compare smoothed reconstructions with the movie, as it was shown."""
        found, free, *alone = (
            matched(shown, smooth(movie, smoothing), mask) for movie in (reconstructed, noise_free, *by_model)
        )
        spread = np.std(alone, axis=0, ddof=1).astype(np.float32) if len(alone) > 1 else None
        return cls(np.asarray(found - shown, np.float32), spread, found - free, mask)

    def summary(self) -> dict[str, Any]:
        """Figures over the scored pixels and frames, as JSON."""
        difference, noise = self._scored(self.difference), self._scored(self.noise)
        told: dict[str, Any] = {
            "difference_rms": _rms(difference),
            "noise_rms": _rms(noise),
            "spread_mean": None,
            "share_beyond_two_spreads": None,
            "difference_with_spread": None,
        }
        if self.spread is not None:
            spread = self._scored(self.spread)
            told["spread_mean"] = float(spread.mean())
            told["share_beyond_two_spreads"] = float((np.abs(difference) > _FAR * spread).mean())
            together = pearson(np.abs(difference), spread)
            told["difference_with_spread"] = together if np.isfinite(together) else None
        return told

    def by_pixel(self) -> dict[str, Movie]:
        """Root mean squares over the scored frames, (36, 64); NaN where nothing is scored."""
        return {name: self._outside(_rms_over(m[DROPPED_FRAMES:], (0,))) for name, m in self._maps().items()}

    def by_frame(self) -> dict[str, NDArray[np.float32]]:
        """Root mean squares over the scored pixels, (T,)."""
        mask = self.mask if self.mask is not None else np.ones(self.difference.shape[1:], bool)
        return {name: _rms_over(m[:, mask], (1,)) for name, m in self._maps().items()}

    def save(self, path: Path) -> None:
        """Write the maps as an .npz of half-precision arrays; raises `DataError`."""
        arrays: dict[str, NDArray[Any]] = {
            name: movie.astype(np.float16) for name, movie in self._maps().items()
        }
        if self.mask is not None:
            arrays["mask"] = self.mask
        write_arrays(path, arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; raises `DataError`."""
        arrays = read_arrays(path)
        mask = arrays.pop("mask", None)
        maps = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
        try:
            return cls(maps["difference"], maps.get("spread"), maps["noise"], mask)
        except KeyError as error:
            raise DataError(f"{path}: holds no maps of departures") from error

    def _maps(self) -> dict[str, Movie]:
        spread = {} if self.spread is None else {"spread": self.spread}
        return {"difference": self.difference, **spread, "noise": self.noise}

    def _scored(self, movie: Movie) -> Movie:
        return movie[DROPPED_FRAMES:] if self.mask is None else movie[DROPPED_FRAMES:, self.mask]

    def _outside(self, plane: Movie) -> Movie:
        return plane if self.mask is None else np.where(self.mask, plane, np.float32(np.nan))


def _rms(values: Movie) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def _rms_over(values: Movie, axes: tuple[int, ...]) -> NDArray[np.float32]:
    return np.asarray(np.sqrt(np.mean(np.square(values, dtype=np.float64), axis=axes)), np.float32)
