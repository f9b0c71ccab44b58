"""From simulated mice to a decoder of one's own, and the schema, through the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from rig import registry
from rig.cli import app
from rig.recording.reader import SessionReader
from rig.simulation.mouse import Mouse
from tests.rig_command import CONFIGS, ROOT, assert_one_clear_line, rig, rig_json, simulated_mouse


@pytest.mark.slow  # the same commands run apart, on smaller data, in the tests beside
def test_simulated_sessions_are_complete_and_train_a_decoder(tmp_path: Path) -> None:
    config = simulated_mouse(tmp_path, without=("decoders", "closed_loop"))
    folder, checkpoint = tmp_path / "sessions", tmp_path / "mine.npz"
    made = rig_json("simulate", config, "--out", folder, "--mice", 2, "--minutes", 0.5, "--seed", 11)
    assert len(made["sessions"]) == 2
    assert rig_json("verify", made["sessions"][0])["complete"]
    with SessionReader(Path(made["sessions"][0])) as reader:
        treadmill = reader.samples("treadmill")
        truth = Mouse(11, 0.65, 60.0).running_speed_mm_s(treadmill.session_ns / 1e9)
        np.testing.assert_allclose(treadmill.values[:, 1], truth, atol=1e-6)
        assert len(reader.frames("widefield").index) == 900
    trained = rig_json("train", "behavior", "--data", folder, "--out", checkpoint, "--epochs", 1)
    assert checkpoint.stat().st_size < 3_000_000
    assert set(trained) == {"checkpoint", "held_out", "provenance"}
    assert list(trained["held_out"]) == [Path(made["sessions"][1]).stem]
    assert trained["provenance"]["trained_on"] == Path(made["sessions"][0]).stem
    assert_one_clear_line(rig("train", "behavior", "--data", folder, "--out", checkpoint), "mine.npz")


def test_simulated_sessions_are_never_overwritten(tmp_path: Path) -> None:
    config = ROOT / "docs" / "training" / "behavior.yaml"
    command = ("simulate", config, "--out", tmp_path, "--mice", 1, "--minutes", 0.05)
    rig_json(*command)
    assert_one_clear_line(rig(*command), "exists")


def test_training_without_sessions_is_one_clear_line(tmp_path: Path) -> None:
    assert_one_clear_line(
        rig("train", "behavior", "--data", tmp_path, "--out", tmp_path / "x.npz"), str(tmp_path)
    )


def test_the_schema_in_the_tree_is_current_and_a_stale_one_is_told(tmp_path: Path) -> None:
    assert rig("schema", "--check").returncode == 0
    mine = tmp_path / "schema.json"
    assert rig("schema", mine).returncode == 0
    assert json.loads(mine.read_text()) == json.loads((CONFIGS / "schema.json").read_text())
    mine.write_text("{}")
    assert_one_clear_line(rig("schema", mine, "--check"), "out of date")


def test_every_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8") + (ROOT / "CHANGELOG.md").read_text(
        encoding="utf-8"
    )
    own = {command.callback.__name__ for command in app.registered_commands if command.callback is not None}
    commands = own | set(registry.names(registry.COMMANDS))
    assert {"run", "train"} <= commands
    typed = sorted(name.replace("_", "-") for name in commands)
    assert [name for name in typed if f"rig {name}" not in readme] == []
