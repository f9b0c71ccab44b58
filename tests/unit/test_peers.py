"""Several processes that train one network: the steps of one process, and an end to all when one fails."""

import os
import signal
import time

import pytest
import torch
from torch import nn

from decoders.peers import ALONE, run_peers
from decoders.training import TrainingConfig, fix_seeds, train
from rig.errors import CortexrigError

pytestmark = pytest.mark.usefixtures("restore_torch")
CONFIG = TrainingConfig(epochs=2, learning_rate=0.05, weight_decay=0.1, threads=1, largest_gradient=1.0)
STEPS, BATCH = 3, 5


class Readouts(nn.Module):
    """A core and three readouts, of which no sample uses the last."""

    def __init__(self):
        super().__init__()
        self.core = nn.Linear(3, 4)
        self.readouts = nn.ModuleList(nn.Linear(4, 1) for _ in range(3))


def losses_of(network, peer, broken_in=None):
    """Losses of samples that are numbered, each of one readout; with two peers each has one of them to itself."""

    def losses(epoch):
        for step in range(STEPS):
            if (epoch, step) == (broken_in, 2):
                raise InterruptedError
            total = 0.0
            for number in range(BATCH)[peer.rank :: peer.count]:
                sample = torch.randn(
                    3, generator=torch.Generator().manual_seed(epoch * 100 + step * 10 + number)
                )
                answer = network.readouts[number % 2](torch.tanh(network.core(sample)))
                total = total + (answer - sample.sum()).square().sum()
            yield total * peer.count / BATCH

    return losses


def trained(peer, folder=None):
    """Weights after a training; with a folder one that was broken off in its second epoch."""
    fix_seeds(CONFIG)
    network = Readouts()
    resume = None if folder is None else folder / "state"
    if resume:
        with pytest.raises(InterruptedError):
            train(network, losses_of(network, peer, broken_in=1), STEPS, CONFIG, resume, peer=peer)
        peer.meet()
        network = Readouts()
    train(network, losses_of(network, peer), STEPS, CONFIG, resume, peer=peer)
    return {name: value.detach().numpy() for name, value in network.named_parameters()}


def test_two_processes_make_the_steps_of_one_also_when_broken_off(tmp_path):
    alone, together = trained(ALONE), run_peers(2, "cpu", trained, tmp_path)
    assert alone.keys() == together.keys()
    for name, value in alone.items():
        torch.testing.assert_close(
            torch.from_numpy(together[name]), torch.from_numpy(value), rtol=1e-5, atol=1e-6
        )
    untrained = Readouts()
    assert not torch.equal(untrained.core.weight, torch.from_numpy(alone["core.weight"]))
    assert not list(tmp_path.iterdir())


def broken(peer, how):
    """Fail in the second process while the first one waits for it."""
    if peer.rank == 0:
        peer.meet()
    elif how == "unforeseen":
        raise ZeroDivisionError("no\nneurons")
    else:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("unforeseen", "^process 2 of 2: ZeroDivisionError: no neurons$"),
        ("killed", "^process 2 of 2 was ended .exit code -9"),
    ],
)
def test_the_failure_of_one_ends_all(how, says):
    began = time.monotonic()
    with pytest.raises(CortexrigError, match=says):
        run_peers(2, "cpu", broken, how)
    assert time.monotonic() - began < 60


def test_one_process_is_this_one():
    assert run_peers(1, "cpu", lambda peer, word: (peer is ALONE, word, os.getpid()), "hm") == (
        True,
        "hm",
        os.getpid(),
    )
