"""YAML to frozen models: what a rig consists of, checked before anything opens.

Device settings belong to the drivers: each registers its own pydantic model (`rig.registry`), told apart by its
literal ``driver:`` tag. Errors name file, line, key, value and what would be valid.
"""

import difflib
import hashlib
import json
import logging
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from rig import registry
from rig.errors import ConfigError

_LOG = logging.getLogger(__name__)
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Model(BaseModel):
    """Base of every configuration model: frozen, and no key that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_key(cls, content: object) -> object:
        """Refuse an unknown key with the valid ones; pydantic's own message does not list them."""
        if isinstance(content, dict):
            unknown = [str(key) for key in content if key not in cls.model_fields]
            if unknown:
                close = difflib.get_close_matches(unknown[0], cls.model_fields, 1)
                hint = f"did you mean {close[0]}? " if close else ""
                context = {"key": unknown[0], "hint": hint, "valid": ", ".join(cls.model_fields)}
                raise PydanticCustomError("unknown_key", "unknown key; {hint}valid here: {valid}", context)
        return content


class DriverConfig(Model):
    """Base of every driver's own model; `driver` is narrowed to a literal there."""

    one_a_rig: ClassVar[bool] = False
    """Whether a rig can have no second device of this driver."""
    driver: str


def _by_tag(group: str, tag: str, base: type[Model]) -> BeforeValidator:
    """Validate a device's mapping with the model that its driver registered, a subclass of `base`."""

    def validate(content: object) -> object:
        if not isinstance(content, dict):
            return content  # pydantic's own message is right: not a mapping
        name = content.get(tag)
        model = _models(group, base).get(name) if isinstance(name, str) else None
        if model is None:
            context = {"key": tag, "valid": ", ".join(_models(group, base))}
            raise PydanticCustomError("unknown_driver", "missing or unknown; valid: {valid}", context)
        return model.model_validate(content)

    return BeforeValidator(validate)


@cache
def _models(group: str, base: type[Model]) -> dict[str, type[Model]]:
    """Registered configuration models of one kind, by tag."""
    models = {}
    for name in registry.names(group):
        try:
            models[name] = registry.load(group, name).Config
        except (
            ConfigError
        ) as error:  # somebody's broken package must not keep a rig from running that does without
            _LOG.warning("left out: %s", error)
    return {name: model for name, model in models.items() if issubclass(model, base)}


Landmark = Literal["bregma", "lambda", "olfactory_centre"]


class Imaging(Model):
    """What the optics image: NWB asks for it, and analysis cannot do without it."""

    kind: Literal["one_photon", "two_photon"] = "one_photon"
    indicator: str
    """Calcium indicator, e.g. GCaMP6f."""
    excitation_nm: PositiveFloat
    emission_nm: PositiveFloat
    location: str
    """Allen CCF term, e.g. VISp or Isocortex."""
    pixel_size_um: PositiveFloat
    """Size of one pixel on the tissue, after binning."""
    landmarks_px: dict[Landmark, tuple[float, float]] = Field(default_factory=dict)
    """Where the skull's landmarks lie in a frame, [column, row]: two or three of them place the atlas."""


class CameraConfig(DriverConfig):
    """What every camera has beside its driver's own settings."""

    rate_hz: float = Field(ge=0.01, le=100_000)
    """Nominal frame rate; the plan starts from it."""
    height_px: int = Field(ge=1, le=65_536)
    width_px: int = Field(ge=1, le=65_536)
    """Size of a frame after ROI and binning; a camera that gives another is refused when it is opened."""
    bits: Literal[8, 16] = 16
    """Bits of a stored pixel."""
    imaging: Imaging


class SerialConfig(DriverConfig):
    """What every serial source has beside its driver's own settings."""

    rate_hz: float = Field(default=0.0, ge=0.0)
    """Nominal sample rate, so that lost lines are noticed; 0 for event-driven devices."""


class OutputConfig(DriverConfig):
    """What every output device has beside its driver's own settings."""


class DecoderConfig(Model):
    """What every decoder has beside its own settings."""

    decoder: str
    camera: str
    """Name of the camera it decodes."""
    queue_frames: int = Field(default=8, ge=1, le=256)
    """Frames that may wait; when more do, the oldest is dropped, counted and recorded."""
    threads: PositiveInt = 1
    """CPU threads for inference."""
    max_gap_ms: float = Field(default=100.0, ge=0.0)
    """After frames missing for longer than this the decoder forgets what came before and is unknown meanwhile."""
    stall_ms: PositiveFloat | None = None
    """Without a frame for so long its answer becomes unknown; by default 3 frame periods, at least 100 ms."""


