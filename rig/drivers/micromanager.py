"""Any camera that Micro-Manager drives, through pycromanager.

Two backends share this code. ``python`` loads Micro-Manager's C++ core into this process, without Java; it is
what the tests run, with the demo camera. ``java`` uses a running Micro-Manager through pycromanager's bridge
(some 100 MB/s at most); it needs a Micro-Manager installation and is **not covered by tests**.

Frames that are lost show in the core's running ``ImageNumber`` alone, so it is checked on every frame. The
core's *continuous* acquisition throws unread frames away in silence when its buffer is full; what is used
here instead is a sequence that stops on overflow.
"""

import time
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    WithJsonSchema,
    model_validator,
)

from rig.config import CameraConfig, Model
from rig.drivers import micromanager_core
from rig.drivers.micromanager_core import AUTO, MicroManagerCore, one_line
from rig.drivers.protocols import DriverContext, FrameMessages
from rig.errors import DeviceError, DeviceLost
from rig.messages import NO_TICKS, Frame, FrameStream, Gap

_POLL_S = 0.0005
_BATCH_FRAMES = 64
_ENDLESS = 2**31 - 1  # frames: a C long on Windows; eight months at 100 fps
_TICK_HZ = 1_000_000.0
_TICKS_PER_MS = 1000


def _property_text(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("YAML reads yes, no, on and off as true or false; valid: the value in quotes")
    return str(value) if isinstance(value, int | float) else value


PropertyValue = Annotated[
    str, BeforeValidator(_property_text), WithJsonSchema({"type": ["string", "number"], "title": "value"})
]


class TriggerProperty(Model):
    """Which of the camera's properties chooses the trigger, and its value for either choice."""

    property: str
    internal: PropertyValue
    external: PropertyValue


class MicroManagerConfig(CameraConfig):
    """A camera driven by Micro-Manager."""

    one_a_rig = True  # a process has one core, and a core one camera at a time
    driver: Literal["micromanager"]
    backend: Literal["python", "java"] = "python"
    mm_app_path: str = AUTO
    """Folder of Micro-Manager's device adapters; auto: those of the package mm-test-adapters."""
    config_file: str | None = None
    """Micro-Manager's .cfg, or demo: a demo camera of 512x512 pixels, 16 bit. Not with backend java."""
    camera: str | None = None
    """Label of the camera; without it the core's own."""
    exposure_ms: PositiveFloat
    binning: PositiveInt | None = None
    """None leaves it as the .cfg has it."""
    roi: tuple[NonNegativeInt, NonNegativeInt, PositiveInt, PositiveInt] | None = None
    """x, y, width, height in binned pixels."""
    trigger: Literal["internal", "external"] = "internal"
    trigger_property: TriggerProperty | None = None
    properties: dict[str, dict[str, PropertyValue]] = Field(default_factory=dict)
    """Device label to property to value; applied in this order, before all else."""
    buffer_mb: PositiveInt = 256
    """The core's circular buffer: time for this process to fall behind. When it is full the run stops."""
    silent_after_s: PositiveFloat = 2.0
    """Nothing for so long, and the camera is lost; with an external trigger counted from the first frame."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.backend == "java") == (self.config_file is not None):
            raise ValueError(
                "config_file belongs to backend python, and must be there; java: load it in Micro-Manager"
            )
        if self.trigger == "external" and self.trigger_property is None:
            raise ValueError(
                "trigger external needs trigger_property: {property: ..., internal: ..., external: ...}"
            )
        if self.silent_after_s < 2 * max(self.exposure_ms / 1000, 1 / self.rate_hz):
            raise ValueError(
                f"silent_after_s {self.silent_after_s:g} is too short; valid: at least two frames"
            )
        return self


class MicroManagerCamera:
    """One camera of Micro-Manager; a process can hold one, since pycromanager has one core a process.

    `Frame.index` is the core's ImageNumber, `device_ticks` its ElapsedTime in microseconds since the start.
    """

    Config = MicroManagerConfig
    _holder: ClassVar["MicroManagerCamera | None"] = None

    def __init__(self, name: str, config: MicroManagerConfig, context: DriverContext) -> None:
        self.name = name
        self._config = config
        self._clock = context.clock
        self._core: Any = None
        self._shape = (0, 0)
        self._next_index = 0
        self._stopped = True
        self._heard_s = 0.0
        self._lost: DeviceLost | None = None

    def open(self) -> FrameStream:
        """Load the configuration, apply every setting and read it back.

        Raises
        ------
        DeviceError
            Naming device, property and value, and what would be valid.
        """
        core = self._connect()
        self._core = core.raw
        label = core.select_camera(self._config.camera)
        exposure_ms = self._configure(core, label)
        height_px, width_px, dtype = core.image_format()
        self._shape = (height_px, width_px)
        with core.explaining("cannot draw a first image"):
            self._wake_fast_image(label)
        return FrameStream(
            name=self.name,
            height_px=height_px,
            width_px=width_px,
            dtype=dtype,
            rate_hz=self._config.rate_hz,
            tick_hz=_TICK_HZ,
            properties=self._describe(label, exposure_ms),
        )

    def start(self) -> None:
        """Start a sequence without end that stops, rather than lose frames, when the buffer is full."""
        with MicroManagerCore(self.name, self._core).explaining("cannot start the acquisition"):
            self._core.start_sequence_acquisition(_ENDLESS, 0, True)
        self._stopped = False
        self._heard_s = time.monotonic()

    def read(self, timeout_s: float) -> FrameMessages:
        """Return the frames that have arrived, with a `Gap` wherever ImageNumber jumps.

        Raises
        ------
        DeviceLost
            When the buffer overflowed, the camera stopped by itself or fell silent; every frame that had
            arrived was returned before.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            messages = self._pop()
            if messages or self._stopped:
                return messages
            self._check_alive()
            if time.monotonic() >= deadline_s:
                return []
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Stop the sequence; what the buffer still holds is returned by further reads. Safe twice."""
        if not self._stopped:
            self._stopped = True
            with MicroManagerCore(self.name, self._core).explaining("cannot stop the acquisition"):
                self._core.stop_sequence_acquisition()

    def close(self) -> None:
        """Unload the devices (backend python) and let the core go. Safe twice, and after a failed `open`."""
        if MicroManagerCamera._holder is not self:
            return
        try:
            self.stop()
        finally:
            self._core = None
            MicroManagerCamera._holder = None
            if self._config.backend == "python":
                micromanager_core.stop_python_core()

    # --- opening ---

    def _connect(self) -> MicroManagerCore:
        other = MicroManagerCamera._holder
        if other is not None:
            raise DeviceError(
                f"{self.name}: camera {other.name!r} already holds this process's Micro-Manager core;"
                " valid: one camera with driver micromanager per rig"
            )
        config = self._config
        MicroManagerCamera._holder = self
        if config.config_file is None:
            return micromanager_core.connect_java_core(self.name, config.buffer_mb)
        core = micromanager_core.start_python_core(self.name, config.mm_app_path, config.buffer_mb)
        core.load(config.config_file)
        return core

    def _configure(self, core: MicroManagerCore, label: str) -> float:
        """Apply all settings, and return the exposure as the camera took it, ms."""
        config = self._config
        for device, values in config.properties.items():
            for key, value in values.items():
                core.set_property(device, key, value)
        if config.binning is not None:
            core.set_property(label, "Binning", str(config.binning))
        if config.roi is not None:
            core.set_roi(config.roi)
        if config.trigger_property is not None:
            core.set_property(
                label, config.trigger_property.property, getattr(config.trigger_property, config.trigger)
            )
        return core.set_exposure(label, config.exposure_ms)

    def _wake_fast_image(self, label: str) -> None:
        """Draw one image: with FastImage the demo camera repeats the last one drawn, and begins black."""
        fast = (
            self._core.has_property(label, "FastImage") and self._core.get_property(label, "FastImage") == "1"
        )
        if fast:
            self._core.set_property(label, "FastImage", "0")
            self._core.snap_image()
            self._core.set_property(label, "FastImage", "1")

    def _describe(self, label: str, exposure_ms: float) -> dict[str, str]:
        core, config = self._core, self._config
        about = {
            "core": str(core.get_version_info()),
            "camera": label,
            "adapter": f"{core.get_device_library(label)}/{core.get_device_name(label)}",
            "description": str(core.get_device_description(label)),
            "exposure_ms": f"{exposure_ms:g}",
            "trigger": config.trigger,
            "buffer_mb": str(config.buffer_mb),
        }
        if core.has_property(label, "Binning"):
            about["binning"] = str(core.get_property(label, "Binning"))
        if config.roi:
            about["roi"] = " ".join(str(edge) for edge in config.roi)
        for device, values in config.properties.items():
            about |= {f"{device}.{key}": value for key, value in values.items()}
        return about

    # --- reading ---

    def _pop(self) -> list[Frame | Gap]:
        """Take what is in the core's buffer, one batch at most; an error waits until the frames before it are out."""
        messages: list[Frame | Gap] = []
        while self._lost is None and len(messages) < _BATCH_FRAMES:
            try:
                if self._core.get_remaining_image_count() <= 0:
                    break
                messages += self._frame(self._core.pop_next_tagged_image())
            except DeviceLost as error:
                self._lost = error
            except Exception as error:  # the core's RuntimeError, the Java bridge's bare Exception
                self._lost = DeviceLost(f"{self.name}: cannot read the core's buffer: {one_line(error)}")
                self._lost.__cause__ = error
        if self._lost is not None and not messages:
            raise self._lost
        return messages

    def _frame(self, image: Any) -> list[Frame | Gap]:
        """One tagged image as a frame, after the gap before it if there is one."""
        arrival_ns = self._clock.now_ns()
        self._heard_s = time.monotonic()
        index = self._index_of(image.tags)
        lost: list[Frame | Gap] = []
        if index > self._next_index:
            reason = f"ImageNumber jumped to {index}"
            lost.append(Gap(self.name, self._next_index, index - 1, arrival_ns, reason))
        self._next_index = index + 1
        elapsed_ms = image.tags.get("ElapsedTime-ms")
        ticks = NO_TICKS if elapsed_ms is None else round(float(elapsed_ms) * _TICKS_PER_MS)
        pixels = np.asarray(image.pix).reshape(self._shape)  # the Java bridge delivers them flat
        return [*lost, Frame(self.name, index, ticks, arrival_ns, pixels)]

    def _index_of(self, tags: dict[str, Any]) -> int:
        number = tags.get("ImageNumber")
        if number is None:
            raise DeviceLost(f"{self.name}: a frame without ImageNumber: lost frames could not be noticed")
        if int(number) < self._next_index:
            raise DeviceLost(
                f"{self.name}: ImageNumber {number} came after {self._next_index - 1}: camera restarted?"
            )
        return int(number)

    def _check_alive(self) -> None:
        """Raise `DeviceLost` when an empty buffer is not simply waiting for the next frame."""
        if not self._core.is_sequence_running():
            if self._core.get_remaining_image_count() > 0:  # it came between the last look and the end
                return
            raise DeviceLost(f"{self.name}: {self._why_stopped()}; {self._next_index} frames were taken")
        awaited = self._config.trigger == "internal" or self._next_index > 0
        silent_s = time.monotonic() - self._heard_s
        if awaited and silent_s > self._config.silent_after_s:
            raise DeviceLost(
                f"{self.name}: no frame for {silent_s:.1f} s; {self._next_index} frames were taken"
            )

    def _why_stopped(self) -> str:
        if self._core.is_buffer_overflowed():
            return f"the core's buffer overflowed: buffer_mb {self._config.buffer_mb} is too small here"
        return "the camera stopped without being asked"
