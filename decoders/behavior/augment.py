"""Variations of a training clip that another mouse under another mount could have shown.

Optics are never mounted twice in the same place, heads differ in size, and areas differ in how strongly they respond;
a decoder for mice it never saw has to be indifferent to all of that. Every clip is turned, scaled, shifted and
mirrored as a whole, its signal multiplied by a smooth random map, and two such maps added, one of them swinging
slowly: where a running mean stands depends on what the animal did before, and light drifts.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

_CELLS = 7  # across the frame: 1.6 mm on a whole dorsal cortex, about an area


@dataclass(frozen=True, slots=True)
class Variation:
    """How much clips vary. Turns, scales and shifts are uniform within +-; gains are log-normal, offsets normal."""

    rotation_deg: float
    log_scale: float
    shift: float  # as a share of the frame's edge
    local_log_gain: float
    global_log_gain: float
    local_offset: float  # sd, in the unit of normalised frames, as the next
    drift: float  # sd of a map that swings through a quarter to two half periods in a clip


def vary(clips: Tensor, variation: Variation, rng: np.random.Generator) -> Tensor:
    """Clips (B, T, H, W), each varied in its own way; what comes in from outside the frame is 0, the mean."""
    batch, length, height, width = clips.shape
    grid = F.affine_grid(_placements(batch, variation, rng), [batch, 1, height, width], align_corners=False)
    placed = F.grid_sample(clips, grid, padding_mode="zeros", align_corners=False)
    overall = _tensor(rng.normal(0, variation.global_log_gain, (batch, 1, 1, 1)))
    gain = torch.exp(overall + variation.local_log_gain * _smooth_map(batch, height, width, rng))
    offset = variation.local_offset * _smooth_map(batch, height, width, rng)
    drift = variation.drift * _smooth_map(batch, height, width, rng)
    return gain * placed + offset + _swings(batch, length, rng) * drift


def _swings(batch: int, length: int, rng: np.random.Generator) -> Tensor:
    """Slow sines over clips, each of its own pace and phase, (B, T, 1, 1)."""
    pace, phase = rng.uniform(0.25, 2.0, (batch, 1)), rng.uniform(0.0, 2 * np.pi, (batch, 1))
    return _tensor(np.sin(np.pi * pace * np.linspace(-1.0, 1.0, length) + phase))[:, :, None, None]


def _smooth_map(batch: int, height_px: int, width_px: int, rng: np.random.Generator) -> Tensor:
    """Smooth random maps of about unit sd, (B, 1, H, W)."""
    cells = _tensor(rng.normal(size=(batch, 1, _CELLS, _CELLS)))
    return F.interpolate(cells, size=(height_px, width_px), mode="bicubic", align_corners=True)


def _placements(batch: int, variation: Variation, rng: np.random.Generator) -> Tensor:
    """Affine maps (B, 2, 3) in the coordinates of `affine_grid`, whose frame spans -1 to 1."""
    turn = np.deg2rad(rng.uniform(-variation.rotation_deg, variation.rotation_deg, batch))
    scale = np.exp(rng.uniform(-variation.log_scale, variation.log_scale, batch))
    shift = 2 * rng.uniform(-variation.shift, variation.shift, (2, batch))
    mirror = np.where(rng.random(batch) < 0.5, -1.0, 1.0)
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    rows = [np.stack([mirror * cos, -sin, shift[0]], 1), np.stack([mirror * sin, cos, shift[1]], 1)]
    return _tensor(np.stack(rows, 1))


def _tensor(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
