"""What a driver is: three small Protocols, and what the engine hands to every driver.

A driver is registered under the entry-point group ``rig.drivers`` by the tag that YAML's ``driver:`` names. It is
a class with a pydantic model as its ``Config`` attribute, built as ``Driver(name, config, context)``; building
must not touch the device. Every driver passes the suite in ``tests/contracts``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rig.config import RigConfig
from rig.messages import EndOfStream, Event, Frame, FrameStream, Gap, Output, Samples, SampleStream
from rig.sync.clock import SessionClock

FrameMessages = Sequence[Frame | Gap | Event | EndOfStream]
SampleMessages = Sequence[Samples | Gap | Event | EndOfStream]


@dataclass(frozen=True, slots=True)
class DriverContext:
    """What the engine knows and a driver needs: the session's clock, the whole rig, and real port names.

    `resolve_port` turns a port as written in YAML (``/dev/ttyACM0``, ``COM5``, ``usb:16C0:0483:1234567``,
    ``socket://...``, ``simulated``) into one pyserial can open; it takes the device's name and the port.
    """

    clock: SessionClock
    rig: RigConfig
    resolve_port: Callable[[str, str], str]


@runtime_checkable
class Camera(Protocol):
    """A source of frames. All calls but `open` come from one driver thread."""

    def open(self) -> FrameStream:
        """Connect and configure; called once, by the engine, before any file is made.

        Raises
        ------
        DeviceError
            Naming the device, what was wrong and what would be valid.
        """
        ...

    def start(self) -> None:
        """Begin the acquisition; called once, after every consumer is ready."""
        ...

    def read(self, timeout_s: float) -> FrameMessages:
        """Return what has arrived, in order, waiting at most `timeout_s`; empty when nothing has.

        A lost frame is a `Gap` in its place. `Frame.session_ns` is left for the aligner.

        Raises
        ------
        DeviceLost
            When the camera has vanished or stopped without being asked.
        """
        ...

    def stop(self) -> None:
        """Stop the acquisition; frames still buffered are returned by further reads. Safe twice."""
        ...

    def close(self) -> None:
        """Let the device go. Safe twice, and after a failed `open`."""
        ...


@runtime_checkable
class EventSource(Protocol):
    """A source of samples or events: treadmill, pupil, stimulus. Same life as a `Camera`."""

    def open(self) -> SampleStream:
        """Connect and configure; raises `DeviceError`."""
        ...

    def start(self) -> None:
        """Begin to stream (say hello to the device)."""
        ...

    def read(self, timeout_s: float) -> SampleMessages:
        """Return what has arrived, in order, waiting at most `timeout_s`; raises `DeviceLost`."""
        ...

    def stop(self) -> None:
        """Stop streaming. Safe twice."""
        ...

    def close(self) -> None:
        """Let the device go. Safe twice."""
        ...


@runtime_checkable
class OutputDevice(Protocol):
    """A device that is switched on and off. Called by the actuator's thread alone."""

    def open(self) -> dict[str, str]:
        """Connect, switch off, and return what the device says of itself; raises `DeviceError`."""
        ...

    def write(self, on: bool, reason: str, prediction_index: int, decided_ns: int) -> Output:
        """Switch, wait for the device's answer (bounded), and return the whole exchange; raises `DeviceLost`."""
        ...

    def close(self) -> None:
        """Switch off and let the device go. Safe twice."""
        ...
