"""A rig of simulated devices for tests: the real program behind real pseudo-terminals, and the drivers that read it."""

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rig import registry
from rig.config import RigConfig, parse_config
from rig.description import SessionDescription
from rig.drivers.protocols import DriverContext, EventSource, OutputDevice
from rig.sync.clock import SessionClock

SEED = 7
YAML = """
schema_version: 1
rig: simulated
session: {description: Simulated devices, subject: {subject_id: simulated-7}}
cameras:
  widefield: {driver: simulated_widefield, rate_hz: 30, imaging: {kind: one_photon, indicator: GCaMP6f,
              excitation_nm: 470, emission_nm: 525, location: Isocortex, pixel_size_um: 78.0}}
serial:
  treadmill: {driver: treadmill, port: simulated, rate_hz: 100, columns: [ticks, count], wheel_diameter_mm: 150.0,
              counts_per_revolution: 4096}
  pupil: {driver: pupil, port: simulated, rate_hz: 60, columns: [ticks, diameter, x, y],
          scale: {diameter: 0.01, x: 0.01, y: 0.01}, units: {diameter: mm, x: mm, y: mm}}
  stimulus: {driver: stimulus, port: simulated, rate_hz: 30, columns: [ticks, clip, movie_frame]}
outputs:
  laser: {driver: serial_output, port: simulated}
stimulus: {source: stimulus, movie: {clips: 2, frames: 30}}
simulation: {seed: 7}
"""


def build_driver(name: str, config: RigConfig, clock: SessionClock, ports: dict[str, str]) -> Any:
    """Build the driver of one device; `ports` says where the simulated ones are."""
    context = DriverContext(clock, config, lambda device, port: ports.get(device, port))
    device = {**config.serial, **config.outputs}[name]
    return registry.load(registry.DRIVERS, device.driver)(name, device, context)


class SimulatedRig:
    """The program, running; `driver` builds a driver that talks to it. Use as a context manager.

    Parameters
    ----------
    arguments
        Faults, as the program takes them.
    """

    def __init__(
        self, folder: Path, *arguments: str, clock: SessionClock | None = None, yaml: str = YAML
    ) -> None:
        self.config: RigConfig = parse_config(yaml, "test")
        self.clock = clock or SessionClock.start()
        path = folder / "session.json"
        path.write_text(SessionDescription("test", self.config, self.clock).as_json())
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rig.simulation.devices", str(path), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.ports: dict[str, str] = json.loads(self.process.stdout.readline())

    def driver(self, name: str) -> Any:
        """Build the driver of one device."""
        return build_driver(name, self.config, self.clock, self.ports)

    def source(self, name: str) -> EventSource:
        """Build the driver of a serial source."""
        source: EventSource = self.driver(name)
        return source

    def output(self, name: str = "laser") -> OutputDevice:
        """Build the driver of an output device."""
        output: OutputDevice = self.driver(name)
        return output

    def kill(self) -> None:
        """Unplug everything at once."""
        self.process.kill()
        self.process.wait()

    def close(self) -> int:
        """Let the program end by itself, and return its exit code."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        return self.process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
