"""Run or rest from cortex, frame by frame: a small strided CNN and a GRU that carries the past.

After the CNN-GRU of Ajioka et al. 2024 (doi 10.1371/journal.pcbi.1011074), made causal: theirs sees six frames of
the future and 13 in all, this one sees the present frame and remembers what it needs.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SMALLEST_PX = 32


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Sizes of the network; `height_px` and `width_px` are those of its input."""

    height_px: int = 64
    width_px: int = 64
    channels: tuple[int, ...] = (16, 32, 32)
    features: int = 48
    hidden: int = 32
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if min(self.height_px, self.width_px) < SMALLEST_PX:
            size = f"{self.height_px}x{self.width_px}"
            raise ValueError(f"frames of {size} pixels; the smallest valid edge is {SMALLEST_PX}")


class FrameEncoder(nn.Module):
    """Features of single frames: strided convolutions, then one linear layer over the coarse map."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        last, rows, columns = 1, config.height_px, config.width_px
        for depth, channels in enumerate(config.channels):
            kernel = 5 if depth == 0 else 3
            layers += [nn.Conv2d(last, channels, kernel, stride=2, padding=kernel // 2)]
            layers += [nn.BatchNorm2d(channels), nn.ReLU()]
            last, rows, columns = channels, (rows + 1) // 2, (columns + 1) // 2
        layers += [nn.Flatten(), nn.Dropout(config.dropout)]
        layers += [nn.Linear(last * rows * columns, config.features), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, frames: Tensor) -> Tensor:
        """(n, 1, H, W) to (n, features)."""
        features: Tensor = self.layers(frames)
        return features


class BehaviorNetwork(nn.Module):
    """Normalised frames to logits of running."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = FrameEncoder(config)
        self.memory = nn.GRU(config.features, config.hidden, batch_first=True)
        self.readout = nn.Linear(config.hidden, 1)

    def forward(self, frames: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Decode sequences: (B, T, H, W) and (1, B, hidden) to logits (B, T) and the new hidden state."""
        features = self.encoder(frames.flatten(0, 1).unsqueeze(1))  # (B*T, features)
        states, hidden = self.memory(features.unflatten(0, frames.shape[:2]), hidden)
        return self.readout(states).squeeze(-1), hidden

    def start(self, batch: int) -> Tensor:
        """Hidden state of an animal nothing is known of, (1, B, hidden)."""
        return torch.zeros(1, batch, self.config.hidden)


class Step(nn.Module):
    """One frame of a `BehaviorNetwork`: frame (1, 1, H, W) and hidden (1, 1, hidden) to logit (1,) and hidden.

    Made of the same weights; what is exported and run live.
    """

    def __init__(self, network: BehaviorNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, frame: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Decode one frame."""
        states, hidden = self.network.memory(self.network.encoder(frame).unsqueeze(1), hidden)
        return self.network.readout(states).flatten(), hidden


def step_inputs(config: NetworkConfig) -> list[NDArray[np.float32]]:
    """Inputs of a `Step`, zeros, in the shapes that the exported graph keeps."""
    frame = np.zeros((1, 1, config.height_px, config.width_px), np.float32)
    return [frame, np.zeros((1, 1, config.hidden), np.float32)]
