"""Micro-Manager's core, with every setting read back and every error saying what would be valid.

The core accepts some values in silence (a ROI outside the sensor, an exposure above the limit) and its own
messages seldom say what it would take. Works on both backends of pycromanager (`rig.drivers.micromanager`).
"""

import contextlib
import math
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rig.errors import DeviceError

DEMO = "demo"
AUTO = "auto"
DEMO_CONFIG = """\
Property,Core,Initialize,0
Device,Camera,DemoCamera,DCam
Property,Core,Initialize,1
Property,Core,Camera,Camera
Property,Camera,PixelType,16bit
Property,Camera,BitDepth,16
Property,Camera,OnCameraCCDXSize,512
Property,Camera,OnCameraCCDYSize,512
"""
_JAVA_PORT = 4827
_JAVA_TIMEOUT_S = 2.0
_EXPOSURE_TOLERANCE = 0.05  # cameras round to their line time
_PROPERTY_TOLERANCE = 1e-3  # the core writes numbers with four decimals


def check_match(core_version: str, adapters_version: str) -> None:
    """Refuse a core and device adapters made for different device interfaces.

    Parameters
    ----------
    core_version
        Of pymmcore: its fourth number is the device interface, as in 12.5.1.75.0.
    adapters_version
        Of mm-test-adapters: its first number is, as in 75.20261014.

    Raises
    ------
    DeviceError
        Naming both versions and what would match.
    """
    wanted, found = core_version.split(".")[3], adapters_version.split(".")[0]
    if wanted != found:
        raise DeviceError(
            f"pymmcore {core_version} has device interface {wanted}, mm-test-adapters {adapters_version} has"
            f" {found}; valid with this core: mm-test-adapters {wanted}.*"
        )


class MicroManagerCore:
    """The core of one process, on behalf of the rig's camera `name`.

    `raw` is the core itself, with pycromanager's snake_case names.
    """

    def __init__(self, name: str, raw: Any) -> None:
        self._name = name
        self.raw = raw

    @contextmanager
    def explaining(self, doing: str, valid: str = "") -> Iterator[None]:
        """Turn whatever the core raises into one line that says what was being done and what is valid."""
        try:
            yield
        except (
            Exception
        ) as error:  # RuntimeError, ValueError, OSError; the Java bridge raises bare Exceptions
            hint = f"; valid: {valid}" if valid else ""
            raise DeviceError(f"{self._name}: {doing}: {one_line(error)}{hint}") from error

    def load(self, config_file: str) -> None:
        """Load a Micro-Manager configuration (``.cfg``), or the built-in one of the demo camera."""
        if config_file == DEMO:
            with tempfile.TemporaryDirectory(prefix="cortexrig_") as folder:
                path = Path(folder) / "demo.cfg"
                path.write_text(DEMO_CONFIG, encoding="utf-8")
                self._load(path)
            return
        path = Path(config_file).resolve()
        if not path.is_file():
            raise DeviceError(
                f"{self._name}: config_file {path}: no such file; valid: a Micro-Manager .cfg, or {DEMO}"
            )
        self._load(path)

    def _load(self, path: Path) -> None:
        adapters = ", ".join(sorted(strings(self.raw.get_device_adapter_names())))
        with self.explaining(
            f"config_file {path}", f"device adapters {adapters or '(none found in mm_app_path)'}"
        ):
            self.raw.load_system_configuration(str(path))

    def select_camera(self, label: str | None) -> str:
        """Make a camera the core's own, and return its label; None keeps the core's."""
        cameras = [name for name in strings(self.raw.get_allowed_property_values("Core", "Camera")) if name]
        valid = ", ".join(cameras) or "none is loaded"
        chosen = str(self.raw.get_camera_device()) if label is None else label
        if chosen not in cameras:
            what = f"camera {chosen!r} is not loaded" if chosen else "the configuration names no Core-Camera"
            raise DeviceError(f"{self._name}: {what}; valid: {valid}")
        self.raw.set_camera_device(chosen)
        channels = int(self.raw.get_number_of_camera_channels())
        if channels != 1:
            raise DeviceError(
                f"{self._name}: camera {chosen!r} delivers {channels} channels; valid: cameras with one"
            )
        return chosen

    def set_property(self, device: str, key: str, value: str) -> None:
        """Set a device's property, and check that the device took it."""
        devices = strings(self.raw.get_loaded_devices())
        if device not in devices:
            raise DeviceError(f"{self._name}: no device {device!r} is loaded; valid: {', '.join(devices)}")
        keys = strings(self.raw.get_device_property_names(device))
        if key not in keys:
            raise DeviceError(f"{self._name}: {device} has no property {key!r}; valid: {', '.join(keys)}")
        valid = self._valid_values(device, key)
        with self.explaining(f"{device}.{key} = {value!r}", valid):
            self.raw.set_property(device, key, value)
        taken = str(self.raw.get_property(device, key))
        if not same_value(value, taken):
            raise DeviceError(
                f"{self._name}: {device}.{key} = {value!r}: reads back as {taken!r}; valid: {valid}"
            )

    def _valid_values(self, device: str, key: str) -> str:
        if self.raw.is_property_read_only(device, key):
            return "nothing, it is read-only"
        allowed = strings(self.raw.get_allowed_property_values(device, key))
        if allowed:
            return ", ".join(allowed)
        if self.raw.has_property_limits(device, key):
            lower = self.raw.get_property_lower_limit(device, key)
            return f"{lower:g} to {self.raw.get_property_upper_limit(device, key):g}"
        return "any value the device accepts"

    def set_exposure(self, camera: str, exposure_ms: float) -> float:
        """Set the exposure and return what the camera made of it, ms."""
        with self.explaining(f"exposure_ms {exposure_ms:g}"):
            self.raw.set_exposure(exposure_ms)
        taken_ms = float(self.raw.get_exposure())
        if not math.isclose(taken_ms, exposure_ms, rel_tol=_EXPOSURE_TOLERANCE):
            has_limits = "Exposure" in strings(self.raw.get_device_property_names(camera))
            valid = f"; valid: {self._valid_values(camera, 'Exposure')}" if has_limits else ""
            raise DeviceError(
                f"{self._name}: exposure_ms {exposure_ms:g}: the camera keeps {taken_ms:g}{valid}"
            )
        return taken_ms

    def set_roi(self, roi: tuple[int, int, int, int]) -> None:
        """Read out only (x, y, width, height), in binned pixels."""
        self.raw.clear_roi()
        width, height = int(self.raw.get_image_width()), int(self.raw.get_image_height())
        x, y, w, h = roi
        if x + w > width or y + h > height:  # some adapters would accept it and deliver something else
            raise DeviceError(
                f"{self._name}: roi {list(roi)} leaves the image; valid: within {width}x{height} pixels"
            )
        with self.explaining(f"roi {list(roi)}"):
            self.raw.set_roi(x, y, w, h)
        taken = (int(self.raw.get_image_width()), int(self.raw.get_image_height()))
        if taken != (w, h):
            raise DeviceError(
                f"{self._name}: roi {list(roi)}: the camera delivers {taken[0]}x{taken[1]} pixels"
            )

    def image_format(self) -> tuple[int, int, str]:
        """Height and width in pixels, and dtype, of the images to come."""
        size, components = int(self.raw.get_bytes_per_pixel()), int(self.raw.get_number_of_components())
        dtype = {1: "uint8", 2: "uint16"}.get(size)
        if dtype is None or components != 1:
            raise DeviceError(
                f"{self._name}: pixels of {size} bytes in {components} components;"
                " valid: grey values of 8 or 16 bit"
            )
        return int(self.raw.get_image_height()), int(self.raw.get_image_width()), dtype


