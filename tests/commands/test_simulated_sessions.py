"""Sessions of several mice from `rig simulate`: whose they are, how much they run, where their landmarks lie."""

from pathlib import Path

import numpy as np
import pytest

from rig.config import PUBLISHED_RUN_FRACTIONS, RigConfig, SimulationConfig, load_config
from rig.drivers.protocols import DriverContext
from rig.errors import ConfigError, RecordingError
from rig.messages import Frame
from rig.recording.message_writer import MessageWriter
from rig.recording.reader import SessionReader
from rig.recording.verify import verify
from rig.simulation.cameras import SimulatedTwoPhoton
from rig.simulation.mouse import Mouse
from rig.simulation.sessions import _World, simulate_session
from rig.simulation.widefield import WidefieldCortex
from rig.sync.clock import SessionClock
from tests.rig_command import CONFIGS, ROOT, assert_one_clear_line, rig, rig_json
from tests.unit.movie_session import small_rig

TRAINING = ROOT / "docs" / "training" / "behavior.yaml"


def test_files_tell_mice_apart_and_sessions_share_the_mouse(tmp_path: Path) -> None:
    made = rig_json(
        "simulate",
        TRAINING,
        "--out",
        tmp_path,
        "--mice",
        2,
        "--sessions",
        2,
        "--minutes",
        0.05,
        "--seed",
        100,
    )
    subjects, identifiers, landmarks = [], set(), []
    for file in made["sessions"]:
        with SessionReader(Path(file)) as reader:
            config = reader.description.config
            identifiers.add(reader.description.identifier)
        subjects.append(config.session.subject.subject_id)
        landmarks.append(config.cameras["widefield"].imaging.landmarks_px)
    assert subjects == ["simulated-100", "simulated-100", "simulated-101", "simulated-101"]
    assert len(identifiers) == 4
    assert landmarks[0] == landmarks[1] != landmarks[2]
    assert landmarks[2] == WidefieldCortex(Mouse(101), 101).landmarks_px()


@pytest.mark.parametrize("seed", [100, 104])
def test_a_session_runs_as_much_as_its_published_mouse(tmp_path: Path, seed: int) -> None:
    rig = load_config(TRAINING).model_copy(update={"simulation": SimulationConfig(seed=seed)})
    small = rig.cameras["widefield"].model_copy(update={"height_px": 8, "width_px": 8})
    path = tmp_path / "mouse.nwb"
    simulate_session(path, rig.model_copy(update={"cameras": {"widefield": small}}), 60.0, lambda count: None)
    with SessionReader(path) as reader:
        speed = reader.samples("treadmill").values[:, 1]
    assert np.mean(speed > 10.0) == pytest.approx(PUBLISHED_RUN_FRACTIONS[seed % 5], abs=0.06)


def test_a_rig_without_a_simulated_brain_is_refused(tmp_path: Path) -> None:
    done = rig("simulate", CONFIGS / "micromanager_demo.yaml", "--out", tmp_path / "out")
    assert_one_clear_line(done, "show no simulated brain; valid names are widefield, and two_photon")
    assert not list((tmp_path / "out").glob("*"))


class Breaking:
    """Progress that ends the simulation once so many frames are written."""

    def __init__(self, frames: int, error: BaseException) -> None:
        self._left, self._error = frames, error

    def __call__(self, count: int) -> None:
        self._left -= count
        if self._left <= 0:
            raise self._error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyboardInterrupt(), "the simulation was interrupted"),
        (ValueError("no such thing"), "ValueError: no such thing"),
    ],
)
def test_a_session_that_ended_early_is_not_complete(tmp_path: Path, error: BaseException, said: str) -> None:
    path = tmp_path / "short.nwb"
    with pytest.raises(type(error)):
        simulate_session(path, small_rig(), 3.0, Breaking(46, error))
    report = verify(path)
    assert report.streams["two_photon"].recorded == 46
    assert (report.finish_reason, report.errors) == ("failed", (said,))
    assert not report.complete


def test_a_disk_that_fails_at_the_very_end_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MessageWriter, "end", fail)
    path = tmp_path / "full.nwb"
    with pytest.raises(RecordingError, match="cannot be written"):
        simulate_session(path, small_rig(), 0.5, lambda count: None)
    assert not verify(path).complete


def at_rate(rig: RigConfig, rate_hz: float) -> RigConfig:
    """The same rig with another rate of its microscope."""
    camera = rig.cameras["two_photon"].model_copy(update={"rate_hz": rate_hz})
    return rig.model_copy(update={"cameras": {**rig.cameras, "two_photon": camera}})


def test_a_camera_may_be_faster_than_every_serial_stream(tmp_path: Path) -> None:
    path = tmp_path / "fast.nwb"
    simulate_session(path, at_rate(small_rig(), 250.0), 1.0, lambda count: None)
    report = verify(path)
    assert report.complete, report.reasons
    recorded = {name: stream.recorded for name, stream in report.streams.items()}
    assert recorded == {"two_photon": 250, "stimulus": 250, "treadmill": 100, "pupil": 60}


def test_cameras_of_different_rates_are_refused_before_there_is_a_file(tmp_path: Path) -> None:
    cameras = {"widefield": load_config(TRAINING).cameras["widefield"], **small_rig().cameras}
    rig = at_rate(small_rig().model_copy(update={"cameras": cameras}), 15.0)
    with pytest.raises(ConfigError) as caught:
        simulate_session(tmp_path / "two.nwb", rig, 2.0, lambda count: None)
    assert str(caught.value) == (
        f"rig {rig.rig}: cameras widefield at 30 Hz and two_photon at 15 Hz differ; valid is one rate_hz for both"
    )
    assert not list(tmp_path.iterdir())


def in_session(session: int) -> RigConfig:
    """The small rig in one of its mouse's sessions."""
    rig = small_rig()
    return rig.model_copy(update={"simulation": rig.simulation.model_copy(update={"session": session})})


def assert_noise_differs(frames: list[list[Frame]]) -> None:
    """What changes from the first frame to the second is noise, nearly all of it."""
    first, second = (np.subtract(*(f.pixels.astype(float).ravel() for f in pair)) for pair in frames)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.2


def test_sessions_of_a_two_photon_mouse_differ_in_noise() -> None:
    written = []
    for session in (0, 1):
        messages = _World(in_session(session), 0.1).messages(0.1)
        written.append([message for message in messages if isinstance(message, Frame)][:2])
    assert_noise_differs(written)


def test_the_live_microscope_sees_the_session_it_is_told() -> None:
    seen = []
    for session in (0, 1):
        rig = in_session(session)
        context = DriverContext(SessionClock.start(), rig, lambda device, port: port)
        camera = SimulatedTwoPhoton("two_photon", rig.cameras["two_photon"], context)
        camera.open()
        seen.append([Frame("two_photon", k, -1, 0, camera._world.frame(k), 0, 0) for k in (0, 1)])
        camera.close()
    assert_noise_differs(seen)
