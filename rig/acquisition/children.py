"""The engine's child processes: simulated devices, decoders, the window. Each may die; the engine goes on."""

import json
import logging
import os
import selectors
import subprocess
import sys
from pathlib import Path
from typing import Any

from rig import registry
from rig.errors import DeviceError

_LOG = logging.getLogger(__name__)
_TERMINATE_S = 5.0
_SIMULATOR_S = 30.0


class Child:
    """One process of ours, out of reach of the terminal's Ctrl-C: the engine says when it ends."""

    def __init__(self, name: str, module: str, arguments: list[str], **options: Any) -> None:
        self.name = name
        command = [sys.executable, "-m", module, *arguments]
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": sys.stderr,
            **options,
        }  # stdout is for the JSON report
        self.process: subprocess.Popen[str] = subprocess.Popen(
            command, start_new_session=True, text=True, **options
        )

    def exit_code(self) -> int | None:
        """Exit code, None while it lives; negative: killed by that signal."""
        return self.process.poll()

    def terminate(self) -> None:
        """Ask it to end, and make it end. Safe twice."""
        if self.process.poll() is None:
            self.process.terminate()
        self.wait(_TERMINATE_S)

    def wait(self, timeout_s: float) -> None:
        """Wait for it to end by itself; after `timeout_s` it is killed."""
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            _LOG.warning("%s did not end within %.0f s and was killed", self.name, timeout_s)
            self.process.kill()
            self.process.wait()


class DecoderChild(Child):
    """A decoder's process."""

    def __init__(self, name: str, description: Path, generation: int) -> None:
        module = registry.module(registry.CHILDREN, "decoder")
        super().__init__(f"decoder {name}", module, [str(description), name, str(generation)])
        self.decoder, self.generation = name, generation


class WindowChild(Child):
    """The window's process; without a display it draws offscreen and saves pictures to a folder."""

    def __init__(self, description: Path, screenshots: Path | None) -> None:
        module = registry.module(registry.CHILDREN, "window")
        arguments, environment = [str(description)], dict(os.environ)
        if screenshots is not None:
            arguments += ["--screenshots", str(screenshots)]
            environment.setdefault("QT_QPA_PLATFORM", "offscreen")
        super().__init__("window", module, arguments, env=environment)


class SimulatorChild(Child):
    """The program behind ports called ``simulated``; `ports` maps device names to real ports."""

    def __init__(self, description: Path) -> None:
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        super().__init__("simulated devices", "rig.simulation.devices", [str(description)], **options)
        self.ports: dict[str, str] = self._read_ports()

    def terminate(self) -> None:
        """Let it go: it ends when its standard input closes. Safe twice."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self.wait(_TERMINATE_S)

    def _read_ports(self) -> dict[str, str]:
        line = self._first_line()
        if not line:
            self.terminate()
            raise DeviceError("the simulated devices did not start: see the line above")
        ports: dict[str, str] = json.loads(line)
        return ports

    def _first_line(self) -> str:
        stdout = self.process.stdout
        if stdout is None:
            return ""
        if sys.platform == "win32":  # pipes cannot be waited for there
            return stdout.readline()
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            return stdout.readline() if selector.select(_SIMULATOR_S) else ""


def has_display() -> bool:
    """Whether a window can be shown to somebody."""
    if sys.platform != "linux":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
