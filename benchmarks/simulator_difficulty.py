"""How far simple decoders of images get in simulated mice: mean brightness, and logistic regression on pixels.

Five calibration mice at the published run fractions, one left out at a time. Frames of 128 x 128 are binned to 64 x 64
and normalised by their own past; a window is the present frame and the four before it (0.17 s). Brightness is
the mean of the raw frame over its own running mean. Nothing is fitted to the mouse that is tested.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import arguments, tell
from decoders.normalise import NormaliserConfig, RunningNormaliser, bin_area
from rig.config import SimulationConfig
from rig.simulation.mouse import Mouse
from rig.simulation.widefield import WidefieldCortex

RATE_HZ = 30.0
RUNNING_MM_S = 10.0
SIZE_PX = 64
WINDOW = 5
STRIDE = 8  # of the windows taken; neighbours tell nearly the same
WARM_UP = 300  # frames before the running statistics mean anything
COMPONENTS = 50
_STATISTICS = NormaliserConfig(mean_s=60.0, std_s=60.0, rate_hz=RATE_HZ)


def recording(seed: int, frames: int) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_]]:
    """Windows (N, 5 x 64 x 64), brightness beside its past (N,) and running (N,) of one mouse."""
    mouse = Mouse(seed, SimulationConfig(seed=seed).run_fraction, frames / RATE_HZ)
    cortex = WidefieldCortex(mouse, seed, rate_hz=RATE_HZ)
    normaliser, running_mean = RunningNormaliser(SIZE_PX, SIZE_PX, _STATISTICS), 0.0
    normalised = np.empty((frames, SIZE_PX, SIZE_PX), np.float32)
    brightness = np.empty(frames)
    for k in range(frames):
        image = bin_area(cortex.frame(k), SIZE_PX, SIZE_PX)
        normalised[k] = normaliser.step(image)
        mean = float(image.mean())
        running_mean += (mean - running_mean) * max(1 / (k + 1), 1 / (_STATISTICS.mean_s * RATE_HZ))
        brightness[k] = mean - running_mean
    present = np.arange(WARM_UP, frames, STRIDE)
    windows = normalised[present[:, None] + np.arange(1 - WINDOW, 1)].reshape(len(present), -1)
    running = mouse.running_speed_mm_s(present / RATE_HZ) > RUNNING_MM_S
    return windows, brightness[present], running


def logistic_auc(
    training: list[tuple[NDArray[np.float32], NDArray[np.bool_]]],
    tested: tuple[NDArray[np.float32], NDArray[np.bool_]],
) -> float:
    """AUC in one mouse of logistic regression on principal components of the others' windows."""
    windows, running = (np.concatenate(parts) for parts in zip(*training, strict=True))
    model = make_pipeline(
        PCA(COMPONENTS, svd_solver="randomized", random_state=0),
        StandardScaler(),
        LogisticRegression(C=0.1, max_iter=300),
    )
    return float(roc_auc_score(tested[1], model.fit(windows, running).decision_function(tested[0])))


def main() -> None:
    """Leave one mouse out of five."""
    asked = arguments(__doc__, frames=7200, seed=5000, mice=5)
    seeds = range(asked.seed, asked.seed + asked.mice)
    mice = [recording(seed, asked.frames) for seed in seeds]
    pixels = [(windows, running) for windows, _, running in mice]
    logistic = [logistic_auc(pixels[:k] + pixels[k + 1 :], pixels[k]) for k in range(len(mice))]
    brightness = [float(roc_auc_score(running, mean)) for _, mean, running in mice]
    tell(
        asked,
        {
            "data": f"simulated mice {seeds.start} to {seeds.stop - 1}, {asked.frames} frames each",
            "running": [round(float(running.mean()), 3) for _, _, running in mice],
            "auc": {
                name: _summary(auc) for name, auc in (("brightness", brightness), ("logistic", logistic))
            },
        },
    )


def _summary(auc: list[float]) -> dict[str, object]:
    return {"by_mouse": [round(value, 3) for value in auc], "mean": round(float(np.mean(auc)), 3)}


if __name__ == "__main__":
    main()
