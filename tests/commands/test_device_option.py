"""A GPU that is not there is missed before the work, by every command that can use one."""

from pathlib import Path

import pytest
import torch
import typer

from decoders.commands.evaluate import evaluate
from decoders.commands.explain import explain
from decoders.commands.reconstruct import reconstruct
from decoders.commands.train import train
from rig.errors import ConfigError
from tests.rig_command import invoke

APP = typer.Typer()
for group, name in ((train, "train"), (evaluate, "evaluate"), (explain, "explain")):
    APP.add_typer(group, name=name)
APP.command("reconstruct")(reconstruct)
ASKED = ("--data", "data", "--device", "cuda", "--out")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    "command",
    [
        ("train", "behavior"),
        ("train", "encoder", "--layout", "sensorium"),
        ("train", "mask", "--layout", "sensorium", "--encoder", "e.npz", "--mouse", "m"),
        ("evaluate", "behavior", "--scheme", "within-session", "--model", "causal"),
        ("evaluate", "reconstruction", "--layout", "sensorium", "--encoder", "e.npz"),
        ("explain", "behavior", "--models", "m.npz"),
        ("reconstruct", "--layout", "sensorium", "--encoder", "e.npz"),
    ],
    ids=" ".join,
)
def test_a_gpu_that_is_not_there(tmp_path: Path, command: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="'cuda' asked for and none found; valid here is 'cpu'"):
        invoke(APP, *command, *ASKED, tmp_path / "out")
    assert not any(tmp_path.iterdir())