class PolicyConfig(Model):
    """Turns a decoder's scalar into a command: see `rig.closed_loop.policy`."""

    decoder: str
    output: str
    threshold_on: float
    """Switch on at or above this value..."""
    threshold_off: float
    """...and off below this one (hysteresis)."""
    hold_ms: float = Field(default=0.0, ge=0.0)
    """The value must stay on one side this long before the output follows."""
    refractory_ms: float = Field(default=0.0, ge=0.0)
    """After switching off, stay off at least this long."""
    max_on_ms: PositiveFloat = 1000.0
    """Switch off after this long, whatever the decoder says."""
    max_duty: float = Field(default=1.0, gt=0.0, le=1.0)
    """Largest share of the duty window that the output may be on."""
    duty_window_s: PositiveFloat = 60.0
    max_age_ms: PositiveFloat = 200.0
    """A prediction older than this is not acted on; with none younger, the output goes to its safe state."""

    @model_validator(mode="after")
    def _hysteresis(self) -> Self:
        if self.threshold_off > self.threshold_on:
            raise ValueError(
                f"threshold_off {self.threshold_off} is above threshold_on {self.threshold_on}; valid is at or below"
            )
        return self


class RunningConfig(Model):
    """When an animal counts as running: speed smoothed, thresholded, short bouts dropped."""

    source: str = "treadmill"
    """Serial stream with a running_speed column."""
    threshold_mm_s: PositiveFloat = 10.0
    smoothing_ms: float = Field(default=200.0, ge=0.0)
    min_bout_ms: float = Field(default=500.0, ge=0.0)


class MovieConfig(Model):
    """The movies shown: a ``.npy`` file, or made from natural statistics with a seed."""

    file: Path | None = None
    """uint8 array (clips, frames, height, width)."""
    seed: int = 0
    clips: PositiveInt = 6
    frames: PositiveInt = 300
    rate_hz: PositiveFloat = 30.0


class StimulusConfig(Model):
    """Which serial stream tells the movie frame on the screen, and which movies they are."""

    source: str
    """Serial stream with columns clip and movie_frame."""
    movie: MovieConfig = MovieConfig()


# Ajioka et al. 2024, stored outputs of their notebooks: mice 1 to 5, mean over each one's sessions.
PUBLISHED_RUN_FRACTIONS = (0.37, 0.66, 0.65, 0.58, 0.80)


def _published_run_fraction(given: dict[str, Any]) -> float:
    """Run fraction of a mouse when none is given: those of the published mice in turn."""
    return PUBLISHED_RUN_FRACTIONS[given.get("seed", 0) % len(PUBLISHED_RUN_FRACTIONS)]


class SimulationConfig(Model):
    """The simulated mouse behind ports and cameras called simulated."""

    seed: int = Field(default=0, ge=0)
    """Which mouse."""
    session: int = Field(default=0, ge=0)
    """Which recording session of that mouse: the same brain, other behaviour and activity."""
    neurons: PositiveInt = 200
    """Neurons in the simulated two-photon field."""
    run_fraction: float = Field(default_factory=_published_run_fraction, gt=0.0, lt=1.0)
    """Share of time spent running; where left out, that of one of the five published mice, 0.37 to 0.80, by seed."""


class SubjectConfig(Model):
    """The animal, as NWB and DANDI ask for it."""

    subject_id: str
    species: str = "Mus musculus"
    sex: Literal["M", "F", "U", "O"] = "U"
    age: str = "P90D"
    """ISO 8601 duration, e.g. P90D."""
    genotype: str = ""


class SessionConfig(Model):
    """What the file's header says of the experiment."""

    description: str
    experimenter: list[str] = Field(default_factory=list)
    lab: str = ""
    institution: str = ""
    subject: SubjectConfig


class RecordingConfig(Model):
    """How the session file is written."""

    directory: Path = Path("sessions")
    """Where `rig run` puts files when no --output is given."""
    compression: Literal["bitshuffle-lz4", "none"] = "bitshuffle-lz4"
    flush_s: float = Field(default=0.5, gt=0.0, le=1.0)
    """Longest time between flushes: what a crash can cost."""
    queue_mb: PositiveInt = 512
    """Memory for messages that wait for the disk; when it is full the run stops."""
    min_free_gb: float = Field(default=1.0, ge=0.0)
    """Stop the run when the disk has less than this left."""


class WindowConfig(Model):
    """The live window."""

    rate_hz: float = Field(default=30.0, gt=0.0, le=60.0)
    trace_s: PositiveFloat = 20.0
    """How many seconds the traces show."""
    largest_px: PositiveInt = 512
    """Frames with a longer edge are binned before display."""


AnyCamera = Annotated[SerializeAsAny[CameraConfig], _by_tag(registry.DRIVERS, "driver", CameraConfig)]
AnySerial = Annotated[SerializeAsAny[SerialConfig], _by_tag(registry.DRIVERS, "driver", SerialConfig)]
AnyOutput = Annotated[SerializeAsAny[OutputConfig], _by_tag(registry.DRIVERS, "driver", OutputConfig)]
AnyDecoder = Annotated[SerializeAsAny[DecoderConfig], _by_tag(registry.DECODERS, "decoder", DecoderConfig)]


def _not_empty(cameras: object) -> object:
    """Refuse a rig without cameras in plain words; pydantic's own speak of dictionaries."""
    if cameras in ({}, None):
        raise ValueError("valid is at least one camera: a run lasts as long as its cameras")
    return cameras


