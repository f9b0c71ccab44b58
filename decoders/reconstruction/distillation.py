"""Teachers: encoders whose predictions stand in for responses that nobody recorded.

A movie was shown to one mouse, yet a network answers for all. In its second stage R. Baikulov's DwiseNeuro
(github.com/lRomul/sensorium, README and configuration `distillation_001`) learns for the other mice what the networks
of the first stage predict from the same movie and behaviour.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from decoders.datasets.movies import MovieMouse
from decoders.reconstruction.dwiseneuro import DwiseNeuro
from decoders.reconstruction.dwiseneuro_encoder import DwiseNeuroEncoder
from decoders.reconstruction.encoder import load_encoder, mouse_index
from rig.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Teachers:
    """Networks, and in each the numbers of the mice that the student knows, in the student's order."""

    networks: tuple[DwiseNeuro, ...]
    mice: tuple[tuple[int, ...], ...]

    @classmethod
    def load(cls, paths: Sequence[Path], mice: Sequence[MovieMouse], student: DwiseNeuroEncoder) -> Self:
        """Read encoders to where the student is.

        Raises
        ------
        CheckpointError
            When a file is no encoder, takes other windows than the student, or does not know one of the mice.
        """
        device = next(student.network.parameters()).device
        networks, numbers = [], []
        for path in paths:
            encoder = load_encoder(path)
            if not isinstance(encoder, DwiseNeuroEncoder) or _windows(encoder) != _windows(student):
                raise CheckpointError(
                    f"{path}: cannot teach; valid is DwiseNeuro on windows of {student.size} frames, one in"
                    f" {student.step}"
                )
            numbers.append(tuple(mouse_index(encoder, mouse.name, mouse.neurons, path) for mouse in mice))
            networks.append(encoder.to(device).network)
        return cls(tuple(networks), tuple(numbers))

    @torch.no_grad()
    def respond(self, windows: Tensor) -> list[Tensor]:
        """Mean responses (B, T, N) of every mouse to windows (B, T, H, W, C)."""
        answers = []
        for network, mice in zip(self.networks, self.mice, strict=True):
            features = network.features(windows)
            answers.append([network.readouts[mouse](features).float() for mouse in mice])
        return [torch.stack(of_mouse).mean(0) for of_mouse in zip(*answers, strict=True)]


def _windows(encoder: DwiseNeuroEncoder) -> tuple[object, ...]:
    return encoder.size, encoder.step, encoder.input_size, encoder.padding
