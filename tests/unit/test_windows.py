import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from decoders.windows import RecentFeatures, causal_windows

movies = st.tuples(st.integers(1, 40), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.floats(-1e6, 1e6, width=32))
)


@given(movies, st.integers(1, 15))
def test_a_window_holds_the_last_vectors_oldest_first(features, length):
    windows = causal_windows(features, length)
    for t, window in enumerate(windows):
        known = features[max(0, t + 1 - length) : t + 1]
        np.testing.assert_array_equal(window[length - len(known) :], known)
        assert np.isnan(window[: length - len(known)]).all()


@given(movies, st.integers(1, 15))
def test_live_windows_are_the_offline_ones(features, length):
    recent = RecentFeatures(length, features.shape[1])
    live = np.stack([recent.push(row).copy() for row in features])
    assert live.tobytes() == causal_windows(features, length).tobytes()
    assert recent.full == (len(features) >= length)


@given(movies, st.integers(1, 15), st.data())
def test_a_later_frame_changes_no_earlier_window(features, length, data):
    cut = data.draw(st.integers(0, len(features)))
    changed = features.copy()
    changed[cut:] += 1.0
    before, after = causal_windows(features, length), causal_windows(changed, length)
    assert before[:cut].tobytes() == after[:cut].tobytes()


def test_a_window_of_no_frames_is_refused():
    with pytest.raises(ValueError, match="valid is 1 or more"):
        RecentFeatures(0, 3)
