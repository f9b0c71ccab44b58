"""Where the skull's landmarks lie, for recordings that do not say so themselves: from a YAML file or from options.

Owns the reading only; placing an atlas by them is `decoders.atlas`'s. Light to import.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import yaml

from decoders.datasets.behavior import BehaviorRecording
from rig.config import Landmark
from rig.errors import ConfigError

Landmarks = dict[Landmark, tuple[float, float]]
_VALID = f"valid is [column, row] in pixels for two or three of {', '.join(get_args(Landmark))}"


@dataclass(frozen=True, slots=True)
class GivenLandmarks:
    """Landmarks of all recordings, or of single mice or sessions by name."""

    everywhere: Landmarks = field(default_factory=dict)
    by_name: Mapping[str, Landmarks] = field(default_factory=dict)

    def applied(self, recording: BehaviorRecording) -> BehaviorRecording:
        """Return the recording with the landmarks given for it: its session's, its mouse's, everybody's, its own."""
        for found in (
            self.by_name.get(recording.session),
            self.by_name.get(recording.mouse),
            self.everywhere,
        ):
            if found:
                return replace(recording, landmarks_px=found)
        return recording


def read_landmarks(given: Sequence[str]) -> GivenLandmarks:
    """Read what was given on the command line: a YAML file, or bregma=COLUMN,ROW and so on.

    The file is a rig's own (`cameras.X.imaging.landmarks_px`), a mapping of landmarks, or a mapping of mice or
    sessions to such mappings.

    Raises
    ------
    ConfigError
        When a file cannot be read or a landmark is not one.
    """
    if not given:
        return GivenLandmarks()
    if len(given) == 1 and "=" not in given[0]:
        return _read_file(Path(given[0]))
    pairs = [text.partition("=") for text in given]
    return GivenLandmarks(_landmarks({name: at.split(",") for name, _, at in pairs}, "--landmarks"))


def _read_file(path: Path) -> GivenLandmarks:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path}: cannot be read as landmarks ({reason}); {_VALID}") from error
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{path}: holds no landmarks; {_VALID}")
    if "cameras" in content:
        return GivenLandmarks(_landmarks(_of_rig(content["cameras"], path), str(path)))
    if all(isinstance(value, dict) for value in content.values()):
        named = {str(name): _landmarks(value, f"{path}: {name}") for name, value in content.items()}
        return GivenLandmarks(by_name=named)
    return GivenLandmarks(_landmarks(content, str(path)))


def _of_rig(cameras: Any, path: Path) -> Mapping[str, Any]:
    """Landmarks of the first camera of a rig that has some."""
    for camera in cameras.values() if isinstance(cameras, dict) else ():
        imaging = camera.get("imaging") if isinstance(camera, dict) else None
        found = imaging.get("landmarks_px") if isinstance(imaging, dict) else None
        if isinstance(found, dict) and found:
            return found
    raise ConfigError(f"{path}: no camera has imaging.landmarks_px; {_VALID}")


def _landmarks(content: Mapping[str, Any], where: str) -> Landmarks:
    found: Landmarks = {}
    for name, at in content.items():
        known = next((landmark for landmark in get_args(Landmark) if landmark == name), None)
        try:
            column, row = (float(value) for value in at)
        except (TypeError, ValueError):
            known = None
        if known is None:
            raise ConfigError(f"{where}: {name}={at!r} is no landmark; {_VALID}")
        found[known] = (column, row)
    return found
