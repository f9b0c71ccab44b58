"""A whole session, small: described from a rig's YAML, with messages of every kind."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from rig.config import parse_config
from rig.description import SessionDescription
from rig.messages import (
    EndOfStream,
    Event,
    Frame,
    FrameStream,
    Gap,
    Message,
    Output,
    Prediction,
    PredictionStream,
    Samples,
    SampleStream,
)
from rig.sync.clock import SessionClock

HEIGHT, WIDTH = 12, 17  # odd, and not a multiple of the compression's eight
FRAMES = 60
YAML = """
schema_version: 1
rig: example
session:
  description: Example session
  experimenter: ["Simulation, A."]
  lab: Example laboratory
  institution: Example university
  subject: {subject_id: example-1}
cameras:
  widefield:
    driver: simulated_widefield
    rate_hz: 30
    imaging: {kind: one_photon, indicator: GCaMP6f, excitation_nm: 470, emission_nm: 525,
              location: Isocortex, pixel_size_um: 78.0}
  two_photon:
    driver: simulated_two_photon
    rate_hz: 30
    imaging: {kind: two_photon, indicator: GCaMP6f, excitation_nm: 920, emission_nm: 525,
              location: VISp, pixel_size_um: 5.0}
serial:
  treadmill: {driver: treadmill, port: simulated, columns: [ticks, count], wheel_diameter_mm: 150.0,
              counts_per_revolution: 4096}
  pupil: {driver: pupil, port: simulated, columns: [ticks, diameter, x, y], units: {diameter: mm, x: mm, y: mm}}
  stimulus: {driver: stimulus, port: simulated, columns: [ticks, clip, movie_frame]}
outputs:
  laser: {driver: serial_output, port: simulated}
decoders:
  behavior: {decoder: causal, camera: widefield}
  reconstruction: {decoder: linear, camera: two_photon}
running: {source: treadmill, min_bout_ms: 100, smoothing_ms: 0}
stimulus: {source: stimulus, movie: {clips: 2, frames: 40}}
recording: {min_free_gb: 0.0, flush_s: 0.05%s}
"""


def example_session(
    folder: Path, recording: str = "", dtype: str = "uint16", outputs: bool = True
) -> SessionDescription:
    """Describe the session; `recording` adds to the YAML's recording section, e.g. ", queue_mb: 1"."""
    config = parse_config(YAML % recording, str(folder / "example.yaml"))
    shape = (HEIGHT, WIDTH, dtype, 30.0, 1e6)
    return SessionDescription(
        identifier="example-session",
        config=config,
        clock=SessionClock(0, datetime(2026, 11, 20, 12, 0, tzinfo=UTC)),
        frames=(FrameStream("widefield", *shape, {"model": "simulated"}), FrameStream("two_photon", *shape)),
        samples=(
            SampleStream("treadmill", ("count", "running_speed"), ("count", "mm/s"), 100.0, 1e6),
            SampleStream("pupil", ("diameter", "x", "y"), ("mm", "mm", "mm"), 60.0, 1e6),
            SampleStream("stimulus", ("clip", "movie_frame"), ("", ""), 30.0, 1e6),
        ),
        predictions=(
            PredictionStream(
                "behavior", "widefield", (), "probability", "Probability to run", {"sha256": "0"}
            ),
            PredictionStream("reconstruction", "two_photon", (3, 4), "grey levels", "Movie seen"),
        ),
        outputs=(("laser", {"model": "simulated laser"}),) if outputs else (),
    )


def frame(camera: str, index: int, dtype: str = "uint16") -> Frame:
    """A noise-like frame, known from its camera and index alone."""
    rng = np.random.default_rng((index, len(camera)))
    pixels = rng.poisson(100, (HEIGHT, WIDTH)).astype(dtype)
    at_ns = index * 33_333_333
    return Frame(camera, index, index * 33_333, at_ns + 2_000_000, pixels, at_ns, 40_000)


def samples(stream: str, index: int, values: list[list[float]], step_ns: int = 10_000_000) -> Samples:
    """A batch of samples from sample `index` on."""
    session_ns = (index + np.arange(len(values))) * step_ns
    arrival_ns = int(session_ns[-1]) + 1_000_000
    return Samples(stream, index, arrival_ns, session_ns // 1000, np.array(values), session_ns, 30_000)


def answer(decoder: str, shape: tuple[int, ...], index: int) -> Prediction:
    """A decoder's answer to frame `index`, 5 ms after the frame had arrived."""
    at_ns = index * 33_333_333
    values = np.full(shape, float(10 <= index < 40), np.float32)
    times = (at_ns, at_ns + 2_000_000, at_ns + 3_000_000, at_ns + 4_000_000, at_ns + 6_000_000)
    return Prediction(decoder, index, 0, index, 0, values, *times)


def example_messages(gaps: bool = False) -> list[Message]:
    """Two seconds of everything; with `gaps`, frames 20 to 22 of widefield are lost."""
    messages: list[Message] = [Event("engine", "run_started", "session example", 0, 0)]
    for k in range(FRAMES):
        if gaps and 20 <= k <= 22:
            messages += [Gap("widefield", 20, 22, k * 33_333_333, "buffer overflow", 5)] if k == 22 else []
        else:
            messages.append(frame("widefield", k))
        messages.append(frame("two_photon", k))
        speed = 100.0 if 15 <= k < 45 else 0.1 + 0.2
        messages.append(samples("treadmill", 3 * k, [[3.0 * k + i, speed] for i in range(3)]))
        messages.append(samples("pupil", 2 * k, [[1.1, 0.3, 0.7], [1.2, 0.1, 0.9]]))
        messages.append(samples("stimulus", k, [[1.0, float(k % 5)] if k % 7 else [-1.0, -1.0]]))
        messages += [answer("behavior", (), k), answer("reconstruction", (3, 4), k)]
    messages.append(Output("laser", 0, True, "threshold", 12, 1, 2, 3, "ON"))
    messages.append(Output("laser", 1, False, "stop", -1, 4, 5, -1, ""))
    fit = '{"residual_ns": 35000, "drift_ppm": 12.5}'
    messages.append(Event("widefield", "clock_fit", fit, 1_900_000_000, 1_900_000_000))
    messages.append(Event("treadmill", "junk", "x" * 1500 + "é\0", 7, 7))
    messages.append(EndOfStream("widefield", 2_000_000_000, "stopped"))
    return messages
