"""The simulated mouse's devices, as a program of its own: real bytes on pseudo-terminals.

``python -m rig.simulation.devices DESCRIPTION.json`` prints one JSON line, device name to port, and serves until its
standard input closes or its parent is gone. Each device has its own clock: an offset shortly before its counter
turns over, a drift of some tens of ppm, and the delays of a USB converter. Pseudo-terminals are POSIX's; elsewhere
pair two virtual COM ports (com0com) or serve the lines over TCP (``socket://``) from any program that speaks them.
"""

import argparse
import heapq
import json
import os
import selectors
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rig.config import OutputConfig, SerialConfig, SimulationConfig
from rig.description import SessionDescription
from rig.drivers.build import SIMULATED
from rig.drivers.dialects.line import format_line
from rig.drivers.serial_source import LineSourceConfig
from rig.errors import CortexrigError
from rig.simulation.mouse import Mouse
from rig.stimulus import movie_size, shown_at
from rig.sync.clock import SessionClock

_NS = 1_000_000_000
_IDLE_S = 0.25
_DRIFT_PPM = 50.0  # quartz crystals of microcontroller boards are specified to 20 to 100 ppm
_BEFORE_TURN_S = (10.0, 30.0)  # the 32-bit counter turns over soon, as it does every 71.6 minutes
_JITTER_NS = 2_000_000  # USB full speed polls every millisecond; the host adds its own


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong on purpose: probabilities for each line, and when devices fail.

    Seconds count from the host's first word to the device, however long the host takes to come to it.
    """

    corrupt: float = 0.0
    drop: float = 0.0
    silence_s: dict[str, float] = field(default_factory=dict)
    vanish_s: dict[str, float] = field(default_factory=dict)


class Terminal:
    """The device's end of a pseudo-terminal; `port` is the host's."""

    def __init__(self) -> None:
        import pty  # POSIX alone has it
        import tty

        self.fd, slave = pty.openpty()
        tty.setraw(slave)
        self.port = os.ttyname(slave)
        self._slave = slave  # held open, so that the host may come and go
        os.set_blocking(self.fd, False)
        self._heard = b""
        self._first_heard_ns: int | None = None

    def hear(self, now_ns: int) -> list[bytes]:
        """Return the lines that the host has sent."""
        try:
            self._heard += os.read(self.fd, 4096)
        except BlockingIOError:
            return []
        if self._first_heard_ns is None:
            self._first_heard_ns = now_ns
        *lines, self._heard = self._heard.split(b"\n")
        return lines

    def say(self, data: bytes) -> None:
        """Send; what a host that does not read leaves no room for is lost, as on a wire."""
        try:
            os.write(self.fd, data)
        except BlockingIOError:
            return

    def fails(self, after_s: float | None, at_ns: int) -> bool:
        """Whether a fault so many seconds after the host's first word has set in at a session time."""
        if after_s is None or self._first_heard_ns is None:
            return False
        return at_ns - self._first_heard_ns >= after_s * _NS

    def close(self) -> None:
        """Pull the plug."""
        os.close(self.fd)
        os.close(self._slave)


class DeviceClock:
    """A device's own clock: ticks for session time."""

    def __init__(self, tick_hz: float, bits: int, rng: np.random.Generator) -> None:
        self._tick_hz, self._range = tick_hz, 1 << bits
        self._rate = 1 + rng.uniform(-_DRIFT_PPM, _DRIFT_PPM) * 1e-6
        self._offset = self._range - round(rng.uniform(*_BEFORE_TURN_S) * tick_hz)

    def ticks(self, session_ns: int) -> int:
        """What the device's counter shows."""
        return (self._offset + round(session_ns * self._rate * self._tick_hz / _NS)) % self._range