def start_python_core(name: str, mm_app_path: str, buffer_mb: int) -> MicroManagerCore:
    """Start a core in this process, without devices yet, for the rig's camera `name`."""
    from pycromanager import Core, start_headless  # 0.5 s: not while a rig's YAML is being checked

    folder = _adapter_folder(name, mm_app_path)
    with contextlib.redirect_stdout(sys.stderr):  # standard output belongs to `rig ... --json`
        start_headless(mm_app_path=folder, config_file=None, python_backend=True, buffer_size_mb=buffer_mb)
    return MicroManagerCore(name, Core())


def stop_python_core() -> None:
    """Unload all devices and let the process's core go."""
    from pycromanager import stop_headless

    with contextlib.redirect_stdout(sys.stderr):
        stop_headless()


def connect_java_core(name: str, buffer_mb: int) -> MicroManagerCore:
    """Connect to a running Micro-Manager, configured there."""
    from pycromanager import Core

    core = MicroManagerCore(name, None)
    with core.explaining("backend java", f"Micro-Manager with Options > Run server on port {_JAVA_PORT}"):
        # Asked first, because the bridge leaves tracebacks of its threads behind when nobody answers.
        socket.create_connection(("localhost", _JAVA_PORT), _JAVA_TIMEOUT_S).close()
        core.raw = Core()
        core.raw.set_circular_buffer_memory_footprint(buffer_mb)
    return core


def _adapter_folder(name: str, mm_app_path: str) -> str:
    if mm_app_path == AUTO:
        import mm_test_adapters

        check_match(version("pymmcore"), version("mm-test-adapters"))
        return str(mm_test_adapters.device_adapter_path())
    if not Path(mm_app_path).is_dir():
        raise DeviceError(
            f"{name}: mm_app_path {mm_app_path}: no such folder; valid: Micro-Manager's folder, or {AUTO}"
        )
    return str(Path(mm_app_path).resolve())


def strings(vector: Any) -> list[str]:
    """List a vector of strings of the core; over the Java bridge it is an object with size() and get()."""
    if isinstance(vector, Iterable):
        return [str(item) for item in vector]
    return [str(vector.get(k)) for k in range(vector.size())]


def same_value(wanted: str, found: str) -> bool:
    """Tell whether a property's text is what was asked for, as text or as a number."""
    if wanted == found:
        return True
    try:
        return math.isclose(
            float(wanted), float(found), rel_tol=_PROPERTY_TOLERANCE, abs_tol=_PROPERTY_TOLERANCE
        )
    except ValueError:
        return False


def one_line(error: Exception) -> str:
    """Return the core's message, which may have several lines, as one."""
    return " ".join(str(error).split())
