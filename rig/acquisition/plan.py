"""What a rig's YAML will cost before anything opens: data rate, disk, and the decoders' time for each frame."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from rig.config import CameraConfig, RigConfig
from rig.errors import ConfigError
from rig.stimulus import movie_size

_SAMPLE_BYTES = 8 * 7  # a sample's value and its stamps, as the session file holds them


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """One camera's share; sizes are those of the file before compression."""

    width_px: int
    height_px: int
    rate_hz: float
    mb_per_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What to expect of a run.

    `decoder_budget_ms` is how long each decoder has for a frame before it must skip one.
    """

    cameras: dict[str, CameraPlan]
    mb_per_s: float
    gb_per_hour: float
    disk_free_gb: float
    minutes_until_full: float
    decoder_budget_ms: dict[str, float]

    def as_dict(self) -> dict[str, object]:
        """Everything, for JSON."""
        return asdict(self)


def plan(config: RigConfig) -> Plan:
    """Compute what a run will need.

    Raises
    ------
    ConfigError
        When the disk cannot take a minute of it, or the movies to show cannot be read.
    """
    if config.stimulus is not None:
        movie_size(config.stimulus.movie)
    cameras = {name: _camera(camera) for name, camera in config.cameras.items()}
    samples = sum(source.rate_hz for source in config.serial.values()) * _SAMPLE_BYTES / 1e6
    mb_per_s = sum(camera.mb_per_s for camera in cameras.values()) + samples
    free_gb = shutil.disk_usage(_existing(config.recording.directory)).free / 1e9
    usable_gb = free_gb - config.recording.min_free_gb
    minutes = usable_gb * 1e3 / mb_per_s / 60
    if minutes < 1:
        raise ConfigError(
            f"recording.directory: {config.recording.directory} has {free_gb:.2f} GB free, less than a minute of "
            f"{mb_per_s:.0f} MB/s above min_free_gb {config.recording.min_free_gb}"
        )
    return Plan(
        cameras=cameras,
        mb_per_s=round(mb_per_s, 2),
        gb_per_hour=round(mb_per_s * 3.6, 2),
        disk_free_gb=round(free_gb, 1),
        minutes_until_full=round(minutes, 1),
        decoder_budget_ms={
            name: round(1e3 / config.cameras[decoder.camera].rate_hz, 2)
            for name, decoder in config.decoders.items()
        },
    )


def _camera(camera: CameraConfig) -> CameraPlan:
    mb_per_s = camera.height_px * camera.width_px * camera.bits / 8 * camera.rate_hz / 1e6
    return CameraPlan(camera.width_px, camera.height_px, camera.rate_hz, round(mb_per_s, 2))


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    folder = folder.expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