class Streamer:
    """A device that sends a line at every tick of its rate, from the host's hello to its goodbye."""

    def __init__(
        self,
        name: str,
        config: LineSourceConfig,
        measure: Callable[[float], dict[str, float]],
        faults: Faults,
        rng: np.random.Generator,
    ) -> None:
        self.name, self.terminal = name, Terminal()
        self._config, self._measure, self._faults, self._rng = config, measure, faults, rng
        self._clock = DeviceClock(config.tick_hz, config.tick_bits, rng)
        self._period_ns = _NS / config.rate_hz
        self._next: int | None = None  # number of the next sample; None: quiet
        self._delayed_ns = 0

    def hear(self, now_ns: int) -> None:
        """Obey the host."""
        for line in self.terminal.hear(now_ns):
            if line == self._config.hello.encode().strip():
                self._next = int(now_ns / self._period_ns) + 1
            elif line == self._config.goodbye.encode().strip():
                self._next = None

    def due_ns(self) -> int | None:
        """Session time at which the next line leaves, None while quiet."""
        return None if self._next is None else round(self._next * self._period_ns) + self._delayed_ns

    def send(self) -> None:
        """Send the line that is due."""
        if self._next is None:
            return
        session_ns = round(self._next * self._period_ns)
        self._next += 1
        self._delayed_ns = int(self._rng.integers(0, _JITTER_NS))
        silent = self.terminal.fails(self._faults.silence_s.get(self.name), session_ns)
        if silent or self._rng.random() < self._faults.drop:
            return
        measured = self._measure(session_ns / _NS)
        values = [measured[column] for column in self._config.value_columns]
        line = format_line(self._config, self._clock.ticks(session_ns), values)
        self.terminal.say(self._corrupted(line))

    def _corrupted(self, line: bytes) -> bytes:
        if self._rng.random() >= self._faults.corrupt:
            return line
        at = int(self._rng.integers(0, len(line)))
        return line[:at] + bytes([int(self._rng.integers(128, 256))]) + line[at + 1 :]


class Switch:
    """An output device: answers every command with its state and its clock."""

    def __init__(self, name: str, config: OutputConfig, rng: np.random.Generator) -> None:
        self.name, self.terminal = name, Terminal()
        self._answers = {
            getattr(config, "on", "ON").strip(): getattr(config, "answer_on", "ON"),
            getattr(config, "off", "OFF").strip(): getattr(config, "answer_off", "OFF"),
        }
        self._clock = DeviceClock(1e6, 32, rng)

    def hear(self, now_ns: int) -> None:
        """Obey, and say so."""
        for line in self.terminal.hear(now_ns):
            answer = self._answers.get(line.decode("utf-8", "replace").strip(), "?")
            self.terminal.say(f"{answer} {self._clock.ticks(now_ns)}\n".encode())

    def due_ns(self) -> int | None:
        """Never speaks first."""
        return None


Device = Streamer | Switch


class Program:
    """Serves all devices in one thread until standard input closes or the parent is gone."""

    def __init__(self, devices: list[Device], clock: SessionClock, faults: Faults) -> None:
        self._devices, self._clock, self._faults = devices, clock, faults
        self._selector = selectors.DefaultSelector()
        self._selector.register(sys.stdin, selectors.EVENT_READ, None)
        for device in devices:
            self._selector.register(device.terminal.fd, selectors.EVENT_READ, device)

    def serve(self) -> None:
        """Hear and speak, each line at its time."""
        parent = os.getppid()
        while os.getppid() == parent:
            for key, _ in self._selector.select(self._wait_s()):
                if key.data is None:
                    if not os.read(sys.stdin.fileno(), 64):
                        return
                else:
                    key.data.hear(self._clock.now_ns())
            self._vanish()
            self._speak()

    def _wait_s(self) -> float:
        due = [at for device in self._devices if (at := device.due_ns()) is not None]
        if not due:
            return _IDLE_S
        return min(max((min(due) - self._clock.now_ns()) / _NS, 0.0), _IDLE_S)

    def _speak(self) -> None:
        """Send what is due, the earliest first."""
        now_ns = self._clock.now_ns()
        queue = [(at, k) for k, device in enumerate(self._devices) if (at := device.due_ns()) is not None]
        heapq.heapify(queue)
        while queue and queue[0][0] <= now_ns:
            _, k = heapq.heappop(queue)
            device = self._devices[k]
            if isinstance(device, Streamer):
                device.send()
                heapq.heappush(queue, (device.due_ns() or now_ns + 1, k))

    def _vanish(self) -> None:
        for device in list(self._devices):
            if device.terminal.fails(self._faults.vanish_s.get(device.name), self._clock.now_ns()):
                self._selector.unregister(device.terminal.fd)
                device.terminal.close()
                self._devices.remove(device)


