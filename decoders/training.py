"""One plain training loop: seeds fixed, resumable after every epoch, progress on standard error."""

import json
import logging
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from decoders.peers import ALONE, Peer
from rig import terminal
from rig.errors import CheckpointError, ConfigError

_LOG = logging.getLogger(__name__)
_SHORTEST_CYCLE = 3  # steps: up, the top, down
_NEXT_SEED = 1_000_000_007  # from one process to the next: others draw other noise
_READERS = 8  # threads; each has one batch in hand and one waiting

Asked = TypeVar("Asked")
Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How a network is trained. `threads` is fixed because sums depend on it.

    AdamW, on a one-cycle schedule (warm-up over `warm_up_share` of the steps, then down to the learning rate over
    25 x `final_division`), on a linear warm-up and a cosine down to the learning rate over `final_division`, or at
    one learning rate. `largest_gradient` clips the gradient's norm; None: no clipping.
    Without `decay_biases`, biases and batch norms are left out of the weight decay.
    """

    epochs: int
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-2
    seed: int = 0
    threads: int = 2
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    schedule: Literal["one-cycle", "warm-up-cosine", "constant"] = "one-cycle"
    warm_up_share: float = 0.1
    final_division: float = 1e4
    largest_gradient: float | None = 1.0
    decay_biases: bool = True


class WeightsKeeper(Protocol):
    """Decides which weights a training leaves in the network; part of what a resumed training takes up."""

    def check(self, network: nn.Module) -> None:
        """Look at the weights after an epoch."""
        ...

    def restore(self, network: nn.Module) -> None:
        """Put the weights decided on in the network, at the end."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of a training that was broken off."""
        ...


