"""Sessions of several mice from `rig simulate`: whose they are, how much they run, where their landmarks lie."""

from pathlib import Path

import numpy as np
import pytest

from rig.config import PUBLISHED_RUN_FRACTIONS, SimulationConfig, load_config
from rig.recording.reader import SessionReader
from rig.simulation.mouse import Mouse
from rig.simulation.sessions import simulate_session
from rig.simulation.widefield import WidefieldCortex
from tests.rig_command import CONFIGS, ROOT, assert_one_clear_line, rig, rig_json

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
