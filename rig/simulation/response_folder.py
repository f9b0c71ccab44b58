"""A folder in the layout of Sensorium 2023, written trial by trial, with the truth beside it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rig.errors import ConfigError

RECORDED = ("videos", "responses", "behavior", "pupil_center")


class ResponseFolder:
    """One mouse's folder: `data/`, `meta/`, and `truth/`, which readers of the published layout pass over."""

    def __init__(self, path: Path) -> None:
        """Make the folder; raises `ConfigError` where there is something in it already."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(f"{path}: is there already and not empty; give another folder")
        self._path = path
        self._moments: dict[str, _Moments] = {name: _Moments() for name in RECORDED}

    def write(
        self, trial: int, recorded: dict[str, NDArray[np.float32]], truth: dict[str, NDArray[np.float32]]
    ) -> None:
        """Write one trial's arrays, (..., T) each."""
        for group, arrays in (("data", recorded), ("truth", truth)):
            for name, array in arrays.items():
                self._save(f"{group}/{name}/{trial}.npy", array)

    def learn(self, recorded: dict[str, NDArray[np.float32]]) -> None:
        """Let a trial count in the statistics."""
        for name, array in recorded.items():
            self._moments[name].add(array)

    def finish(self, meta: dict[str, NDArray[np.generic]]) -> None:
        """Write the statistics and `meta`, arrays by their path below the mouse's folder."""
        for name, moments in self._moments.items():
            for statistic, values in moments.results().items():
                self._save(f"meta/statistics/{name}/all/{statistic}.npy", values)
        for place, array in meta.items():
            self._save(place, array)

    def _save(self, place: str, array: NDArray[np.generic]) -> None:
        file = self._path / place
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, array, allow_pickle=False)
        except OSError as error:
            raise ConfigError(f"{file}: cannot be written: {error.strerror or error}") from error


class _Moments:
    """Mean, sd and extremes over time and trials, one for each row; of videos one for all pixels."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: NDArray[np.float64] = np.zeros(1)
        self._squares: NDArray[np.float64] = np.zeros(1)
        self._low: NDArray[np.float64] = np.full(1, np.inf)
        self._high: NDArray[np.float64] = np.full(1, -np.inf)

    def add(self, array: NDArray[np.float32]) -> None:
        rows = (array.reshape(1, -1) if array.ndim == 3 else array).astype(np.float64)
        self._count += rows.shape[1]
        self._sum = self._sum + rows.sum(axis=1)
        self._squares = self._squares + (rows**2).sum(axis=1)
        self._low = np.minimum(self._low, rows.min(axis=1))
        self._high = np.maximum(self._high, rows.max(axis=1))

    def results(self) -> dict[str, NDArray[np.float32]]:
        count = max(1, self._count)
        mean = self._sum / count
        variance = np.maximum(self._squares / count - mean**2, 0.0)
        found = {"mean": mean, "std": np.sqrt(variance), "min": self._low, "max": self._high}
        return {name: values.astype(np.float32) for name, values in found.items()}
