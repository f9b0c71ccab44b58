from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from decoders.behavior.rois import grid_masks, roi_names, roi_traces
from decoders.datasets.behavior import BehaviorRecording


@pytest.fixture
def recording():
    frames = np.random.default_rng(0).integers(0, 4000, (600, 40, 46), dtype=np.uint16)
    running = np.arange(600) % 100 < 50
    return BehaviorRecording("m1", "s1", Path("s1.nwb"), 30.0, frames, running, running * 50.0)


def test_grid_is_25_squares_a_side_and_their_mirror_images():
    masks = grid_masks(128, 128)
    assert len(masks) == 50
    assert (sum(mask.astype(int) for mask in masks.values()) == 1).all()  # every pixel in one ROI
    left, right = list(masks.values())[:25], list(masks.values())[25:]
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b[:, ::-1])


def test_traces_are_the_means_over_the_pixels(recording, tmp_path):
    traces = roi_traces(recording, tmp_path)
    assert traces.shape == (600, 50)
    assert traces.dtype == np.float32
    masks = grid_masks(40, 46)
    for column in (0, 7, 49):
        expected = recording.frames[:, list(masks.values())[column]].mean(axis=1)
        np.testing.assert_allclose(traces[:, column], expected, rtol=1e-5)
    assert roi_names(recording) == tuple(masks)


def test_traces_of_the_data_set_come_first(recording, tmp_path):
    own = np.random.default_rng(1).random((600, 3), np.float32)
    given = replace(recording, roi_traces=own)
    assert roi_traces(given, tmp_path) is own
    assert roi_names(given) == ("1", "2", "3")


def test_cache_answers_for_the_same_pixels_alone(recording, tmp_path):
    first = roi_traces(recording, tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 1
    np.testing.assert_array_equal(roi_traces(recording, tmp_path), first)
    assert len(list(tmp_path.glob("*.npz"))) == 1
    brighter = replace(recording, frames=recording.frames + np.uint16(1))
    np.testing.assert_allclose(roi_traces(brighter, tmp_path), first + 1, rtol=1e-5)