def build(description: SessionDescription, faults: Faults) -> list[Device]:
    """Every device of the rig whose port is called simulated."""
    config = description.config
    simulation = config.simulation or SimulationConfig()
    mouse = Mouse(simulation.seed, simulation.run_fraction, session=simulation.session)
    devices: list[Device] = []
    for k, (name, source) in enumerate(sorted(config.serial.items())):
        if isinstance(source, LineSourceConfig) and source.port == SIMULATED:
            rng = np.random.default_rng([simulation.seed, k])
            devices.append(Streamer(name, source, _measure(source, mouse, description), faults, rng))
    for k, (name, output) in enumerate(sorted(config.outputs.items())):
        if getattr(output, "port", None) == SIMULATED:
            devices.append(Switch(name, output, np.random.default_rng([simulation.seed, 100 + k])))
    return devices


def _measure(
    source: SerialConfig, mouse: Mouse, description: SessionDescription
) -> Callable[[float], dict[str, float]]:
    """What a device of this kind sees of the mouse at a session time in seconds."""
    if source.driver == "treadmill":
        counts_per_mm = source.counts_per_revolution / (np.pi * source.wheel_diameter_mm)  # type: ignore[attr-defined]
        counts_per_mm *= source.forward  # type: ignore[attr-defined]
        return lambda t_s: {"count": float(np.floor(mouse.wheel_position_mm(t_s) * counts_per_mm))}
    if source.driver == "pupil":
        return lambda t_s: _pupil(mouse, t_s)
    clips, frames = movie_size(description.config.stimulus.movie) if description.config.stimulus else (1, 1)
    return lambda t_s: _shown(round(t_s * source.rate_hz), clips, frames, source.rate_hz)


def _pupil(mouse: Mouse, t_s: float) -> dict[str, float]:
    x_mm, y_mm = mouse.pupil_position_mm(t_s)
    return {
        "diameter": round(float(mouse.pupil_diameter_mm(t_s)), 4),
        "x": round(float(x_mm), 4),
        "y": round(float(y_mm), 4),
    }


def _shown(index: int, clips: int, frames: int, rate_hz: float) -> dict[str, float]:
    clip, movie_frame = shown_at(index, clips, frames, rate_hz)
    return {"clip": float(clip), "movie_frame": float(movie_frame)}


def _at(text: str) -> tuple[str, float]:
    name, _, seconds = text.partition("@")
    return name, float(seconds)


def main() -> None:
    """Serve the devices of the session described in a file."""
    parser = argparse.ArgumentParser(prog="python -m rig.simulation.devices", description=main.__doc__)
    parser.add_argument("description", type=Path, help="session description, JSON")
    parser.add_argument("--corrupt", type=float, default=0.0, help="share of lines with a wrong byte")
    parser.add_argument("--drop", type=float, default=0.0, help="share of lines that are not sent")
    parser.add_argument(
        "--silence", type=_at, action="append", default=[], metavar="NAME@SECONDS",
        help="a device falls silent so long after the host's first word to it",
    )  # fmt: skip
    parser.add_argument(
        "--vanish", type=_at, action="append", default=[], metavar="NAME@SECONDS",
        help="a device is unplugged so long after the host's first word to it",
    )  # fmt: skip
    asked = parser.parse_args()
    if sys.platform == "win32":
        parser.error("pseudo-terminals need POSIX; on Windows pair COM ports with com0com, or use socket://")
    faults = Faults(asked.corrupt, asked.drop, dict(asked.silence), dict(asked.vanish))
    try:
        description = SessionDescription.from_json(asked.description.read_text(encoding="utf-8"))
        devices = build(description, faults)
    except (OSError, ValueError, CortexrigError) as error:
        parser.error(f"{asked.description}: {error}")
    valid = [device.name for device in devices]
    unknown = sorted({*faults.silence_s, *faults.vanish_s} - set(valid))
    if unknown:
        parser.error(
            f"no simulated device is called {unknown[0]}; valid: {', '.join(valid) or 'there is none'}"
        )
    sys.stdout.write(json.dumps({device.name: device.terminal.port for device in devices}) + "\n")
    sys.stdout.flush()
    Program(devices, description.clock, faults).serve()


if __name__ == "__main__":
    main()
