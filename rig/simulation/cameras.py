"""The simulated mouse's cameras: drivers like any other, paced in real time by the session clock.

Frame k of the simulated world is exposed at session time k / rate_hz, so that what the cameras see belongs to
the same moments as what the simulated serial devices send. A camera begins with the next such frame; its own
index counts from 0, and its own clock has an offset and drifts against the host's. The worlds are imported when a
camera is opened: every process that reads a rig's YAML imports this module.
"""

import math
import time
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from rig.config import CameraConfig, SimulationConfig
from rig.drivers.protocols import DriverContext, FrameMessages
from rig.errors import DeviceError, DeviceLost
from rig.messages import Frame, FrameStream, Gap
from rig.stimulus import load_movies

if TYPE_CHECKING:
    from rig.simulation.mouse import Mouse

_TICK_HZ = 1_000_000.0
_NS = 1_000_000_000
_BATCH_FRAMES = 16
_ENDLESS = 2**62


class World(Protocol):
    """What a simulated camera looks at."""

    def frame(self, index: int) -> NDArray[np.uint16]:
        """Render what is exposed at index / rate_hz: (H, W)."""
        ...


class SimulatedCameraConfig(CameraConfig):
    """What both simulated cameras can be told."""

    height_px: PositiveInt = 128
    width_px: PositiveInt = 128
    clock_offset_s: float = 12.5
    """What the camera's own clock shows at the session's zero."""
    clock_drift_ppm: float = Field(default=40.0, ge=-200.0, le=200.0)
    drop_every: int = Field(default=0, ge=0)
    """Lose every n-th frame, for tests; 0: none."""
    stall_after_s: PositiveFloat | None = None
    """Take no frames from so long after the start..."""
    stall_s: PositiveFloat = 1.0
    """...for so long, for tests; its index counts on, and the frames are reported lost when it is back."""
    vanish_after_s: PositiveFloat | None = None
    """Vanish so long after the start, for tests."""


