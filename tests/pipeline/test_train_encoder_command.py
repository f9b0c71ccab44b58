"""`rig train encoder` and `rig train mask` from a folder of movies to files that the reconstruction reads."""

from pathlib import Path

import numpy as np
import pytest

from decoders.checkpoint import read_checkpoint
from tests.pipeline.rig_command import assert_one_clear_line, rig, rig_json
from tests.unit.movie_phantom import write_phantom

SMALL = ("stride_px=6", "features=4", "hidden=2", "frames=40")


@pytest.fixture(scope="module")
def mouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom(tmp_path_factory.mktemp("movies") / "mouse", clips=4, frames=100)


def test_an_encoder_and_its_mask(mouse: Path, tmp_path: Path) -> None:
    data = ("--data", mouse, "--layout", "sensorium")
    out, mask = tmp_path / "encoder.npz", tmp_path / "mask.npy"
    settings = [part for setting in SMALL for part in ("--set", setting)]
    report = rig_json("train", "encoder", *data, "--out", out, "--minutes", 0.1, "--threads", 1, *settings)
    assert report["held_out_clips"] + report["training_clips"] == 4
    assert list(report["per_mouse"]) == ["mouse"]
    assert read_checkpoint(out).kind == "encoder-light"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder.npz"]

    told = rig_json("train", "mask", *data, "--encoder", out, "--mouse", "mouse", "--out", mask, "--steps", 3)
    assert np.load(mask).shape == (36, 64)
    assert 0 <= told["share_of_pixels"]["scored"] <= told["share_of_pixels"]["reconstructed"] <= 1


def test_an_existing_encoder_is_never_replaced(mouse: Path, tmp_path: Path) -> None:
    out = tmp_path / "encoder.npz"
    out.write_bytes(b"mine")
    done = rig("train", "encoder", "--data", mouse, "--layout", "sensorium", "--out", out)
    assert_one_clear_line(done, "encoder.npz", "exists already")
    assert out.read_bytes() == b"mine"


def test_a_mask_of_an_unknown_mouse_is_one_clear_line(mouse: Path, tmp_path: Path) -> None:
    data = ("--data", mouse, "--layout", "sensorium")
    done = rig(
        "train", "mask", *data, "--encoder", tmp_path / "x", "--mouse", "rat", "--out", tmp_path / "m.npy"
    )
    assert_one_clear_line(done, "no mouse 'rat'", "mouse")
