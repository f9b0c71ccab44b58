"""The `rig` command as a user types it, and configurations for short runs."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
import yaml
from typer.testing import CliRunner, Result

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "hardware_configs"
RIG = str(Path(sys.executable).parent / "rig")
TIMEOUT_S = 110


def rig(*arguments: object, timeout_s: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [RIG, *map(str, arguments)], capture_output=True, text=True, timeout=timeout_s, check=False, cwd=ROOT
    )


def rig_json(*arguments: object) -> dict[str, Any]:
    """Run a command that must succeed, and return its report."""
    done = rig(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def invoke(app: typer.Typer, *arguments: object) -> Result:
    """Run a command in this process, where starting one would cost seconds; its error comes through."""
    done = CliRunner().invoke(app, [*map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def succeed(app: typer.Typer, *arguments: object) -> Result:
    """Run a command in this process that must succeed."""
    done = invoke(app, *arguments)
    assert done.exit_code == 0, done.stderr
    return done


def start_rig(*arguments: object) -> subprocess.Popen[str]:
    """Start a command in the background."""
    return subprocess.Popen(
        [RIG, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def simulated_mouse(folder: Path, without: Sequence[str] = (), **changes: Any) -> Path:
    """Write the simulated mouse's YAML with changes: dotted keys (with __ for a dot) to new values."""
    content = yaml.safe_load((CONFIGS / "simulated_mouse.yaml").read_text(encoding="utf-8"))
    for key in without:
        content.pop(key)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = content
        for parent in parents:
            place = place[parent]
        place[last] = value
    file = folder / "rig.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return file


def two_photon_alone() -> dict[str, Any]:
    """Changes that leave the simulated mouse its microscope only: making its dorsal cortex takes seconds."""
    content = yaml.safe_load((CONFIGS / "simulated_mouse.yaml").read_text(encoding="utf-8"))
    return {"cameras": {"two_photon": content["cameras"]["two_photon"]}}


def assert_one_clear_line(done: subprocess.CompletedProcess[str], *said: str) -> None:
    """Exit code 2 and one line on standard error that says what was wrong; no traceback."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("rig: ")]
    assert len(lines) == 1, done.stderr
    for words in said:
        assert words in lines[0]
