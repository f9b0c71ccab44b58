"""Whether a rig's decoders can begin: loads each as a run would, for the camera that the YAML describes."""

from rig import registry
from rig.config import CameraConfig, RigConfig
from rig.description import SessionDescription
from rig.errors import one_line
from rig.messages import FrameStream
from rig.sync.clock import SessionClock


def decoder_problems(config: RigConfig) -> list[str]:
    """One line for each decoder that would refuse its checkpoint, its camera or the camera's landmarks."""
    frames = tuple(_stream(name, camera) for name, camera in config.cameras.items())
    description = SessionDescription("check", config, SessionClock.start(), frames)
    refused = {name: _refusal(name, description) for name in config.decoders}
    return [f"decoder {name!r}: {text}" for name, text in refused.items() if text is not None]


def _refusal(name: str, description: SessionDescription) -> str | None:
    decoder = description.config.decoders[name]
    try:
        made = registry.load(registry.DECODERS, decoder.decoder)(name, decoder)
        made.load(description.frame_stream(decoder.camera))
    except Exception as error:  # anybody's decoder: in a run, too, whatever it raises ends up on one line
        return one_line(error)
    return None


def _stream(name: str, camera: CameraConfig) -> FrameStream:
    """Describe a camera by the YAML alone; one that gives other frames is refused when it is opened."""
    return FrameStream(
        name, camera.height_px, camera.width_px, f"uint{camera.bits}", camera.rate_hz, tick_hz=0.0
    )
