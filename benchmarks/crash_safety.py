"""`kill -9` of decoder and window in the middle of a run: frames lost. `kill -9` of the engine: what comes back."""

import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks import CONFIGS, RIG, arguments, rig, tell


def start(session: Path, seconds: float, *more: object) -> "subprocess.Popen[str]":
    """Start a run and wait until it records."""
    options = ("--duration", seconds, "--output", session)
    engine = subprocess.Popen(
        [*map(str, (RIG, "run", CONFIGS / "simulated_mouse.yaml", *options, *more, "--json"))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    while not session.exists():
        time.sleep(0.05)
    return engine


def kill_child(engine: "subprocess.Popen[str]", what: str) -> None:
    """Kill the engine's child whose command line holds `what`."""
    for child in psutil.Process(engine.pid).children():
        if what in " ".join(child.cmdline()):
            child.send_signal(signal.SIGKILL)


def children_killed(folder: Path) -> dict[str, Any]:
    """Kill both decoders and the window while it records."""
    session = folder / "children.nwb"
    engine = start(session, 16)
    for what in ("behavior 0", "gui.main_window", "reconstruction 0"):
        time.sleep(3)
        kill_child(engine, what)
    report = json.loads(engine.communicate()[0])
    return {
        "frames_lost": {name: stream["lost"] for name, stream in report["streams"].items()},
        "decoder_starts": {name: d["generation"] + 1 for name, d in report["decoders"].items()},
        "verify_complete": rig("verify", session)["complete"],
    }


def engine_killed(folder: Path, after_s: float, number: int) -> dict[str, Any]:
    """Kill the engine; count what had been flushed before the kill, and what recovery brings back."""
    session, saved = folder / f"engine{number}.nwb", folder / f"saved{number}.nwb"
    engine = start(session, 60, "--no-gui")
    time.sleep(after_s)
    flushed = {name: s["recorded"] for name, s in rig("verify", session)["streams"].items()}
    os.kill(engine.pid, signal.SIGKILL)
    engine.wait()
    recovered = rig("recover", session, "--output", saved)["streams"]
    back = {name: recovered[name]["recovered"] for name in flushed}
    return {
        "flushed_before_kill": flushed,
        "recovered": back,
        "all_back": all(back[name] >= count for name, count in flushed.items()),
    }


def main() -> None:
    """Kill children once and the engine several times."""
    asked = arguments(__doc__, kills=3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report = {
            "data": "simulated mouse, both decoders",
            "children_killed": children_killed(folder),
            "engine_killed": [engine_killed(folder, 2 + 1.37 * k, k) for k in range(asked.kills)],
        }
    tell(asked, report)


if __name__ == "__main__":
    main()
