"""`rig train`, from real session files to checkpoints that a live decoder loads."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from decoders.behavior.live import CausalBehavior
from decoders.commands.train import train
from decoders.reconstruction.live import LinearReconstruction
from rig.config import load_config
from rig.errors import CheckpointError, ConfigError, DataError, SessionFileError
from rig.messages import Frame, FrameStream
from rig.simulation.sessions import simulate_session
from tests.rig_command import invoke

pytestmark = pytest.mark.usefixtures("restore_torch")
TRAINING = Path(__file__).parents[2] / "docs" / "training"


def with_seed(config, seed):
    return config.model_copy(update={"simulation": config.simulation.model_copy(update={"seed": seed})})


@pytest.fixture(scope="module")
def running_sessions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("running")
    config = load_config(TRAINING / "behavior.yaml")
    for seed in (1, 2):
        simulate_session(folder / f"mouse{seed}.nwb", with_seed(config, seed), 32.0, lambda count: None)
    return folder


@pytest.fixture(scope="module")
def movie_session(tmp_path_factory):
    config = load_config(TRAINING / "reconstruction.yaml")
    movie = config.stimulus.movie.model_copy(update={"clips": 4, "frames": 80})
    config = config.model_copy(update={"stimulus": config.stimulus.model_copy(update={"movie": movie})})
    path = tmp_path_factory.mktemp("movies") / "field.nwb"
    simulate_session(path, config, 13.0, lambda count: None)
    return path


def command(*arguments):
    return invoke(train, *arguments)


def test_behavior_from_sessions_to_a_live_decoder(running_sessions, tmp_path):
    out = tmp_path / "new.npz"
    done = command("behavior", "--data", running_sessions, "--out", out, "--epochs", 1, "--seed", 3, "--json")
    assert not [line for line in done.stderr.splitlines() if not line.strip()], "no empty lines in a log"
    report = json.loads(done.stdout)
    assert report["checkpoint"] == str(out)
    assert list(report["held_out"]) == ["mouse2"]
    assert set(report["held_out"]["mouse2"]) == {"auc", "accuracy"}
    assert all(0.0 <= figure <= 1.0 for figure in report["held_out"]["mouse2"].values())
    assert report["provenance"]["trained_on"] == "mouse1"
    assert json.loads(report["provenance"]["held_out"]) == report["held_out"]
    assert report["provenance"]["command"] == "rig train behavior --seed 3 --epochs 1"
    assert report["provenance"]["data"] == "simulated"
    config = CausalBehavior.Config(decoder="causal", camera="widefield", checkpoint=str(out), warm_up_s=0.0)
    decoder = CausalBehavior("behavior", config)
    landmarks_px = {"bregma": (64.0, 46.0), "lambda": (64.0, 94.0)}
    decoder.load(FrameStream("widefield", 128, 128, "uint16", 30.0, 0.0, landmarks_px=landmarks_px))
    assert 0.0 <= decoder.step(Frame("widefield", 0, -1, 0, np.ones((128, 128), np.uint16))) <= 1.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.npz"]


def test_reconstruction_from_a_session_to_a_live_decoder(movie_session, tmp_path):
    out = tmp_path / "new.npz"
    report = json.loads(command("reconstruction", "--data", movie_session, "--out", out, "--json").stdout)
    assert (report["training_clips"], report["held_out_clips"]) == (3, 1)
    assert -1.0 <= report["video_correlation"] <= 1.0
    config = LinearReconstruction.Config(decoder="linear", camera="two_photon", checkpoint=str(out))
    described = LinearReconstruction("reconstruction", config).load(
        FrameStream("two_photon", 128, 128, "uint16", 30.0, 0.0)
    )
    assert described.shape == (36, 64)
    assert described.provenance["lag_frames"] == str(report["lag_frames"])


def test_sessions_of_two_brains_make_no_reconstruction_together(movie_session, tmp_path):
    shutil.copy(movie_session, tmp_path / "a.nwb")
    config = with_seed(load_config(TRAINING / "reconstruction.yaml"), 99)
    simulate_session(tmp_path / "b.nwb", config, 2.0, lambda count: None)
    with pytest.raises(
        DataError, match=r"b\.nwb: animal 'simulated-99'.*the first session has animal 'simulated-7'"
    ):
        command("reconstruction", "--data", tmp_path, "--out", tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()


def test_an_existing_checkpoint_is_not_replaced(tmp_path):
    (tmp_path / "a.npz").write_text("precious")
    with pytest.raises(CheckpointError, match=r"a\.npz: exists already"):
        command("behavior", "--data", tmp_path, "--out", tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_text() == "precious"


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="there is no folder"):
        command("reconstruction", "--data", tmp_path, "--out", tmp_path / "none" / "a.npz")


def test_settings_are_refused_before_any_data_are_read(tmp_path):
    with pytest.raises(ConfigError, match="setting hidde=3: no such name; did you mean hidden"):
        command("behavior", "--data", tmp_path, "--out", tmp_path / "a.npz", "--set", "hidde=3")


def test_no_sessions(tmp_path):
    with pytest.raises(DataError, match=r"no session file \(\*\.nwb\)"):
        command("behavior", "--data", tmp_path, "--out", tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"gone\.nwb: no such file or folder"):
        command("behavior", "--data", tmp_path / "gone.nwb", "--out", tmp_path / "a.npz")


def test_a_file_that_is_no_session(tmp_path):
    (tmp_path / "x.nwb").write_text("nothing")
    with pytest.raises(SessionFileError, match=r"x\.nwb"):
        command("reconstruction", "--data", tmp_path, "--out", tmp_path / "a.npz")


def test_sessions_of_the_wrong_kind(running_sessions, movie_session, tmp_path):
    with pytest.raises(DataError, match=r"no camera with imaging kind one_photon; it has two_photon"):
        command("behavior", "--data", movie_session, "--out", tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"no camera with imaging kind two_photon; it has widefield"):
        command("reconstruction", "--data", running_sessions, "--out", tmp_path / "a.npz")


def test_one_mouse_leaves_none_to_score(running_sessions, tmp_path):
    with pytest.raises(DataError, match="1 mouse only; valid is 2 or more"):
        command("behavior", "--data", running_sessions / "mouse1.nwb", "--out", tmp_path / "a.npz")
