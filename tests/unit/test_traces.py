import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from decoders.traces.responses import BaselineConfig, RunningResponses
from decoders.traces.rois import RoiTraces, neuropil_rings, read_label_image
from rig.errors import DataError

LABELS = np.array([[1, 1, 0, 0], [1, 2, 2, 0], [0, 0, 3, 3]])
CONFIG = BaselineConfig(fall_s=0.5, rise_s=5.0, rate_hz=10.0)
traces = arrays(np.float32, st.tuples(st.integers(1, 30), st.just(3)), elements=st.floats(0, 1e4, width=32))


@given(arrays(np.uint16, LABELS.shape))
def test_a_trace_is_the_mean_of_its_pixels(frame):
    expected = [frame[k == LABELS].mean() for k in (1, 2, 3)]
    np.testing.assert_allclose(RoiTraces(LABELS)(frame), expected, rtol=1e-6)


def test_neuropil_is_subtracted():
    labels = np.zeros((9, 9), np.int64)
    labels[4, 4] = 1
    frame = np.full((9, 9), 10.0)
    frame[4, 4] = 110.0
    assert RoiTraces(labels, neuropil_px=2)(frame)[0] == pytest.approx(110.0 - 0.7 * 10.0)


def test_neuropil_rings_stay_out_of_cells_and_near_them():
    labels = np.zeros((20, 20), np.int64)
    labels[5, 5], labels[5, 9] = 1, 2
    rings = neuropil_rings(labels, 3)
    assert not rings[labels > 0].any()
    assert (rings[5, 6], rings[5, 8], rings[15, 15]) == (1, 2, 0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((4, 4), int), "labels 0 to 0"),
        (np.array([[0, 1, 3]]), "none left out"),
        (np.array([[0, -1, 1]]), "labels -1 to 1"),
        (np.ones((2, 2)), "integers"),
        (np.ones((2, 2, 2), int), r"\(H, W\)"),
    ],
)
def test_label_images_that_are_none(labels, message, tmp_path):
    np.save(tmp_path / "rois.npy", labels)
    with pytest.raises(DataError, match=message):
        RoiTraces(labels)
    with pytest.raises(DataError, match=rf"rois\.npy: .*{message}"):
        read_label_image(tmp_path / "rois.npy")


def test_a_label_image_from_a_file(tmp_path):
    np.save(tmp_path / "rois.npy", LABELS)
    np.testing.assert_array_equal(read_label_image(tmp_path / "rois.npy"), LABELS)


@pytest.mark.parametrize("content", [b"", b"not numpy"])
def test_a_file_that_is_no_array(content, tmp_path):
    (tmp_path / "rois.npy").write_bytes(content)
    with pytest.raises(DataError, match="not a label image"):
        read_label_image(tmp_path / "rois.npy")


@given(traces, st.data())
def test_no_future_frame_takes_part(traces, data):
    cut = data.draw(st.integers(0, len(traces)))
    changed = traces.copy()
    changed[cut:] += 100.0
    before, after = (RunningResponses(CONFIG).recording(t) for t in (traces, changed))
    assert before[:cut].tobytes() == after[:cut].tobytes()


@given(traces, st.integers(1, 29))
def test_one_by_one_or_in_parts_gives_the_same_bits(traces, cut):
    responses = RunningResponses(CONFIG)
    parts = [responses.recording(part) for part in (traces[:cut], traces[cut:]) if len(part)]
    assert np.concatenate(parts).tobytes() == RunningResponses(CONFIG).recording(traces).tobytes()


def test_a_transient_is_seen_and_hardly_lifts_the_baseline():
    trace = np.full((100, 1), 200.0, np.float32)
    trace[50:55] = 300.0
    responses = RunningResponses(CONFIG).recording(trace)[:, 0]
    assert not responses[:50].any()
    assert 0.4 < responses[50] <= 0.5
    assert -0.1 < responses[55] < 0.0
    assert responses[-1] == pytest.approx(0.0, abs=0.01)
