"""Configuration to devices: built here, opened by the engine."""

from dataclasses import dataclass, field
from typing import Any

from rig import registry
from rig.config import DriverConfig
from rig.drivers.protocols import Camera, DriverContext, EventSource, OutputDevice


@dataclass(frozen=True, slots=True)
class Devices:
    """A rig's devices by name, in the order of its YAML."""

    cameras: dict[str, Camera] = field(default_factory=dict)
    serial: dict[str, EventSource] = field(default_factory=dict)
    outputs: dict[str, OutputDevice] = field(default_factory=dict)

    @property
    def sources(self) -> dict[str, Camera | EventSource]:
        """Everything that is read."""
        return {**self.cameras, **self.serial}


def build_devices(context: DriverContext) -> Devices:
    """Build every device that the rig's configuration names; nothing is opened."""
    rig = context.rig
    return Devices(
        cameras={name: _build(name, config, context) for name, config in rig.cameras.items()},
        serial={name: _build(name, config, context) for name, config in rig.serial.items()},
        outputs={name: _build(name, config, context) for name, config in rig.outputs.items()},
    )


def _build(name: str, config: DriverConfig, context: DriverContext) -> Any:
    return registry.load(registry.DRIVERS, config.driver)(name, config, context)
