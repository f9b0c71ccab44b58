"""The decoder process of a preview that refines: pictures for who looks, and the same answers to the bit."""

import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch

from decoders.reconstruction.amortized_network import PreviewConfig, PreviewNetwork
from decoders.reconstruction.amortized_training import ResponseSource, make_checkpoint
from decoders.reconstruction.light_encoder import LightConfig, LightEncoder, LightNetwork
from decoders.reconstruction.movie_prior import MoviePrior
from rig.bus import Bus
from rig.config import parse_config
from rig.description import SessionDescription
from rig.messages import EndOfStream, Event, Frame, FrameStream, Prediction
from rig.sync.clock import SessionClock

NEURONS, SIDE_PX, LAG = 60, 32, 3
RATE_HZ, COUNT, MOST = 30.0, 90, 1800  # frames sent, and as many as are sent until a picture comes
WAIT_S = 60.0  # for a loaded machine
RIG = """
schema_version: 1
rig: preview_test
session: {{description: test of the preview, subject: {{subject_id: nobody}}}}
cameras:
  two_photon:
    driver: simulated_two_photon
    rate_hz: 30
    imaging: {{kind: two_photon, indicator: GCaMP6s, excitation_nm: 920, emission_nm: 525, location: VISp,
              pixel_size_um: 3.0}}
decoders:
  movie: {{decoder: preview, camera: two_photon, checkpoint: {preview}, refine: {encoder}, queue_frames: 256}}
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A preview and an encoder of the same neurons, with weights by chance: what they say is not looked at."""
    folder = tmp_path_factory.mktemp("preview")
    torch.manual_seed(0)
    network = PreviewNetwork(PreviewConfig(NEURONS, LAG, bins=2, sums=20, components=16, hidden=8))
    network.components.normal_()
    network.mean_frame.fill_(110.0)
    labels = np.zeros((SIDE_PX, SIDE_PX), np.int64)
    for k in range(NEURONS):
        labels[3 * (k // 10) : 3 * (k // 10) + 2, 3 * (k % 10) : 3 * (k % 10) + 2] = k + 1
    source = ResponseSource({"tau_s": 1.0}, labels)
    errors = MoviePrior.natural()  # as large as movies vary
    beside = {
        "error_power": errors.power,
        "error_lag1": errors.lag1,
        "usual_responses": np.ones(NEURONS, np.float32),
    }
    make_checkpoint(network, beside, source, {"mouse": "mine"}).save(folder / "preview.npz")
    light = LightNetwork(LightConfig(neurons=(NEURONS,), stride_px=6, features=4, hidden=2))
    with torch.no_grad():
        light.readout(0).weight.normal_()
    LightEncoder(light.eval(), ("mine",)).checkpoint({}).save(folder / "encoder.npz")
    return folder / "preview.npz", folder / "encoder.npz"


def decode(folder: Path, preview: Path, encoder: str, wanted: int) -> tuple[np.ndarray, list[Prediction]]:
    """Send frames at the camera's pace to a fresh process, until `wanted` refined answers came; all its answers."""
    identifier = f"test-{uuid.uuid4().hex[:8]}"
    config = parse_config(RIG.format(preview=preview, encoder=encoder), "test")
    clock, frames = SessionClock.start(), FrameStream("two_photon", SIDE_PX, SIDE_PX, "uint16", RATE_HZ, 0.0)
    session = SessionDescription(identifier, config, clock, frames=(frames,))
    path = folder / f"{identifier}.json"
    path.write_text(session.as_json(), encoding="utf-8")
    pixels = np.random.default_rng(0).poisson(200, (COUNT, SIDE_PX, SIDE_PX)).astype(np.uint16)
    said, pictures = [], []
    with Bus(identifier) as bus:
        camera = bus.publisher("two_photon", pixels[0].nbytes)
        ready, answers = bus.subscriber("movie.ready", 8), bus.subscriber("movie", 256)
        refined = bus.subscriber("movie.refined", 256)
        process = subprocess.Popen([sys.executable, "-m", "decoders.worker", str(path), "movie", "0"])
        try:
            event = ready.receive(WAIT_S)
            assert isinstance(event, Event)
            assert event.kind == "ready"
            answers.receive()
            for k in range(MOST):
                now_ns = clock.now_ns()
                camera.send(Frame("two_photon", k, -1, now_ns, pixels[k % COUNT], now_ns))
                time.sleep(1 / RATE_HZ)
                pictures += list(iter(refined.receive, None))
                said += list(iter(answers.receive, None))
                if k >= COUNT and len(pictures) >= wanted:
                    break
            camera.send(EndOfStream("two_photon", 0, "the end"))
            while not isinstance(message := answers.receive(WAIT_S), EndOfStream):
                said.append(message)
        finally:
            process.kill()
            process.wait()
            for port in (camera, ready, answers, refined):
                port.close()
    return np.stack([answer.values for answer in said if answer.answers_frame]), pictures


def test_refined_pictures_come_and_the_answers_stay_the_same_bits(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    preview, encoder = files
    plain, none = decode(tmp_path, preview, "null", 0)
    watched, pictures = decode(tmp_path, preview, str(encoder), 3)
    assert none == []
    assert len(watched) >= len(plain) >= COUNT
    assert plain.tobytes() == watched[: len(plain)].tobytes()
    assert len(pictures) >= 3
    assert all(picture.values.shape == (36, 64) for picture in pictures)
    assert all(np.isfinite(picture.values).all() for picture in pictures)
    assert min(picture.source_index for picture in pictures) >= 60  # not before the window is full
    assert [p.frame_session_ns for p in pictures] == sorted(p.frame_session_ns for p in pictures)
