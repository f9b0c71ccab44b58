"""`rig train preview` from a folder of movies to a file that `decoder: preview` reads."""

from pathlib import Path

import numpy as np
import pytest

from decoders.checkpoint import read_checkpoint
from decoders.commands.train import train
from decoders.datasets.movies import open_movies
from decoders.reconstruction.amortized import KIND, preview_movie
from rig.errors import CortexrigError
from tests.rig_command import assert_one_clear_line, invoke, rig, rig_json
from tests.unit.movie_phantom import write_phantom

NEURONS, FRAMES = 4, 90
ENCODER = ("stride_px=6", "features=4", "hidden=2", "frames=40")
PREVIEW = ("generated=2", "epochs=1", "lags=[3,6]", "components=12", "sums=4", "hidden=8")


def given(settings: tuple[str, ...]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


@pytest.fixture(scope="module")
def mouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom(tmp_path_factory.mktemp("movies") / "mouse", NEURONS, clips=5, frames=FRAMES)


@pytest.fixture(scope="module")
def encoder(mouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("encoder") / "encoder.npz"
    data = ("--data", mouse, "--layout", "sensorium")
    rig_json("train", "encoder", *data, "--out", out, "--minutes", 0.05, "--threads", 1, *given(ENCODER))
    return out


def arguments(mouse: Path, out: Path, *more: object) -> tuple[object, ...]:
    """What `rig train` is given."""
    data = ("--data", mouse, "--layout", "sensorium", "--out", out, "--threads", 1)
    return ("preview", *data, *given(PREVIEW), *more)


def refused(*asked: object) -> str:
    """What is said of bad input, in this process."""
    with pytest.raises(CortexrigError) as caught:
        invoke(train, *asked)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_preview_of_recorded_and_made_pairs(mouse: Path, encoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "preview.npz"
    report = rig_json("train", *arguments(mouse, out, "--encoder", encoder, "--seed", 3))
    assert report["mouse"] == "mouse"
    assert report["training_clips"] + report["held_out_clips"] == 5
    assert report["generated_clips"] == 2
    assert report["lag_frames"] in (3, 6)
    assert -1 <= report["regression"] <= report["correlation"] <= 1
    assert report["provenance"]["command"] == (
        "rig train preview --seed 3 --set generated=2 --set epochs=1 --set lags=[3,6] --set components=12"
        " --set sums=4 --set hidden=8"
    )
    checkpoint = read_checkpoint(out)
    assert checkpoint.kind == KIND
    assert checkpoint.settings["lag_frames"] == report["lag_frames"]
    assert [path.name for path in tmp_path.iterdir()] == ["preview.npz"]
    responses = open_movies(mouse, "sensorium")[0].trials[0].load().responses
    assert np.isfinite(preview_movie(out, responses)).all()
    assert_one_clear_line(rig("train", *arguments(mouse, out)), "preview.npz", "exists already")


def test_recorded_pairs_are_enough(mouse: Path, tmp_path: Path) -> None:
    report = rig_json("train", *arguments(mouse, tmp_path / "preview.npz"))
    assert report["generated_clips"] == 0


def test_an_encoder_of_other_neurons_is_one_clear_line(encoder: Path, tmp_path: Path) -> None:
    other = write_phantom(tmp_path / "other", NEURONS + 2, clips=3, frames=FRAMES)
    text = refused(*arguments(other, tmp_path / "preview.npz", "--encoder", encoder))
    assert "encoder.npz" in text
    assert "does not know mouse 'other' with 6 neurons" in text
    assert "mouse (4)" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--set", "depth=3"), ("setting depth=3", "no such name", "valid: generated")),
        (("--set", "epochs=many"), ("setting epochs=many", "a whole number of 1 or more")),
        (("--set", "lags=8"), ("setting lags=8", "a list")),
        (("--set", "batch=0"), ("setting batch=0", "a whole number of 1 or more")),
        (("--mouse", "rat"), ("--mouse rat", "mouse (4 neurons)")),
        (("--encoder", "nowhere.npz"), ("nowhere.npz", "no such encoder")),
    ],
)
def test_bad_input_is_one_clear_line(
    mouse: Path, tmp_path: Path, more: tuple[str, ...], said: tuple[str, ...]
) -> None:
    text = refused(*arguments(mouse, tmp_path / "preview.npz", *more))
    assert all(words in text for words in said), text
    assert not (tmp_path / "preview.npz").exists()


def test_data_that_are_not_there_and_trials_too_short_are_one_clear_line(tmp_path: Path) -> None:
    out = tmp_path / "preview.npz"
    assert_one_clear_line(rig("train", *arguments(tmp_path / "nowhere", out)), "nowhere")
    short = write_phantom(tmp_path / "short", NEURONS, clips=3, frames=40)
    assert "short: trials of 40 frames; valid for a preview is" in refused(*arguments(short, out))