class _Camera:
    """Everything of a simulated camera but what it looks at, which the two drivers below say."""

    def __init__(self, name: str, config: SimulatedCameraConfig, context: DriverContext) -> None:
        self._name = name
        self._config = config
        self._clock = context.clock
        self._rig = context.rig
        self._world: World | None = None
        self._first = 0  # frame of the world that has index 0
        self._index = 0  # the next one to be delivered
        self._end = 0  # from this index on none will come
        self._ahead: NDArray[np.uint16] | None = None

    def open(self) -> FrameStream:
        """Make the simulated world.

        Raises
        ------
        DeviceError
            When the rig's file has no section `simulation`.
        """
        from rig.simulation.mouse import Mouse

        simulation = self._rig.simulation
        if simulation is None:
            raise DeviceError(
                f"{self._name}: the rig's file needs a section simulation, e.g. simulation: {{seed: 7}}"
            )
        self._world = self._make_world(
            Mouse(simulation.seed, simulation.run_fraction, session=simulation.session), simulation
        )
        pixels = self._world.frame(0)
        return FrameStream(
            name=self._name,
            height_px=pixels.shape[0],
            width_px=pixels.shape[1],
            dtype=str(pixels.dtype),
            rate_hz=self._config.rate_hz,
            tick_hz=_TICK_HZ,
            properties={"model": self._config.driver, "seed": str(simulation.seed)},
        )

    def start(self) -> None:
        """Begin with the world's next frame."""
        self._first = max(0, math.ceil(self._clock.now_ns() * self._config.rate_hz / _NS))
        self._end = _ENDLESS

    def read(self, timeout_s: float) -> FrameMessages:
        """Return the frames that are due, waiting for the next one at most `timeout_s`.

        Raises
        ------
        DeviceLost
            When it was told to vanish.
        """
        if self._index >= self._end:
            return []
        self._vanish_if_told()
        first, following = self._stall()
        if first <= self._index < following:
            return self._sit_out(first, following, timeout_s)
        self._ahead = self._render() if self._ahead is None else self._ahead  # before it is due, not after
        wait_s = (self._due_ns(self._index) - self._clock.now_ns()) / _NS / self._clock.speed
        time.sleep(min(max(wait_s, 0.0), timeout_s))
        due = self._exposed() - self._index
        due = min(due, first - self._index) if self._index < first else due
        return [self._deliver() for _ in range(min(due, _BATCH_FRAMES))]

    def stop(self) -> None:
        """Take no more frames; those exposed so far are returned by further reads. Safe twice."""
        self._end = min(self._end, self._exposed())

    def close(self) -> None:
        """Let the simulated world go. Safe twice."""
        self._end = 0
        self._world = None

    def _make_world(self, mouse: "Mouse", simulation: SimulationConfig) -> World:
        raise NotImplementedError

    def _due_ns(self, index: int) -> int:
        """Session time at which a frame is exposed."""
        return round((self._first + index) * _NS / self._config.rate_hz)

    def _exposed(self) -> int:
        """Count the frames exposed by now, at most up to the end."""
        count = math.floor(self._clock.now_ns() * self._config.rate_hz / _NS) - self._first + 1
        return min(max(count, self._index), self._end)

    def _render(self) -> NDArray[np.uint16]:
        if self._world is None:
            raise DeviceError(f"{self._name}: read before it was opened")
        return self._world.frame(self._first + self._index)

    def _deliver(self) -> Frame | Gap:
        """Hand out the next frame, or the gap in its place, and move on."""
        index, arrival_ns = self._index, self._clock.now_ns()
        pixels = self._render() if self._ahead is None else self._ahead
        self._index, self._ahead = index + 1, None
        if self._config.drop_every and (index + 1) % self._config.drop_every == 0:
            return Gap(self._name, index, index, arrival_ns, "dropped as told by drop_every")
        drift = 1 + self._config.clock_drift_ppm * 1e-6
        ticks = round((self._due_ns(index) / _NS * drift + self._config.clock_offset_s) * _TICK_HZ)
        return Frame(self._name, index, ticks, arrival_ns, pixels)

    def _stall(self) -> tuple[int, int]:
        """First frame that is not taken as told by `stall_after_s`, and the first that is taken again."""
        after_s = self._config.stall_after_s
        if after_s is None:
            return _ENDLESS, _ENDLESS
        rate_hz = self._config.rate_hz
        return math.ceil(after_s * rate_hz), math.ceil((after_s + self._config.stall_s) * rate_hz)

    def _sit_out(self, first: int, following: int, timeout_s: float) -> FrameMessages:
        """Say nothing until the stall is over, then what was lost in it."""
        wait_s = (self._due_ns(following) - self._clock.now_ns()) / _NS / self._clock.speed
        if wait_s > 0:
            time.sleep(min(wait_s, timeout_s))
            return []
        self._index, self._ahead = following, None
        return [
            Gap(self._name, first, following - 1, self._clock.now_ns(), "stalled as told by stall_after_s")
        ]

    def _vanish_if_told(self) -> None:
        after_s = self._config.vanish_after_s
        if after_s is not None and self._clock.now_ns() - self._due_ns(0) > after_s * _NS:
            raise DeviceLost(f"{self._name}: vanished after {after_s:g} s, as told by vanish_after_s")


class SimulatedWidefield(_Camera):
    """Widefield camera on the simulated mouse's dorsal cortex."""

    class Config(SimulatedCameraConfig):
        """Tag `simulated_widefield`."""

        driver: Literal["simulated_widefield"]

    def _make_world(self, mouse: "Mouse", simulation: SimulationConfig) -> World:
        from rig.simulation.widefield import WidefieldCortex

        size = (self._config.height_px, self._config.width_px)
        return WidefieldCortex(
            mouse, simulation.seed, *size, self._config.rate_hz, session=simulation.session
        )


class SimulatedTwoPhoton(_Camera):
    """Two-photon microscope on the simulated mouse's visual cortex, which watches the rig's movies."""

    class Config(SimulatedCameraConfig):
        """Tag `simulated_two_photon`."""

        driver: Literal["simulated_two_photon"]

    def _make_world(self, mouse: "Mouse", simulation: SimulationConfig) -> World:
        from rig.simulation.visual_cortex import VisualCortex

        stimulus = self._rig.stimulus
        if stimulus is None:
            raise DeviceError(
                f"{self._name}: the rig's file needs a section stimulus with the movies it watches"
            )
        size = (self._config.height_px, self._config.width_px)
        movies = load_movies(stimulus.movie)
        return VisualCortex(
            movies,
            mouse,
            simulation.seed,
            simulation.neurons,
            *size,
            self._config.rate_hz,
            session=simulation.session,
        )
