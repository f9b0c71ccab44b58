"""The published layout, small: a table, TIFFs and MATLAB files as the authors' code reads them."""

from pathlib import Path

import numpy as np
import tifffile
from scipy.io import savemat

IMAGES, BEHAVIOR, ROIS = "data_of_image_64_5mice", "data_of_behavior_64_5mice", "data_of_roi_64_5mice"
FRAMES, HEIGHT, WIDTH = 60, 12, 10


def pixels(seed: int = 0) -> np.ndarray:
    """Frames known from their seed alone."""
    return np.random.default_rng(seed).integers(0, 60_000, (FRAMES, HEIGHT, WIDTH)).astype(np.uint16)


def write_table(folder: Path, text: str = "Data_ID,Mouse_#\na,2\nb,1\n") -> Path:
    """Write the table of sessions and mice."""
    folder.mkdir(exist_ok=True)
    (folder / "data_64_5mice.csv").write_text(text)
    return folder


def write_session(folder: Path, name: str, seed: int = 0, frames: int = FRAMES, **behavior: object) -> None:
    """Write one session: at rest for the first third, then running; `behavior` replaces or adds variables."""
    for place in (IMAGES, BEHAVIOR):
        (folder / place).mkdir(exist_ok=True, parents=True)
    tifffile.imwrite(folder / IMAGES / f"{name}.tif", pixels(seed))
    runs = (np.arange(frames) >= frames // 3).astype(np.uint8)
    variables = {"runrest": runs[None], "speed_rs": 3.0 * runs[None]} | behavior
    savemat(folder / BEHAVIOR / f"{name}_behavior.mat", {k: v for k, v in variables.items() if v is not None})


def kobe_folder(folder: Path) -> Path:
    """Two sessions of two mice."""
    write_table(folder)
    write_session(folder, "a", 1)
    write_session(folder, "b", 2)
    return folder
