"""From simulated sessions to a preview of one's own, live beside the behaviour decoder, and again in a replay."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from decoders.checkpoint import load_checkpoint
from decoders.reconstruction.amortized import KIND
from gui.reconstruction_match import ReconstructionMatch, StimulusTrack
from rig.messages import Prediction, Samples
from rig.recording.reader import SessionReader
from tests.rig_command import (
    ROOT,
    assert_one_clear_line,
    rig,
    rig_json,
    simulated_mouse,
    two_photon_alone,
)

pytestmark = (
    pytest.mark.slow
)  # the same commands and the same run, apart and smaller, are in the tests beside

SMALL = ("epochs=1", "lags=[11]", "components=64", "hidden=64")
SECONDS = 16  # more than one movie: which part of it a short run meets depends on how fast the machine starts
SECOND_NS = 1_000_000_000


@pytest.fixture(scope="module")
def preview(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train on two minutes of the field of neurons that the run images, watching other movies."""
    folder = tmp_path_factory.mktemp("preview")
    content = yaml.safe_load((ROOT / "docs" / "training" / "encoder.yaml").read_text(encoding="utf-8"))
    content["stimulus"]["movie"] = {"seed": 1, "clips": 24, "frames": 120}
    config, sessions, out = folder / "rig.yaml", folder / "sessions", folder / "preview.npz"
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    rig_json("simulate", config, "--out", sessions, "--mice", 1, "--minutes", 2, "--movie-seed", 1)
    settings = [part for setting in SMALL for part in ("--set", setting)]
    data = ("--data", sessions, "--layout", "sessions", "--out", out, "--threads", 1)
    assert rig_json("train", "preview", *data, *settings)["correlation"] > 0.2
    return out


@pytest.fixture(scope="module")
def session(preview: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    file = folder / "session.nwb"
    decoder = {"decoder": "preview", "camera": "two_photon", "checkpoint": str(preview)}
    config = simulated_mouse(folder, decoders__reconstruction=decoder)
    report = rig_json("run", config, "--duration", SECONDS, "--no-gui", "--output", file)
    assert report["finish_reason"] == "completed"
    assert all(stream["lost"] == 0 for stream in report["streams"].values())
    return file


def test_the_run_is_complete_and_replays_to_the_bit(session: Path, preview: Path, tmp_path: Path) -> None:
    verified = rig_json("verify", session)
    assert verified["complete"]
    with SessionReader(session) as reader:
        answers = reader.predictions("reconstruction")
        behaviour = reader.predictions("behavior")
    window = load_checkpoint(preview, KIND).settings["window_frames"]
    known = ~np.isnan(answers.values).any(axis=(1, 2))
    assert not known[: window - 1].any()
    assert known[window:].mean() > 0.95
    assert answers.values[known].std(axis=(1, 2)).min() > 1  # pictures, no grey
    assert np.isfinite(behaviour.values[-10:]).all()
    replayed = rig_json("replay", session, "--speed", "max", "--output", tmp_path / "again.nwb")
    assert set(replayed["compared"]) == {"behavior", "reconstruction"}
    for compared in replayed["compared"].values():
        assert compared["live"] == compared["identical"] > 0
        assert compared["first_difference"] is None


def test_the_window_correlates_it_with_the_screen_of_a_lag_ago(session: Path) -> None:
    """Shown as the window shows it; a lag that is not the decoder's own makes it worse."""
    with SessionReader(session) as reader:
        camera = reader.description.frame_stream("two_photon")
        described = next(s for s in reader.description.predictions if s.name == "reconstruction")
    lag_ns = round(float(described.provenance["lag_frames"]) / camera.rate_hz * SECOND_NS)
    assert lag_ns > 0
    assert correlation(session, lag_ns) > 0.15
    assert correlation(session, lag_ns) > correlation(session, lag_ns + SECOND_NS) + 0.05


def correlation(session: Path, lag_ns: int) -> float:
    with SessionReader(session) as reader:
        movies, config = reader.stimulus_movies(), reader.description.config.stimulus
        stream = next(s for s in reader.description.samples if s.name == "stimulus")
        shown, answers = reader.samples("stimulus"), reader.predictions("reconstruction")
    assert movies is not None
    assert config is not None
    track = StimulusTrack(stream, config, movies)
    match = ReconstructionMatch("grey level", lag_ns, track, SECONDS * SECOND_NS)
    said = [
        (t, Samples("stimulus", 0, t, np.array([0]), row[None], np.array([t])))
        for t, row in zip(shown.session_ns.tolist(), shown.values, strict=True)
    ]
    answered = [
        (t, Prediction("reconstruction", k, 0, k, 0, values, t, t, t, t, t))
        for k, (t, values) in enumerate(zip(answers.frame_session_ns.tolist(), answers.values, strict=True))
    ]
    for _, message in sorted([*said, *answered], key=lambda at: at[0]):
        if isinstance(message, Samples):
            track.take(message)
        else:
            match.take(message)
        match.match()
    assert match.correlation.frames > 60
    return match.correlation.value


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"checkpoint": "nowhere.npz"}, ("nowhere.npz", "no such checkpoint")),
        ({"rois": "nowhere.npy"}, ("nowhere.npy", "no such file")),
    ],
)
def test_a_preview_that_cannot_be_had_is_one_clear_line(
    preview: Path, tmp_path: Path, more: dict[str, str], said: tuple[str, ...]
) -> None:
    decoder = {"decoder": "preview", "camera": "two_photon", "checkpoint": str(preview), **more}
    changes = {**two_photon_alone(), "decoders": {"reconstruction": decoder}}
    config = simulated_mouse(tmp_path, without=("closed_loop",), **changes)
    done = rig("run", config, "--duration", 2, "--no-gui", "--output", tmp_path / "session.nwb")
    assert_one_clear_line(done, *said)
