"""Configuration to devices: built here, opened by the engine."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rig import registry
from rig.config import CameraConfig, DriverConfig, RigConfig
from rig.drivers.protocols import Camera, DriverContext, EventSource, OutputDevice
from rig.errors import DeviceError
from rig.messages import FrameStream

SIMULATED = "simulated"


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


def check_frame_size(stream: FrameStream, camera: CameraConfig) -> None:
    """Refuse a camera whose frames are not what its YAML says: the plan and the decoders rely on it."""
    found = (stream.height_px, stream.width_px, 8 * np.dtype(stream.dtype).itemsize)
    if found != (camera.height_px, camera.width_px, camera.bits):
        raise DeviceError(
            f"{stream.name}: gives frames of {found[0]} x {found[1]} pixels, {found[2]} bits; "
            f"its YAML says {camera.height_px} x {camera.width_px}, {camera.bits} bits"
        )


def uses_simulated_ports(rig: RigConfig) -> bool:
    """Whether a device of the rig stands on a port that the simulator serves."""
    devices = (*rig.serial.values(), *rig.outputs.values())
    return any(getattr(device, "port", None) == SIMULATED for device in devices)
