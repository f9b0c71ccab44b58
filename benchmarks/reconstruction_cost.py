"""What a reconstruction costs as clips grow longer, and with more clips and more models: seconds and peak memory.

Each measurement is a process of its own, so that its peak memory is its own. Encoders are light ones with random
weights and the responses are noise: neither changes the cost. Both recipes make a few of their iterations only, as
every one costs the same. `ratio_to_first` is beside how much more was asked for: linear means that they agree.
Memory is what the process holds at most, less what it holds once the encoders are made.
"""

import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import torch

from benchmarks import arguments, tell
from decoders.reconstruction.inversion import invert
from decoders.reconstruction.light_encoder import LightConfig, LightEncoder, LightNetwork

_ITERATIONS = {"fast": 8, "published": 2}
_FRAMES = (300, 600, 1200, 2400)
_MODELS = (1, 2, 4)
_CLIPS = (1, 2, 4)


def measure(recipe: str, frames: int, models: int, clips: int, neurons: int) -> tuple[float, float]:
    """Reconstruct clips of noise one after the other: seconds, and MB at the peak beyond those at the start."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    encoders = [LightEncoder(LightNetwork(LightConfig((neurons,))).eval(), ("noise",)) for _ in range(models)]
    rng = np.random.default_rng(0)
    responses = rng.exponential(size=(neurons, frames)).astype(np.float32)
    behavior, pupil_center = rng.normal(size=(2, 2, frames)).astype(np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began_s = time.perf_counter()
    for _ in range(clips):
        invert(
            encoders,
            responses,
            behavior,
            pupil_center,
            mouse=0,
            recipe=recipe,
            iterations=_ITERATIONS[recipe],
            progress=False,
        )
    seconds = time.perf_counter() - began_s
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def apart(*asked: Any) -> tuple[float, float]:
    """Measure in a new process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, *asked).result()


def growth(name: str, counts: tuple[int, ...], results: list[tuple[float, float]]) -> list[dict[str, float]]:
    """One row for each count, beside the first."""
    return [
        {
            name: count,
            "asked_for_ratio": count / counts[0],
            "seconds": round(seconds, 2),
            "ratio_to_first": round(seconds / results[0][0], 2),
            "peak_mb": round(peak_mb),
        }
        for count, (seconds, peak_mb) in zip(counts, results, strict=True)
    ]


def main() -> None:
    """Measure both recipes."""
    asked = arguments(__doc__, neurons=1000)
    report: dict[str, Any] = {
        "data": "noise; light encoders with random weights, one thread",
        "neurons": asked.neurons,
        "iterations": _ITERATIONS,
    }
    for recipe in _ITERATIONS:
        longer = [apart(recipe, frames, 1, 1, asked.neurons) for frames in _FRAMES]
        report[recipe] = {"by_frames": growth("frames", _FRAMES, longer)}
        further = [apart(recipe, _FRAMES[0], models, 1, asked.neurons) for models in _MODELS]
        report[recipe]["by_models"] = growth("models", _MODELS, further)
        more = [apart(recipe, _FRAMES[0], 1, clips, asked.neurons) for clips in _CLIPS]
        report[recipe]["by_clips"] = growth("clips", _CLIPS, more)
    tell(asked, report)


if __name__ == "__main__":
    main()
