"""Decoders of area traces in simulated mice beside the published ones in real mice; `--rounds` calibrates.

Ajioka et al. 2024 tabulate a recurrent decoder of ROI traces for groups of ROIs (methods: 31 frames of each trace,
1000-frame moving mean taken off, scaled to [0, 1] in each session, GRU of 32 units). The same decoder is trained here
on the area traces of one half of ten calibration mice and tested on the other half, and the other way round. No
decoder of images takes part, and none of the mice that decoders are evaluated on.

A round of calibration takes the ratio of published to simulated sensitivity (the normal quantile of the AUC): activity
that is not movement is divided by that of the limb areas, the strength of movement in every other group is multiplied
by its own over theirs, and the slow drift is divided by that of traces which keep it.
"""

import json
import sys
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage, stats
from sklearn.metrics import roc_auc_score
from torch import nn

from benchmarks import arguments, tell
from rig.config import SimulationConfig
from rig.simulation.mouse import Mouse
from rig.simulation.widefield import WidefieldCortex
from rig.simulation.widefield_parameters import AREA_GROUPS, WidefieldParameters

# Ajioka et al. 2024, mean over 20 models: doi 10.1371/journal.pcbi.1011074, stored outputs of their notebooks.
PUBLISHED_AUC = {
    "all": 0.974,
    "limbs": 0.966,
    "motor": 0.869,
    "parietal": 0.776,
    "medial_visual": 0.793,
    "lateral_visual": 0.798,
    "raw": 0.911,
}
FIRST_SEED = 5000  # far from the mice that decoders are trained, calibrated or evaluated on
MICE = 10
SESSIONS = 3
SESSION_FRAMES = 18_000
HALF_WINDOW = 15
RUNNING_MM_S = 10.0
RATE_HZ = 30.0
BATCH = 512


@dataclass(frozen=True, slots=True)
class Traces:
    """One mouse: (sessions, frames, areas) of light, detrended or not, both within [0, 1]; (sessions, frames)."""

    names: list[str]
    detrended: NDArray[np.float32]
    raw: NDArray[np.float32]
    running: NDArray[np.bool_]


def simulate(seed: int, parameters: WidefieldParameters) -> Traces:
    """Area traces of a mouse as the published ROI decoders take them."""
    frames = SESSIONS * SESSION_FRAMES
    mouse = Mouse(seed, SimulationConfig(seed=seed).run_fraction, frames / RATE_HZ)
    cortex = WidefieldCortex(mouse, seed, rate_hz=RATE_HZ, parameters=parameters)
    light = cortex.area_light(0, frames)
    raw = np.stack(list(light.values()), axis=1).reshape(SESSIONS, SESSION_FRAMES, -1)
    slow = ndimage.uniform_filter1d(raw, 1000, axis=1, mode="nearest")
    running = mouse.running_speed_mm_s(np.arange(frames) / RATE_HZ) > RUNNING_MM_S
    return Traces(list(light), _within_one(raw - slow), _within_one(raw), running.reshape(SESSIONS, -1))


