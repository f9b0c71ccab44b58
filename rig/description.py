"""What every process of a session needs to know of it: configuration, clock, and the streams it consists of."""

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from rig.config import RigConfig, parse_config
from rig.messages import FrameStream, PredictionStream, SampleStream
from rig.sync.clock import SessionClock


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """One session, described before its first message.

    `identifier` names the session on the bus and in the file; `outputs` maps each output device's name to what
    it said of itself when it was opened. `origin` is "live" or the file that is being replayed.
    """

    identifier: str
    config: RigConfig
    clock: SessionClock
    frames: tuple[FrameStream, ...] = ()
    samples: tuple[SampleStream, ...] = ()
    predictions: tuple[PredictionStream, ...] = ()
    outputs: tuple[tuple[str, dict[str, str]], ...] = ()
    origin: str = "live"

    def with_predictions(self, predictions: tuple[PredictionStream, ...]) -> "SessionDescription":
        """Return the same session with its decoders' outputs known."""
        return replace(self, predictions=predictions)

    def frame_stream(self, name: str) -> FrameStream:
        """Describe the camera of that name, with the landmarks that the configuration gives it."""
        stream = next(stream for stream in self.frames if stream.name == name)
        landmarks_px = {str(k): at for k, at in self.config.cameras[name].imaging.landmarks_px.items()}
        return replace(stream, landmarks_px=landmarks_px)

    def feed(self, decoder: str) -> str:
        """Bus stream that a decoder follows: its camera, or in a replay the frames it consumed when live."""
        camera = self.config.decoders[decoder].camera
        return camera if self.origin == "live" else f"{camera}_for_{decoder}"

    def as_json(self) -> str:
        """Everything, for a child process."""
        content = {
            "identifier": self.identifier,
            "config": self.config.model_dump(mode="json"),
            "clock": {
                "zero_ns": self.clock.zero_ns,
                "started_at": self.clock.started_at.isoformat(),
                "speed": self.clock.speed,
            },
            "frames": [asdict(stream) for stream in self.frames],
            "samples": [asdict(stream) for stream in self.samples],
            "predictions": [asdict(stream) for stream in self.predictions],
            "outputs": self.outputs,
            "origin": self.origin,
        }
        return json.dumps(content)

    @classmethod
    def from_json(cls, text: str) -> "SessionDescription":
        """Read what `as_json` wrote."""
        content: dict[str, Any] = json.loads(text)
        clock = content["clock"]
        started_at = datetime.fromisoformat(clock["started_at"])
        tuples = ("columns", "units", "shape")

        def streams(cls_: type[Any], key: str) -> tuple[Any, ...]:
            return tuple(
                cls_(**{k: tuple(v) if k in tuples else v for k, v in entry.items()})
                for entry in content[key]
            )

        return cls(
            identifier=content["identifier"],
            config=parse_config(json.dumps(content["config"]), "session configuration"),
            clock=SessionClock(clock["zero_ns"], started_at, clock["speed"]),
            frames=streams(FrameStream, "frames"),
            samples=streams(SampleStream, "samples"),
            predictions=streams(PredictionStream, "predictions"),
            outputs=tuple((name, said) for name, said in content["outputs"]),
            origin=content["origin"],
        )
