"""One plain training loop: seeds fixed, resumable after every epoch, progress on standard error."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from rig.errors import CheckpointError

_LARGEST_GRADIENT = 1.0
_WARM_UP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How a network is trained. `threads` is fixed because sums depend on it."""

    epochs: int
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-2
    seed: int = 0
    threads: int = 2


def fix_seeds(config: TrainingConfig) -> None:
    """Make what follows repeatable: torch's seed, thread count, and deterministic kernels."""
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True)


def train(
    network: nn.Module,
    losses: Callable[[int], Iterator[Tensor]],
    steps: int,
    config: TrainingConfig,
    resume: Path | None = None,
) -> list[float]:
    """Minimise the losses that `losses(epoch)` yields, one optimiser step each; return the mean loss of every epoch.

    Call `fix_seeds` before the network is made.

    Parameters
    ----------
    losses
        Yields `steps` losses an epoch, each computed with the weights as they are when it is asked for.
    resume
        File that keeps the state after every epoch; a training that was broken off goes on from it with the
        same result, and it is removed at the end.

    Raises
    ------
    CheckpointError
        When `resume` is unreadable or belongs to a training with other settings.
    """
    optimiser = torch.optim.AdamW(
        network.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )
    total = config.epochs * steps
    warm_up = max(_WARM_UP_SHARE, 2 / total)  # the schedule cannot warm up in one step
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total, pct_start=warm_up)
    parts = {"network": network, "optimiser": optimiser, "schedule": schedule}
    history = _load(resume, parts, config) if resume and resume.exists() else []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("training", total=total, completed=len(history) * steps)
        for epoch in range(len(history), config.epochs):
            torch.manual_seed(config.seed * 1000 + epoch)  # the same draws whether resumed or not
            network.train()
            history.append(_epoch(network, losses(epoch), optimiser, schedule, lambda: progress.advance(bar)))
            progress.update(bar, description=f"epoch {epoch + 1}, loss {history[-1]:.3f}")
            if resume:
                _save(resume, parts, config, history)
    if resume:
        resume.unlink(missing_ok=True)
    return history


def _epoch(
    network: nn.Module,
    losses: Iterator[Tensor],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    advance: Callable[[], None],
) -> float:
    """One pass over the data; returns the mean loss."""
    total, count = 0.0, 0
    for loss in losses:
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), _LARGEST_GRADIENT)
        optimiser.step()
        schedule.step()
        total, count = total + float(loss.detach()), count + 1
        advance()
    return total / max(count, 1)


def _save(path: Path, parts: dict[str, Any], config: TrainingConfig, history: list[float]) -> None:
    state = {name: part.state_dict() for name, part in parts.items()}
    partial = path.with_name(path.name + ".partial")
    torch.save({**state, "config": json.dumps(asdict(config)), "history": history}, partial)
    partial.replace(path)


def _load(path: Path, parts: dict[str, Any], config: TrainingConfig) -> list[float]:
    try:
        state = torch.load(path, weights_only=True)  # weights_only: nothing in the file is executed
        history: list[float] = state["history"]
        same = state["config"] == json.dumps(asdict(config))
    except Exception as error:  # torch names no base class for what a broken file raises
        raise CheckpointError(f"{path}: cannot be resumed from; delete it to start anew") from error
    if not same:
        raise CheckpointError(f"{path}: from a training with {state['config']}; delete it to start anew")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return history
