"""Run or rest from cortex, frame by frame: a small strided CNN sees one frame, a GRU joins it with the past.

After the CNN-GRU of Ajioka et al. 2024 (doi 10.1371/journal.pcbi.1011074), made causal: theirs sees six frames of
the future and 13 in all, this one sees the present frame and what it keeps of earlier ones. The GRU is either carried
from frame to frame, or run anew over a window of features; each frame passes the CNN once in both.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SMALLEST_PX = 16


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Sizes of the network; `height_px` and `width_px` are those of its input.

    `window` is the number of frames that the GRU joins, the present one included; 0: it is carried without end.
    """

    height_px: int = 32
    width_px: int = 32
    channels: tuple[int, ...] = (24, 48)
    features: int = 48
    hidden: int = 32
    dropout: float = 0.2
    window: int = 0

    def __post_init__(self) -> None:
        if min(self.height_px, self.width_px) < SMALLEST_PX:
            size = f"{self.height_px}x{self.width_px}"
            raise ValueError(f"frames of {size} pixels; the smallest valid edge is {SMALLEST_PX}")

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """What a `Step` keeps between frames: the GRU's state, or the features of the window's earlier frames."""
        return (1, self.window - 1, self.features) if self.window else (1, 1, self.hidden)


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
        self.readout = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(config.hidden, 1))

    def forward(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Decode sequences: (B, T, H, W) and state to logits (B, T) and the state after them.

        Every frame passes the encoder once, whatever the window.
        """
        features = self.encoder(frames.flatten(0, 1).unsqueeze(1)).unflatten(0, frames.shape[:2])
        if not self.config.window:
            states, state = self.memory(features, state)
            return self.readout(states).squeeze(-1), state
        past = torch.cat([state, features], 1)
        windows = past.unfold(1, self.config.window, 1).transpose(2, 3)  # (B, T, window, features)
        states, _ = self.memory(windows.flatten(0, 1))
        logits = self.readout(states[:, -1]).squeeze(-1).unflatten(0, frames.shape[:2])
        return logits, past[:, past.shape[1] - self.config.window + 1 :]

    def start(self, batch: int) -> Tensor:
        """State before an animal's first frame, (1, B, hidden) or (B, window - 1, features): zeros."""
        one, middle, last = self.config.state_shape
        return torch.zeros((batch, middle, last) if self.config.window else (one, batch, last))


class Step(nn.Module):
    """One frame of a `BehaviorNetwork`: frame (1, 1, H, W) and state to logit (1,) and state.

    Made of the same weights; what is exported and run live.
    """

    def __init__(self, network: BehaviorNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, frame: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Decode one frame."""
        network = self.network
        features = network.encoder(frame).unsqueeze(1)
        if network.config.window:
            window = torch.cat([state, features], 1)
            states, _ = network.memory(window)
            return network.readout(states[:, -1]).flatten(), window[:, 1:]
        states, state = network.memory(features, state)
        return network.readout(states).flatten(), state


def step_inputs(config: NetworkConfig) -> list[NDArray[np.float32]]:
    """Inputs of a `Step`, zeros, in the shapes that the exported graph keeps."""
    frame = np.zeros((1, 1, config.height_px, config.width_px), np.float32)
    return [frame, np.zeros(config.state_shape, np.float32)]
