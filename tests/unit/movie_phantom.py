"""A folder of mice in the Sensorium layout whose neurons see a patch of the screen each: small, quick, predictable."""

from pathlib import Path

import numpy as np

from rig.simulation.movies import natural_movies
from tests.unit.sensorium_layout import save

DELAY = 3  # frames


def write_phantom(folder: Path, neurons: int = 4, clips: int = 10, frames: int = 140, seed: int = 0) -> Path:
    """Write one mouse whose neurons answer to the temporal change in their patch, more while running."""
    rng = np.random.default_rng(seed)
    places = rng.integers((4, 4), (28, 56), (neurons, 2))
    movies = natural_movies(clips, frames, seed).astype(np.float32)
    for trial, movie in enumerate(movies):
        running = np.repeat(rng.random(-(-frames // 20)), 20)[:frames]
        patches = np.stack([movie[:, y : y + 5, x : x + 5].mean((1, 2)) for y, x in places])
        change = np.abs(np.diff(patches, axis=1, prepend=patches[:, :1]))
        rate = (1 + running) * np.roll(change, DELAY, axis=1)
        arrays = {
            "videos": np.moveaxis(movie, 0, -1),
            "responses": rate + rng.exponential(0.2, rate.shape),
            "behavior": np.stack([rng.random(frames), running]),
            "pupil_center": rng.normal(size=(2, frames)),
        }
        for kind, array in arrays.items():
            save(folder / "data" / kind / f"{trial}.npy", array.astype(np.float32))
    save(folder / "meta" / "trials" / "tiers.npy", np.array(["train"] * clips))
    return folder
