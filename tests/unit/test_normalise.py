import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from decoders.normalise import NormaliserConfig, RunningNormaliser, bin_area

CONFIG = NormaliserConfig(mean_s=1.0, std_s=2.0, rate_hz=10.0)
movies = arrays(np.uint16, st.tuples(st.integers(1, 30), st.just(3), st.just(4)))


def normalised(frames):
    return RunningNormaliser(3, 4, CONFIG).movie(frames)


@given(movies, st.data())
def test_frames_one_by_one_or_in_parts_give_the_same_bits(frames, data):
    cut = data.draw(st.integers(1, len(frames)))
    normaliser = RunningNormaliser(3, 4, CONFIG)
    parts = [normaliser.movie(part) for part in (frames[:cut], frames[cut:]) if len(part)]
    live = RunningNormaliser(3, 4, CONFIG)
    assert np.concatenate(parts).tobytes() == normalised(frames).tobytes()
    assert np.stack([live.step(frame) for frame in frames]).tobytes() == normalised(frames).tobytes()


@given(movies, st.data())
def test_no_future_frame_takes_part(frames, data):
    cut = data.draw(st.integers(0, len(frames)))
    changed = frames.copy()
    changed[cut:] ^= 0x3FF
    assert normalised(frames)[:cut].tobytes() == normalised(changed)[:cut].tobytes()


def test_statistics_of_the_first_frames_are_plain_averages():
    frames = np.random.default_rng(0).normal(100.0, 5.0, (8, 3, 4))
    mean = frames.astype(np.float32).mean(axis=0)
    distances = [f - frames[: k + 1].mean(axis=0) for k, f in enumerate(frames)]
    expected = (frames[-1] - mean) / np.sqrt(np.mean(np.square(distances)))
    np.testing.assert_allclose(normalised(frames)[-1], expected, rtol=1e-4, atol=1e-4)


def test_without_the_common_mode_only_what_differs_between_pixels_counts():
    frames = np.random.default_rng(0).normal(100.0, 5.0, (8, 3, 4))
    config = NormaliserConfig(1.0, 2.0, 10.0, common_mode=False)
    distances = np.array([f - frames[: k + 1].mean(axis=0) for k, f in enumerate(frames)])
    distances -= distances.mean(axis=(1, 2), keepdims=True)
    expected = distances[-1] / np.sqrt(np.mean(np.square(distances)))
    seen = RunningNormaliser(3, 4, config).movie(frames)[-1]
    np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("common_mode", [True, False])
def test_a_frame_goes_in_unchanged_and_its_result_stays(common_mode):
    frames = np.random.default_rng(0).normal(100.0, 5.0, (3, 3, 4)).astype(np.float32)
    normaliser = RunningNormaliser(3, 4, NormaliserConfig(1.0, 2.0, 10.0, common_mode))
    before, results, copies = frames.copy(), [], []
    for frame in frames:
        results.append(normaliser.step(frame))
        copies.append(results[-1].copy())
    np.testing.assert_array_equal(frames, before)
    np.testing.assert_array_equal(results, copies)


def test_gain_and_offset_of_the_camera_do_not_matter():
    frames = np.random.default_rng(0).normal(100.0, 5.0, (50, 3, 4))
    np.testing.assert_allclose(normalised(frames)[1:], normalised(7 * frames + 300)[1:], rtol=1e-2, atol=2e-3)


def test_a_step_is_forgotten_with_the_time_constant():
    frames = np.concatenate([np.zeros((100, 3, 4)), np.full((11, 3, 4), 100.0)])
    normaliser = RunningNormaliser(3, 4, NormaliserConfig(mean_s=1.0, std_s=1e9, rate_hz=10.0))
    levels = normaliser.movie(frames)[100:] * np.sqrt(np.arange(101, 112))[:, None, None]
    assert levels[10, 0, 0] < levels[0, 0, 0] / 2 < levels[1, 0, 0]


def test_a_camera_with_its_cap_on_gives_zeros():
    assert not normalised(np.full((5, 3, 4), 100, np.uint16)).any()


@given(arrays(np.uint16, (12, 8)))
def test_binning_is_the_mean_of_blocks(frame):
    expected = frame.reshape(4, 3, 4, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(bin_area(frame, 4, 4), expected, rtol=1e-5)


def test_binning_that_leaves_a_rest_is_refused():
    with pytest.raises(ValueError, match="cannot be binned"):
        bin_area(np.zeros((10, 8), np.uint16), 4, 4)
