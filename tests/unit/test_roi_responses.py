"""Activity of regions of interest in a session file: NWB's own series, with the pixels of each region."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pynwb import NWBHDF5IO, validate
from pynwb.ophys import RoiResponseSeries

from rig.acquisition.states import FinishReason
from rig.config import parse_config
from rig.description import SessionDescription
from rig.errors import DataError
from rig.messages import PredictionStream
from rig.recording.reader import SessionReader
from rig.recording.recorder import Recorder
from rig.recording.recover import recover
from rig.recording.verify import verify
from tests.unit.session_example import HEIGHT, WIDTH, YAML, answer, example_session, frame

ROIS = 5


def labels() -> np.ndarray:
    image = np.zeros((HEIGHT, WIDTH), np.int64)
    for k in range(ROIS):
        image[2 * k : 2 * k + 2, k : k + 1 + k] = k + 1
    return image


def session_with_rois(folder: Path, rois: int = ROIS) -> SessionDescription:
    """Describe the example with two decoders of ROIs: spikes and dF/F."""
    path = folder / "rois.npy"
    np.save(path, labels())
    entry = f"{{decoder: traces, camera: two_photon, rois: {path}"
    text = (YAML % "").replace("running:", f"  spikes: {entry}}}\n  dff: {entry}, signal: dff}}\nrunning:", 1)
    streams = [
        PredictionStream(name, "two_photon", (rois,), unit, "", per_roi=True)
        for name, unit in (("spikes", "dF/F per frame"), ("dff", "dF/F"))
    ]
    described = example_session(folder)
    config = parse_config(text, str(folder / "example.yaml"))
    return replace(described, config=config, predictions=(*described.predictions, *streams))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rois")
    path = folder / "session.nwb"
    recorder = Recorder(path, session_with_rois(folder), on_failure=lambda error: None)
    for k in range(10):
        recorder.put(frame("two_photon", k))
        recorder.put(answer("behavior", (), k))
        for name in ("spikes", "dff"):
            recorder.put(replace(answer(name, (ROIS,), k), values=np.arange(ROIS, dtype=np.float32) + k))
    recorder.finish(FinishReason.COMPLETED, [])
    return path


@pytest.fixture(params=["recorded", "recovered"])
def session(request, recorded, tmp_path) -> Path:
    if request.param == "recovered":
        recover(recorded, tmp_path / "recovered.nwb")
        return tmp_path / "recovered.nwb"
    return recorded


def test_they_are_nwb_s_roi_responses_with_the_pixels_of_each(session):
    assert not validate(path=str(session))
    with NWBHDF5IO(session, "r") as io:
        ophys = io.read().processing["ophys"]
        found = {"spikes": ophys["Fluorescence"]["spikes"], "dff": ophys["DfOverF"]["dff"]}
        for name, series in found.items():
            assert isinstance(series, RoiResponseSeries)
            np.testing.assert_array_equal(series.data[3], np.arange(ROIS) + 3.0)
            np.testing.assert_allclose(series.timestamps[:], np.arange(10) / 30, atol=1e-6)
            plane = series.rois.table
            assert (plane.name, len(series.rois.data)) == (f"{name}_rois", ROIS)
            assert plane.imaging_plane.name == "two_photon_plane"
            image = np.zeros((HEIGHT, WIDTH))
            for k in range(ROIS):
                mask = plane["pixel_mask"][k]
                assert np.sum(mask["weight"]) == pytest.approx(1.0)
                image[mask["y"], mask["x"]] = k + 1
            np.testing.assert_array_equal(image, labels())


def test_our_own_reader_and_verdict_know_them(session):
    assert verify(session).complete
    with SessionReader(session) as reader:
        assert reader.predictions("spikes").values.shape == (10, ROIS)
        assert reader.description.predictions[-1].per_roi


def test_a_file_that_has_changed_since_it_was_loaded_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"spikes: 5 ROIs are in its file now, 4 when it was loaded"):
        Recorder(tmp_path / "session.nwb", session_with_rois(tmp_path, 4), on_failure=lambda error: None)
    assert not (tmp_path / "session.nwb").exists()