class RigConfig(Model):
    """One rig, one file."""

    schema_version: Literal[1]
    rig: Name
    session: SessionConfig
    cameras: Annotated[dict[Name, AnyCamera], Field(min_length=1), BeforeValidator(_not_empty)]
    serial: dict[Name, AnySerial] = Field(default_factory=dict)
    outputs: dict[Name, AnyOutput] = Field(default_factory=dict)
    decoders: dict[Name, AnyDecoder] = Field(default_factory=dict)
    closed_loop: list[PolicyConfig] = Field(default_factory=list)
    running: RunningConfig | None = None
    stimulus: StimulusConfig | None = None
    recording: RecordingConfig = RecordingConfig()
    window: WindowConfig = WindowConfig()
    simulation: SimulationConfig | None = None

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for what, name, known in self._references():
            if name not in known:
                raise ValueError(
                    f"{what} names {name!r}; valid: {', '.join(sorted(known)) or 'none is defined'}"
                )
        streams = [*self.cameras, *self.serial, *self.outputs, *self.decoders]
        twice = sorted({name for name in streams if streams.count(name) > 1})
        if twice:
            raise ValueError(f"names must differ between devices and decoders: {', '.join(twice)} used twice")
        for name, camera in self.cameras.items():
            others = [
                other for other, c in self.cameras.items() if c.driver == camera.driver and other != name
            ]
            if camera.one_a_rig and others:
                raise ValueError(
                    f"cameras {name} and {', '.join(others)} have driver {camera.driver}; valid is one such camera"
                )
        driven = [policy.output for policy in self.closed_loop]
        if len(driven) > len(set(driven)):
            raise ValueError("an output can follow one closed_loop policy only")
        return self

    def _references(self) -> list[tuple[str, str, set[str]]]:
        """List what is named elsewhere in the file: (who names it, the name, the names that exist)."""
        found = [(f"decoders.{n}.camera", d.camera, set(self.cameras)) for n, d in self.decoders.items()]
        for k, policy in enumerate(self.closed_loop):
            found.append((f"closed_loop[{k}].decoder", policy.decoder, set(self.decoders)))
            found.append((f"closed_loop[{k}].output", policy.output, set(self.outputs)))
        if self.running:
            found.append(("running.source", self.running.source, set(self.serial)))
        if self.stimulus:
            found.append(("stimulus.source", self.stimulus.source, set(self.serial)))
        return found

    def as_json(self) -> str:
        """Every setting, defaults included, as canonical JSON: what is stored and hashed."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)

    def digest(self) -> str:
        """SHA-256 of the resolved configuration."""
        return hashlib.sha256(self.as_json().encode()).hexdigest()


def load_config(path: Path) -> RigConfig:
    """Read and check a rig's YAML.

    Raises
    ------
    ConfigError
        One line a problem: file, line, key, value, and what would be valid.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse_config(text, str(path))


def parse_config(text: str, name: str) -> RigConfig:
    """Check a rig's YAML or JSON given as text; `name` is what errors call it."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{name}: a rig's file is a mapping with schema_version, rig, session and cameras")
    try:
        return RigConfig.model_validate(content)
    except ValidationError as error:
        lines = [_explain(name, node, problem) for problem in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def _explain(name: str, node: yaml.Node | None, problem: Any) -> str:
    """One line for one of pydantic's problems, with the line of the YAML it is about."""
    keys = [key for key in problem["loc"] if key != "[key]"]
    keys += [problem["ctx"]["key"]] if "key" in problem.get("ctx", {}) else []
    value = problem["input"]
    found = "" if isinstance(value, dict | list) else f" (found {value!r})"
    where = ".".join(str(key) for key in keys) or "file"
    return f"{name}:{_line_of(node, keys)}: {where}: {problem['msg'].removeprefix('Value error, ')}{found}"


def _line_of(node: yaml.Node | None, keys: list[Any]) -> int:
    """Line (from 1) of the deepest part of `keys` that the file holds."""
    line = node.start_mark.line + 1 if node else 1
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            pairs = [(k, v) for k, v in node.value if k.value == str(key)]
            if not pairs:
                break
            line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        else:
            break
    return line


def json_schema() -> dict[str, Any]:
    """JSON schema of a rig's YAML with every installed driver and decoder, for editors."""
    schema = RigConfig.model_json_schema()
    for group, base in (
        (registry.DRIVERS, CameraConfig),
        (registry.DRIVERS, SerialConfig),
        (registry.DRIVERS, OutputConfig),
        (registry.DECODERS, DecoderConfig),
    ):
        models = _models(group, base)
        for model in models.values():
            own = model.model_json_schema()
            schema["$defs"].update(own.pop("$defs", {}))
            schema["$defs"][model.__qualname__.replace(".", "")] = own
        refs = [{"$ref": f"#/$defs/{model.__qualname__.replace('.', '')}"} for model in models.values()]
        schema["$defs"][base.__name__] = {"anyOf": refs}
    return schema
