"""One file per claim of the README; ``python -m benchmarks.NAME --json`` prints both sides of each ratio."""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

RIG = str(Path(sys.executable).parent / "rig")
CONFIGS = Path(__file__).parents[1] / "hardware_configs"


def arguments(description: str | None, **options: float | str) -> argparse.Namespace:
    """Parse a benchmark's command line: `--json`, and one number or word for each option."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of an indented one")
    for name, default in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    return parser.parse_args()


def tell(asked: argparse.Namespace, report: dict[str, Any]) -> None:
    """Print a report with the machine it was made on."""
    machine = {"cpu": _processor(), "cores": os.cpu_count(), "python": platform.python_version()}
    print(json.dumps({**report, "machine": machine}, indent=None if asked.json else 2))


def device_name(device: str) -> str:
    """The GPU with the version of torch, or "cpu"."""
    if device == "cpu":
        return device
    import torch

    return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"


def rig(*command: object, python_path: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Run a `rig` command as a user would, with folders more to import from, and return its JSON report.

    A command that reports nothing ends the benchmark with what it said.
    """
    folders = [*map(str, python_path), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [RIG, *map(str, command), "--json"],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))},
    )
    if not done.stdout:
        sys.exit(f"rig {command[0]}: exit code {done.returncode}\n{done.stderr.decode(errors='replace')}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor()
    )
