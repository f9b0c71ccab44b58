import numpy as np
import pytest

from decoders.checkpoint import Checkpoint, load_checkpoint
from decoders.resample import FrameResampler
from rig.errors import CheckpointError
from rig.messages import Frame, FrameStream

ARRAYS = {"weights": np.arange(6, dtype=np.float16).reshape(2, 3), "labels": np.eye(4, dtype=np.uint16)}


@pytest.fixture
def checkpoint():
    return Checkpoint(
        "toy", 64, 32, 30.0, ARRAYS, {"lag": 3, "net": {"sizes": [1, 2]}}, {"data": "simulated"}
    )


def camera(height=64, width=32, rate=30.0):
    return FrameStream("widefield", height, width, "uint16", rate, 0.0)


def test_what_was_saved_is_read(checkpoint, tmp_path):
    checkpoint.save(tmp_path / "a.npz")
    read = load_checkpoint(tmp_path / "a.npz", "toy")
    assert (read.height_px, read.width_px, read.rate_hz) == (64, 32, 30.0)
    assert read.settings == checkpoint.settings
    assert read.provenance == checkpoint.provenance
    for name, array in ARRAYS.items():
        assert read.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(read.arrays[name], array)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_the_same_content_is_the_same_bytes(checkpoint, tmp_path):
    checkpoint.save(tmp_path / "a.npz")
    checkpoint.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_an_existing_file_is_not_replaced(checkpoint, tmp_path):
    (tmp_path / "a.npz").write_text("precious")
    with pytest.raises(CheckpointError, match=r"a\.npz: exists already"):
        checkpoint.save(tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_text() == "precious"


def test_a_folder_that_is_not_there(checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match="cannot be written"):
        checkpoint.save(tmp_path / "none" / "a.npz")


def test_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.npz: no such checkpoint; .*rig train"):
        load_checkpoint(tmp_path / "gone.npz", "toy")


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_truncated_file(checkpoint, tmp_path, kept):
    path = tmp_path / "a.npz"
    checkpoint.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(CheckpointError, match=r"a\.npz: cut short, damaged or not"):
        load_checkpoint(path, "toy")


def test_damaged_bytes_are_noticed(tmp_path):
    path = tmp_path / "a.npz"
    noise = np.random.default_rng(0).integers(0, 255, 5000, np.uint8)
    Checkpoint("toy", 64, 32, 30.0, {"noise": noise}).save(path)
    content = bytearray(path.read_bytes())
    content[2500] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.npz: cut short, damaged or not"):
        load_checkpoint(path, "toy")


def test_another_kind(checkpoint, tmp_path):
    checkpoint.save(tmp_path / "a.npz")
    with pytest.raises(CheckpointError, match="holds a 'toy' decoder; valid here is 'reconstruction-linear'"):
        load_checkpoint(tmp_path / "a.npz", "reconstruction-linear")


def test_an_npz_of_somebody_else(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(CheckpointError, match="not a cortexrig-checkpoint"):
        load_checkpoint(tmp_path / "a.npz", "toy")


def test_a_single_array(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(CheckpointError, match="cut short, damaged or not"):
        load_checkpoint(tmp_path / "a.npy", "toy")


def test_pickled_objects_are_not_executed(tmp_path):
    np.savez(tmp_path / "a.npz", metadata=np.array([{"x": 1}], dtype=object))
    with pytest.raises(CheckpointError, match="cut short, damaged or not"):
        load_checkpoint(tmp_path / "a.npz", "toy")


@pytest.mark.parametrize("source", [camera(), camera(128, 64), camera(512, 256, 100.0), camera(rate=29.97)])
def test_cameras_that_fit(checkpoint, tmp_path, source):
    checkpoint.check_fits(tmp_path / "a.npz", source)


@pytest.mark.parametrize("source", [camera(63), camera(width=40), camera(16, 8), camera(32, 32)])
def test_frames_of_the_wrong_size(checkpoint, tmp_path, source):
    with pytest.raises(CheckpointError, match=r"a\.npz: camera 'widefield' has .* valid are 64x32"):
        checkpoint.check_fits(tmp_path / "a.npz", source)


@pytest.mark.parametrize("source", [camera(256, 64), camera(64, 320), camera(128, 32)])
def test_frames_that_would_be_squashed(checkpoint, tmp_path, source):
    with pytest.raises(
        CheckpointError, match="valid are 64x32 and whole multiples, the same in height and width"
    ):
        checkpoint.check_fits(tmp_path / "a.npz", source)
    checkpoint.check_fits(tmp_path / "a.npz", source, any_size=True)


def test_a_camera_that_is_too_slow(checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match=r"runs at 20 Hz; valid is 30 Hz"):
        checkpoint.check_fits(tmp_path / "a.npz", camera(rate=20.0))


def test_a_faster_camera_is_thinned_to_the_trained_rate(checkpoint, tmp_path):
    resample = FrameResampler(checkpoint, tmp_path / "a.npz", camera(rate=100.0))
    frames = [Frame("widefield", k, -1, 0, np.full((64, 32), k, np.uint16)) for k in range(100)]
    taken = [k for k, frame in enumerate(frames) if resample(frame) is not None]
    assert len(taken) == 30
    assert set(np.diff(taken)) == {3, 4}


def test_lost_frames_are_counted_in_trained_periods(checkpoint, tmp_path):
    resample = FrameResampler(checkpoint, tmp_path / "a.npz", camera())
    missed = []
    for index in (5, 6, 9, 10):
        assert resample(Frame("widefield", index, -1, 0, np.zeros((64, 32), np.uint16))) is not None
        missed.append(resample.missed)
    assert missed == [0, 0, 2, 0]
