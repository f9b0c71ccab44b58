"""A mouse's folder in the layout of Sensorium 2023, small."""

from pathlib import Path

import numpy as np

NEURONS, LONGEST = 5, 70


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def padded(array: np.ndarray, frames: int = LONGEST) -> np.ndarray:
    widths = [(0, 0)] * (array.ndim - 1) + [(0, frames - array.shape[-1])]
    return np.pad(array.astype(np.float32), widths, constant_values=np.nan)


def write_trial(folder: Path, trial: int, video: np.ndarray, seed: int | None = None) -> None:
    """Write one trial whose responses and behaviour are noise of `seed`, (by default of its own)."""
    rng = np.random.default_rng(trial if seed is None else seed)
    frames = video.shape[-1]
    arrays = {
        "videos": video,
        "responses": rng.gamma(1.0, 2.0, (NEURONS, frames)),
        "behavior": rng.gamma(2.0, 1.0, (2, frames)),
        "pupil_center": rng.normal(150.0, 3.0, (2, frames)),
    }
    for kind, array in arrays.items():
        save(folder / "data" / kind / f"{trial}.npy", padded(array, max(LONGEST, frames)))


def sensorium_mouse(folder: Path, tiers: list[str], frames: int = 60) -> Path:
    """Write a mouse whose trials show movies of noise, all different."""
    for trial in range(len(tiers)):
        coarse = np.random.default_rng((7, trial)).uniform(0, 255, (6, 8, frames))
        write_trial(folder, trial, coarse.repeat(6, axis=0).repeat(8, axis=1))
    save(folder / "meta" / "trials" / "tiers.npy", np.array(tiers))
    return folder
