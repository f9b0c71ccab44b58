"""A folder of mice in the Sensorium layout whose neurons see a part of the screen each: small and quick."""

from pathlib import Path

import numpy as np

from rig.simulation.movies import natural_movies
from tests.unit.sensorium_layout import save

DELAY = 3  # frames


def write_phantom(folder: Path, neurons: int = 4, clips: int = 10, frames: int = 150, seed: int = 0) -> Path:
    """Write one mouse whose neurons answer when the edge between two patches changes, more while running."""
    rng = np.random.default_rng(seed)
    places = rng.integers((4, 4), (28, 50), (neurons, 2))
    movies = natural_movies(clips, frames, seed).astype(np.float32)
    for trial, movie in enumerate(movies):
        running = np.repeat(rng.random(-(-frames // 20)), 20)[:frames]
        edge = np.stack([_mean(movie, y, x) - _mean(movie, y, x + 6) for y, x in places])
        change = np.abs(edge - np.roll(edge, 3, axis=1))
        rate = (1 + running) * np.roll(change / (change + 20), DELAY, axis=1)
        arrays = {
            "videos": np.moveaxis(movie, 0, -1),
            "responses": rate + rng.exponential(0.05, rate.shape),
            "behavior": np.stack([rng.random(frames), running]),
            "pupil_center": rng.normal(size=(2, frames)),
        }
        for kind, array in arrays.items():
            save(folder / "data" / kind / f"{trial}.npy", array.astype(np.float32))
    save(folder / "meta" / "trials" / "tiers.npy", np.array(["train"] * clips))
    return folder


def _mean(movie: np.ndarray, y: int, x: int) -> np.ndarray:
    return movie[:, y : y + 6, x : x + 6].mean((1, 2))
