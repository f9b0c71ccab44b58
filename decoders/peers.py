"""Several processes that train one network together, each on its part of every batch: one on each GPU, or on a CPU.

Each holds the whole network. Before a step the gradients are averaged, so all of them make the same step, up to
rounding that of one process with the whole batch. The first process leads: it alone shows, validates and writes.
"""

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

import torch
from torch import distributed, nn

from rig.errors import CortexrigError, one_line

Given = TypeVarTuple("Given")
Answer = TypeVar("Answer")
_PATIENCE = timedelta(
    days=7
)  # all wait while the first one validates; that one has died is seen in `run_peers`
_TOLD = 3  # exit code of a process that has told what went wrong


@dataclass(frozen=True, slots=True)
class Peer:
    """One of `count` processes; the only one asks nobody."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that shows, validates and writes."""
        return self.rank == 0

    def meet(self) -> None:
        """Wait until all are here."""
        if self.count > 1:
            distributed.all_reduce(torch.zeros(1))

    def agree(self, said: bool) -> bool:
        """What the first process says, in all of them."""
        if self.count == 1:
            return said
        answer = torch.tensor([int(said)])
        distributed.broadcast(answer, src=0)
        return bool(answer)

    def average_gradients(self, network: nn.Module) -> None:
        """Put the mean over the processes into every gradient.

        A weight that one of them did not use has the gradient 0 there; one that none used keeps none, so that the
        optimiser leaves it alone as it would in one process.
        """
        if self.count == 1:
            return
        values = list(network.parameters())
        used = torch.tensor([int(value.grad is not None) for value in values])
        distributed.all_reduce(used, distributed.ReduceOp.MAX)
        values = [value for value, any_uses in zip(values, used.tolist(), strict=True) if any_uses]
        gradients = [torch.zeros_like(value) if value.grad is None else value.grad for value in values]
        joined = torch.cat([gradient.flatten() for gradient in gradients])  # one exchange, not hundreds
        distributed.all_reduce(joined)
        means = torch.split(joined.div_(self.count), [value.numel() for value in values])
        for value, gradient, mean in zip(values, gradients, means, strict=True):
            value.grad = gradient.copy_(mean.view_as(value))


ALONE = Peer()


def run_peers(count: int, device: str, task: Callable[[Peer, *Given], Answer], *given: *Given) -> Answer:
    """Run a task in `count` processes and return what the first one answers; a single one is this process.

    Task, what it is given and its answer must be picklable, the answer smaller than 64 KB (a pipe holds it).

    Raises
    ------
    CortexrigError
        What went wrong in one of them. The others are ended then, as all are when this process is interrupted.
    """
    if count == 1:
        return task(ALONE, *given)
    context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
    told: SimpleQueue[Any] = context.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="cortexrig_") as folder:
        place = _Place(count, device, Path(folder) / "meeting", logging.getLogger().getEffectiveLevel())
        processes = [
            context.Process(target=_work, args=(rank, place, told, task, given), name=f"process {rank + 1}")
            for rank in range(count)
        ]
        try:
            for process in processes:
                process.start()
            failed = _first_failure(processes)
        finally:
            _end(processes)
    if failed is not None and (told.empty() or failed.exitcode != _TOLD):
        raise CortexrigError(
            f"{failed.name} of {count} was ended (exit code {failed.exitcode}); is memory short?"
        )
    outcome = told.get()
    if isinstance(outcome, CortexrigError):
        raise outcome
    answer: Answer = outcome
    return answer


def _first_failure(processes: Sequence[BaseProcess]) -> BaseProcess | None:
    """Wait until one has failed, or all have ended well."""
    running = list(processes)
    while running:
        connection.wait([process.sentinel for process in running])
        ended = [process for process in running if not process.is_alive()]
        failed = [process for process in ended if process.exitcode]
        if failed:
            return min(failed, key=lambda process: process.exitcode or 0)  # a killed one takes others with it
        running = [process for process in running if process not in ended]
    return None


def _end(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        if process.is_alive():
            process.kill()  # it may be waiting for another; every file of a training is put in place whole
    for process in processes:
        if process.pid is not None:
            process.join()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where processes meet: how many, on what device, by which file; and how much they log."""

    count: int
    device: str
    file: Path
    log_level: int


def _work(
    rank: int, place: _Place, told: "SimpleQueue[Any]", task: Callable[..., object], given: tuple[Any, ...]
) -> None:
    """Do the task in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends us
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    logging.basicConfig(level=place.log_level, format="%(name)s: %(message)s")
    try:
        answer = task(_join(rank, place), *given)
    except Exception as error:  # the outer edge: the parent reports it
        known = isinstance(error, CortexrigError)
        told.put(
            error if known else CortexrigError(f"process {rank + 1} of {place.count}: {one_line(error)}")
        )
        os._exit(_TOLD)  # without a clean-up, which could wait for the others
    if rank == 0:
        told.put(answer)
    distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # torch's threads that are still about abort an interpreter that shuts down in order


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _join(rank: int, place: _Place) -> Peer:
    backend = "gloo"
    if place.device == "cuda":
        torch.cuda.set_device(rank)  # from here on "cuda" is this one
        backend = "cpu:gloo,cuda:nccl"
    meeting = f"file://{place.file}"
    distributed.init_process_group(
        backend, init_method=meeting, rank=rank, world_size=place.count, timeout=_PATIENCE
    )
    return Peer(rank, place.count)