def _within_one(traces: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = traces.min(axis=1, keepdims=True), traces.max(axis=1, keepdims=True)
    scaled: NDArray[np.float32] = (traces - low) / (high - low)
    return scaled


def windows(
    mouse: Traces, group: str, count: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random windows of a group's areas, (count, 31, areas), and whether the mouse runs at their centres."""
    areas = [k for k, name in enumerate(mouse.names) if _belongs(name, group)]
    traces = (mouse.raw if group == "raw" else mouse.detrended)[..., areas]
    session = rng.integers(SESSIONS, size=count)
    centre = rng.integers(HALF_WINDOW, SESSION_FRAMES - HALF_WINDOW, size=count)
    frames = centre[:, None] + np.arange(-HALF_WINDOW, HALF_WINDOW + 1)
    chosen = traces[session[:, None], frames]
    return torch.from_numpy(chosen), torch.from_numpy(mouse.running[session, centre].astype(np.float32))


def _belongs(name: str, group: str) -> bool:
    return group in ("all", "raw") or name.partition("-")[2] in AREA_GROUPS[group]


class RoiGru(nn.Module):
    """Published ROI decoder: one layer of 32 units, the last step to one logit."""

    def __init__(self, areas: int) -> None:
        super().__init__()
        self.gru = nn.GRU(areas, 32, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, traces: torch.Tensor) -> torch.Tensor:
        """Log odds of running from (B, T, areas): (B,)."""
        steps: torch.Tensor = self.gru(4 * (traces - 0.5))[0]
        odds: torch.Tensor = self.head(steps[:, -1])[:, 0]
        return odds


def trained(inputs: torch.Tensor, running: torch.Tensor, epochs: int, seed: int) -> RoiGru:
    """Fit with binary cross-entropy and Adam, the rate falling to nought (published: 30 epochs at 1e-3)."""
    torch.manual_seed(seed)
    model = RoiGru(inputs.shape[2])
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    steps = epochs * (len(inputs) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=steps)
    order = torch.cat([torch.randperm(len(inputs)) for _ in range(epochs)])
    for batch in torch.split(order, BATCH)[:steps]:
        optimiser.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(model(inputs[batch]), running[batch])
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return model


def auc_by_mouse(mice: list[Traces], group: str, epochs: int, seed: int) -> list[float]:
    """AUC in each mouse of a decoder trained on the other half."""
    rng = np.random.default_rng(seed)
    drawn = [windows(mouse, group, 2000, rng) for mouse in mice]
    half = len(mice) // 2
    results = []
    for tested, training in ((drawn[:half], drawn[half:]), (drawn[half:], drawn[:half])):
        inputs, running = (torch.cat(parts) for parts in zip(*training, strict=True))
        model = trained(inputs, running, epochs, seed).eval()
        with torch.no_grad():
            results += [float(roc_auc_score(truth, model(x))) for x, truth in tested]
    return results


def measure(parameters: WidefieldParameters, epochs: int, seed: int) -> dict[str, list[float]]:
    """AUC of each group's decoder in each calibration mouse."""
    mice = [simulate(FIRST_SEED + k, parameters) for k in range(MICE)]
    return {group: auc_by_mouse(mice, group, epochs, seed) for group in PUBLISHED_AUC}


def next_round(parameters: WidefieldParameters, aucs: dict[str, float]) -> WidefieldParameters:
    """Divide activity that is not movement by what the limb areas lack, and scale the other groups to them."""
    factor = {group: _sensitivity(PUBLISHED_AUC[group]) / _sensitivity(auc) for group, auc in aucs.items()}
    strength = {g: s * factor.get(g, 1.0) / factor["limbs"] for g, s in parameters.groups}
    strength["limbs"] = 1.0
    strength["other"] = strength["parietal"]
    strength["other_somatosensory"] = (strength["motor"] + strength["parietal"]) / 2
    return replace(
        parameters,
        groups=tuple(strength.items()),
        spontaneous_dff=tuple(dff / factor["limbs"] for dff in parameters.spontaneous_dff),
        private_dff=parameters.private_dff / factor["limbs"],
        wave_dff=parameters.wave_dff / factor["limbs"],
        drift=parameters.drift / factor["raw"],
    )


def _sensitivity(auc: float) -> float:
    return float(stats.norm.ppf(auc))


def main() -> None:
    """Measure the shipped parameters, or calibrate them in so many rounds first."""
    asked = arguments(__doc__, rounds=0, epochs=8, seed=0)
    torch.set_num_threads(1)
    parameters = WidefieldParameters()
    history = []
    for left in range(asked.rounds, -1, -1):
        by_mouse = measure(parameters, asked.epochs, asked.seed)
        aucs = {group: float(np.mean(values)) for group, values in by_mouse.items()}
        history.append(_report(parameters, by_mouse))
        print(json.dumps(history[-1]), file=sys.stderr)
        parameters = next_round(parameters, aucs) if left else parameters
    tell(asked, {"published_auc": PUBLISHED_AUC, **history[-1], "rounds_before": history[:-1]})


def _report(parameters: WidefieldParameters, by_mouse: dict[str, list[float]]) -> dict[str, object]:
    return {
        "simulated_auc": {group: round(float(np.mean(values)), 3) for group, values in by_mouse.items()},
        "sd_over_mice": {group: round(float(np.std(values)), 3) for group, values in by_mouse.items()},
        "groups": {group: round(strength, 3) for group, strength in parameters.groups},
        "spontaneous_dff": [round(dff, 4) for dff in parameters.spontaneous_dff],
        "private_dff": round(parameters.private_dff, 4),
        "wave_dff": round(parameters.wave_dff, 4),
        "drift": round(parameters.drift, 4),
    }


if __name__ == "__main__":
    main()
