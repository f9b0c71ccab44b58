"""`rig train encoder` and `rig train mask` from a folder of movies to files that the reconstruction reads."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from decoders.checkpoint import read_checkpoint
from decoders.reconstruction import load_encoder
from decoders.reconstruction.dwiseneuro import DwiseNeuro, DwiseNeuroConfig
from decoders.reconstruction.dwiseneuro_encoder import DwiseNeuroEncoder
from decoders.reconstruction.published_training import save_published
from tests.rig_command import assert_one_clear_line, rig, rig_json, start_rig
from tests.unit.movie_phantom import write_phantom

SMALL = ("stride_px=6", "features=4", "hidden=2", "frames=40")
TINY = (
    "core_features=[4]",
    "spatial_strides=[8]",
    "expansion_ratio=1",
    "se_reduce_ratio=4",
    "cortex_features=[8]",
)


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


@pytest.fixture(scope="module")
def mice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mice")
    for seed, name in enumerate("ab"):
        write_phantom(folder / name, neurons=3 + seed, clips=3, frames=60, seed=seed)
    return folder


def published(mice: Path, out: Path, *settings: str) -> list[object]:
    """Arguments of a small training by two processes."""
    given = [
        part for setting in (*TINY, "epochs=1", "warm_up_epochs=0", *settings) for part in ("--set", setting)
    ]
    data = ["--data", mice, "--layout", "sensorium", "--out", out]
    return ["train", "encoder", *data, "--preset", "published", "--threads", 1, "--processes", 2, *given]


def test_two_processes_train_a_pupil_of_a_teacher(mice: Path, tmp_path: Path) -> None:
    teacher, out = tmp_path / "teacher.pth", tmp_path / "pupil.pth"
    sizes = {"core_features": (4,), "spatial_strides": (8,), "se_reduce_ratio": 4, "cortex_features": (8,)}
    network = DwiseNeuro(DwiseNeuroConfig((3, 4), **sizes))
    save_published(DwiseNeuroEncoder(network, mice=("a", "b")), teacher, {})
    small = ("samples=5", "batch=4")  # the second process has nothing to do in the last batch
    report = rig_json(*published(mice, out, *small), "--teacher", teacher)
    assert list(report["per_mouse"]) == ["a", "b"]
    assert f"--processes 2 --teacher {teacher} " in report["provenance"]["command"]
    assert load_encoder(out).neurons == (3, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pupil.pth", "teacher.pth"]


def test_what_goes_wrong_in_a_process_is_one_clear_line(mice: Path, tmp_path: Path) -> None:
    done = rig(*published(mice, tmp_path / "x.pth"), "--teacher", tmp_path / "none.pth")
    assert_one_clear_line(done, "none.pth", "no such encoder")


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """A shell that put the tests in the background lets them, and what they start, ignore interruptions."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interruption_ends_every_process(mice: Path, tmp_path: Path) -> None:
    with start_rig(*published(mice, tmp_path / "x.pth", "samples=100000")) as running:
        while not list(tmp_path.glob("x.pth.cache/*.json")):
            assert running.poll() is None
            time.sleep(0.1)
        processes = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert running.returncode > 0
    assert "Traceback" not in said
    assert len(processes) >= 2
    assert not psutil.wait_procs(processes, timeout=10)[1]
