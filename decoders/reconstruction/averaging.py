"""The moving average of a network's weights, which predicts better than its last ones."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class MovingAverage:
    """Exponential moving average of weights and batch norms' statistics; in the end it replaces them.

    Parameters
    ----------
    decay
        Of one step; smaller in the first steps, so that the weights of the beginning are soon forgotten.
    validate
        Loss of a network with averaged weights on data that are not trained on; called after every epoch.
    """

    def __init__(self, network: nn.Module, decay: float, validate: Callable[[nn.Module], float]) -> None:
        self.losses: list[float] = []
        self._decay, self._validate = decay, validate
        self._average = copy.deepcopy(network).eval().requires_grad_(False)
        self._steps = self._seen = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights after a step."""
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        mean, now = self._average.state_dict(), network.state_dict()
        for name, value in mean.items():
            value.lerp_(now[name], 1 - decay) if value.is_floating_point() else value.copy_(now[name])
        self._steps += 1

    def check(self, network: nn.Module) -> None:
        """Validate the average, if there was a step since the last time."""
        if self._steps > self._seen or not self.losses:
            self.losses.append(self._validate(self._average))
            self._seen = self._steps

    def restore(self, network: nn.Module) -> None:
        """Put the average in the network."""
        network.load_state_dict(self._average.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""
        average: dict[str, Tensor] = self._average.state_dict()
        return {"losses": self.losses, "average": average, "steps": self._steps, "seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of a training that was broken off."""
        self.losses, self._steps, self._seen = state["losses"], state["steps"], state["seen"]
        self._average.load_state_dict(state["average"])