class BestEpoch:
    """Keeps the weights of the epoch with the smallest validation loss.

    Parameters
    ----------
    validate
        Returns the validation loss with the weights as they are; called after every epoch.
    """

    def __init__(self, validate: Callable[[], float]) -> None:
        self.losses: list[float] = []
        self._validate = validate
        self._weights: dict[str, Tensor] = {}

    def check(self, network: nn.Module) -> None:
        """Validate, and keep the network's weights when they are the best so far."""
        network.eval()
        loss = self._validate()
        if loss < min(self.losses, default=math.inf):
            self._weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.losses.append(loss)

    def restore(self, network: nn.Module) -> None:
        """Put the best weights back; the last ones stay when no loss was a number."""
        if self._weights:
            network.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""
        return {"losses": self.losses, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of a training that was broken off."""
        self.losses, self._weights = state["losses"], state["weights"]


def check_device(device: str, processes: int = 1) -> None:
    """Raise `ConfigError` when more GPUs are asked for, one by each process, than there are."""
    if device != "cuda":
        return
    if not torch.cuda.is_available():
        raise ConfigError("device 'cuda' asked for and none found; valid here is 'cpu'")
    found = torch.cuda.device_count()
    if processes > found:
        raise ConfigError(f"--processes {processes}: each takes a GPU, and there are {found} here")


def fix_seeds(config: TrainingConfig) -> None:
    """Make what follows repeatable: torch's seed, thread count, and deterministic kernels."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True)


def read_ahead(read: Callable[[Asked], Read], asked: Iterable[Asked], device: str) -> Iterator[Read]:
    """What `read` makes of each of those asked for, in order; while a GPU computes, threads read the next ones."""
    if device == "cpu":  # its cores have enough to do
        yield from map(read, asked)
        return
    pool = ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1))
    waiting: deque[Future[Read]] = deque()
    try:
        for one in asked:
            waiting.append(pool.submit(read, one))
            if len(waiting) > 2 * _READERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def train(
    network: nn.Module,
    losses: Callable[[int], Iterator[Tensor]],
    steps: int,
    config: TrainingConfig,
    resume: Path | None = None,
    best: WeightsKeeper | None = None,
    peer: Peer = ALONE,
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
    best
        Chooses the epoch whose weights are left in the network; None: the last.
    peer
        Which of several processes this is. Each yields as many losses, the means of which are minimised.

    Raises
    ------
    CheckpointError
        When `resume` is unreadable or belongs to a training with other settings.
    """
    device = next(network.parameters()).device.type
    optimiser = _optimiser(network, config)
    scaler = torch.amp.GradScaler(device, enabled=device == "cuda")  # half precision loses small gradients
    schedule = _schedule(optimiser, steps, config)
    parts = {"network": network, "optimiser": optimiser, "schedule": schedule, "scaler": scaler}
    if best:
        parts["best"] = best
    history = _load(resume, parts, config) if resume and resume.exists() else []
    peer.meet()  # all have read before the first one writes
    with _display(len(history) * steps, config.epochs * steps, peer) as (advance, tell):

        def step(loss: Tensor) -> None:
            optimiser.zero_grad()
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            peer.average_gradients(network)
            if _step(network, optimiser, scaler, config.largest_gradient):
                schedule.step()
            advance()

        for epoch in range(len(history), config.epochs):
            seed = config.seed * 1000 + epoch + _NEXT_SEED * peer.rank
            torch.manual_seed(seed)  # the same draws whether resumed or not
            network.train()
            history.append(_epoch(losses(epoch), step))
            tell(f"epoch {epoch + 1} of {config.epochs}, loss {history[-1]:.3f}")
            if best:
                best.check(network)
            if resume and peer.leads:
                _save(resume, parts, config, history)
    if best:
        best.restore(network)
    if resume and peer.leads:
        resume.unlink(missing_ok=True)
    return history


@contextmanager
def _display(done: int, total: int, peer: Peer) -> Iterator[tuple[Callable[[], None], Callable[[str], None]]]:
    """Show a bar of steps, or without a terminal a line every ten seconds; yields what advances it, and what tells."""
    if not peer.leads:
        yield lambda: None, lambda text: None
        return
    may_log = terminal.seldom()
    with terminal.progress(transient=True) as progress:
        bar = progress.add_task("training", total=total, completed=done)

        def tell(text: str) -> None:
            progress.update(bar, description=text)
            if progress.disable and may_log():
                _LOG.info("%s", text)

        yield lambda: progress.advance(bar), tell


def _optimiser(network: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    norms = {id(value) for part in network.modules() if _is_norm(part) for value in part.parameters()}
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, value in network.named_parameters():
        keep = config.decay_biases or not (id(value) in norms or name.endswith("bias"))
        (decayed if keep else free).append(value)
    groups: list[dict[str, Any]] = [{"params": decayed}]
    if free:
        groups.append({"params": free, "weight_decay": 0.0})
    return torch.optim.AdamW(
        groups, config.learning_rate, config.betas, config.epsilon, weight_decay=config.weight_decay
    )


def _is_norm(part: nn.Module) -> bool:
    return isinstance(part, nn.modules.batchnorm._NormBase)  # noqa: SLF001  # the only name for all of them


def _schedule(
    optimiser: torch.optim.Optimizer, steps: int, config: TrainingConfig
) -> torch.optim.lr_scheduler.LRScheduler:
    total = config.epochs * steps
    if config.schedule == "constant" or total < _SHORTEST_CYCLE:
        return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    if config.schedule == "warm-up-cosine":
        return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _warm_up_cosine(step, total, config))
    warm_up = max(config.warm_up_share, 2 / total)  # the schedule cannot warm up in one step
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total, pct_start=warm_up, final_div_factor=config.final_division
    )


def _warm_up_cosine(step: int, total: int, config: TrainingConfig) -> float:
    """Share of the learning rate at a step."""
    rise, lowest = config.warm_up_share * total, 1 / config.final_division
    if step < rise:
        return (step + 1) / math.ceil(rise)
    fall = max(total - rise, 1.0)  # a training that is all warm-up has none
    return lowest + (1 - lowest) * (1 + math.cos(math.pi * (step - rise) / fall)) / 2


def _step(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    largest_gradient: float | None,
) -> bool:
    """Change the weights, and tell whether: not where a gradient overflowed in half precision, as the first ones do."""
    if largest_gradient is not None:
        scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_(network.parameters(), largest_gradient)
    scale = scaler.get_scale()
    scaler.step(optimiser)
    scaler.update()
    return scaler.get_scale() >= scale  # it comes down after an overflow, and only then


def _epoch(losses: Iterator[Tensor], step: Callable[[Tensor], None]) -> float:
    """One pass over the data; returns the mean loss."""
    total, count = 0.0, 0
    for loss in losses:
        step(loss)
        total, count = total + float(loss.detach()), count + 1
    return total / max(count, 1)


def _save(path: Path, parts: dict[str, Any], config: TrainingConfig, history: list[float]) -> None:
    state = {name: part.state_dict() for name, part in parts.items()}
    partial = path.with_name(path.name + ".partial")
    torch.save({**state, "config": json.dumps(asdict(config)), "history": history}, partial)
    partial.replace(path)


def _load(path: Path, parts: dict[str, Any], config: TrainingConfig) -> list[float]:
    try:
        # weights_only: nothing in the file is executed; on the CPU: not all processes' states on the first GPU
        state = torch.load(path, map_location="cpu", weights_only=True)
        history: list[float] = state["history"]
        same = state["config"] == json.dumps(asdict(config))
    except Exception as error:  # torch names no base class for what a broken file raises
        raise CheckpointError(f"{path}: cannot be resumed from; delete it to start anew") from error
    if not same:
        raise CheckpointError(f"{path}: from a training with {state['config']}; delete it to start anew")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return history
