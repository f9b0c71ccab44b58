"""`rig run` with `decoder: traces`: the simulated two-photon microscope's neurons, into NWB's own series."""

from pathlib import Path

import numpy as np
import pytest
from pynwb import NWBHDF5IO, validate

from tests.rig_command import assert_one_clear_line, rig, rig_json, simulated_mouse


def config_with_traces(folder: Path, labels: np.ndarray) -> Path:
    np.save(folder / "rois.npy", labels)
    neurons = {
        "decoder": "traces",
        "camera": "two_photon",
        "rois": str(folder / "rois.npy"),
        "signal": "dff",
        "reference_s": 1.0,
    }
    return simulated_mouse(folder, without=("closed_loop",), decoders={"neurons": neurons})


def squares(side_px: int) -> np.ndarray:
    """Label image of 36 squares in a frame of `side_px`."""
    labels = np.zeros((side_px, side_px), np.int64)
    for k in range(36):
        row, column = 10 + 19 * (k // 6), 10 + 19 * (k % 6)
        labels[row : row + 6, column : column + 6] = k + 1
    return labels


@pytest.mark.slow
def test_the_neurons_of_a_session_are_recorded_and_replayed_to_the_bit(tmp_path: Path) -> None:
    config = config_with_traces(tmp_path, squares(128))
    first, second = tmp_path / "session.nwb", tmp_path / "replayed.nwb"
    rig_json("run", config, "--duration", 4, "--no-gui", "--output", first)
    assert rig_json("verify", first)["complete"]
    assert not validate(path=str(first))
    with NWBHDF5IO(first, "r") as io:
        series = io.read().processing["ophys"]["DfOverF"]["neurons"]
        data = series.data[:]
        assert len(series.rois.table) == 36
    known = ~np.isnan(data).any(axis=1)
    assert not known[:29].any()  # the reference is made
    assert known[31:].mean() > 0.9
    replayed = rig_json("replay", first, "--no-gui", "--output", second)
    assert replayed
    with NWBHDF5IO(second, "r") as io:
        again = io.read().processing["ophys"]["DfOverF"]["neurons"].data[:]
    assert again.tobytes() == data.tobytes()


@pytest.mark.slow
def test_rois_of_another_frame_size_are_one_clear_line(tmp_path: Path) -> None:
    config = config_with_traces(tmp_path, squares(256))
    done = rig("run", config, "--duration", 2, "--no-gui", "--output", tmp_path / "session.nwb")
    assert_one_clear_line(done, "rois.npy", "256 x 256", "128 x 128")
