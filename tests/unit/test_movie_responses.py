"""Simulated responses to movies: the truth beside them holds, and they are as noisy as real ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from decoders.datasets.movies import open_movies
from rig.errors import ConfigError
from rig.simulation.deconvolution import deconvolve
from rig.simulation.movie_responses import MovieSession, simulate_movie_responses
from rig.simulation.movies import natural_movie
from rig.simulation.visual_parameters import ResponseParameters

NEURONS, CLIPS, ORACLE, REPEATS, FRAMES = 80, 5, 2, 3, 150


def session(seed=3, **changes):
    return MovieSession(seed, NEURONS, CLIPS, ORACLE, REPEATS, FRAMES, **changes)


@pytest.fixture(scope="module")
def shown():
    return list(session().presentations())


def correlation(a, b):
    """Pearson correlation of rows, (N,); 0 for a silent neuron."""
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return (a * b).sum(axis=1) / np.where(scale > 0, scale, np.inf)


def joined(shown, name):
    return np.concatenate([getattr(one, name) for one in shown], axis=1)


def test_each_train_clip_once_and_each_oracle_clip_again_and_again(shown):
    assert sorted(one.trial for one in shown) == list(range(CLIPS + ORACLE * REPEATS))
    assert [one.trial for one in shown] != sorted(one.trial for one in shown)
    for tier, clips, times in (("train", CLIPS, 1), ("oracle", ORACLE, REPEATS)):
        numbers, counts = np.unique([one.clip for one in shown if one.tier == tier], return_counts=True)
        assert (len(numbers), set(counts)) == (clips, {times})


def test_arrays_are_those_of_the_published_data(shown):
    for one in shown:
        assert one.video.shape == (36, 64, FRAMES)
        assert one.responses.shape == one.rates_hz.shape == one.expected.shape == (NEURONS, FRAMES)
        assert one.behavior.shape == one.pupil_center.shape == (2, FRAMES)
        assert {array.dtype for array in (one.video, one.responses, one.behavior)} == {np.dtype("f4")}
        assert one.responses.min() >= 0
        assert 0 <= one.video.min() < one.video.max() <= 255
    np.testing.assert_array_equal(shown[0].video, np.moveaxis(natural_movie(shown[0].clip, FRAMES, 3), 0, -1))


def test_the_same_seed_is_the_same_mouse(shown):
    first = next(session().presentations())
    for name in ("video", "responses", "behavior", "pupil_center", "rates_hz", "expected"):
        np.testing.assert_array_equal(getattr(first, name), getattr(shown[0], name))
    assert np.any(next(session(4).presentations()).responses != first.responses)


def test_a_response_correlates_with_its_noise_free_self_as_real_ones_do(shown):
    single = correlation(joined(shown, "responses"), joined(shown, "expected")).mean()
    assert single == pytest.approx(0.40, abs=0.06)  # what the noise was calibrated to


def test_noise_is_all_that_differs_from_the_noise_free_response():
    quiet = ResponseParameters(noise_dff=0.0)
    loud = ResponseParameters(noise_dff=0.5)
    of = [next(session(parameters=parameters).presentations()) for parameters in (quiet, loud)]
    np.testing.assert_array_equal(of[0].expected, of[1].expected)
    better, worse = (np.mean(correlation(one.responses, one.expected)) for one in of)
    assert better > worse + 0.05


def test_expected_responses_follow_the_rates_late_and_smooth(shown):
    rates, expected = joined(shown, "rates_hz"), joined(shown, "expected")
    by_lag = [np.mean(correlation(expected[:, lag:], rates[:, : rates.shape[1] - lag])) for lag in range(10)]
    assert 1 <= int(np.argmax(by_lag)) <= 6  # an eighth of a second of imaging, and the indicator's rise
    assert max(by_lag) > 0.85


def test_repeats_share_the_movie_and_little_else(shown):
    of = [[one for one in shown if one.clip == clip] for clip in sorted({o.clip for o in shown})[-ORACLE:]]
    again = np.mean([correlation(a.responses, b.responses) for a, b in (of[0][:2], of[1][:2])])
    other = np.mean([correlation(a.responses, b.responses) for a, b in zip(of[0], of[1], strict=True)])
    assert again > other + 0.05
    assert again < 0.6
    np.testing.assert_array_equal(of[0][0].video, of[0][1].video)
    assert np.any(of[0][0].behavior != of[0][1].behavior)


def test_running_raises_rates(shown):
    running = joined(shown, "behavior")[1] > 5.0
    assert 0.1 < running.mean() < 0.9
    rates = joined(shown, "rates_hz")
    assert np.median(rates[:, running].mean(axis=1) / rates[:, ~running].mean(axis=1)) > 1.15


def test_neurons_fluctuate_together(shown):
    """What the rates do not explain is correlated between neurons: of halves of the population, over seconds."""
    left = joined(shown, "responses") - joined(shown, "expected")
    seconds = (left / left.std(axis=1, keepdims=True)).reshape(NEURONS, -1, 30).mean(axis=2)
    assert np.corrcoef(seconds[::2].mean(axis=0), seconds[1::2].mean(axis=0))[0, 1] > 0.3


def test_a_neuron_looks_at_its_receptive_field():
    neurons = session().neurons
    row, column = np.indices((36, 64)).reshape(2, -1)
    distance = np.hypot(row - neurons.fields.centre[:, :1], column - neurons.fields.centre[:, 1:])
    far = distance > 4 * neurons.fields.sd_px.max(axis=0)[:, None]
    weight = np.hypot(*neurons.filters[:2])
    assert weight[far].max() < 1e-2 * weight.max()
    inside = (neurons.fields.centre > 0).all(axis=1) & (neurons.fields.centre < (36, 64)).all(axis=1)
    assert inside.mean() > 0.9
    assert np.ptp(neurons.fields.centre, axis=0) == pytest.approx((0.85 * 36, 0.85 * 64), rel=0.35)


def test_a_folder_that_readers_of_the_layout_open(tmp_path):
    small = MovieSession(5, 12, 3, 1, 2, 60)
    written = []
    simulate_movie_responses(tmp_path / small.name, small, written.append)
    assert sum(written) == len(small) == 5
    (mouse,) = open_movies(tmp_path, "sensorium")
    assert (mouse.name, mouse.neurons, len(mouse.of_tier("train"))) == ("simulated-5", 12, 3)
    clips = np.load(mouse.path / "truth" / "clips.npy")
    for one in small.presentations():
        found = mouse.trials[one.trial]
        assert (found.name, found.tier, clips[one.trial]) == (str(one.trial), one.tier, one.clip)
        trial = found.load()
        np.testing.assert_array_equal(trial.video, one.video)
        np.testing.assert_array_equal(trial.responses, one.responses)
        for name, truth in (("rates", one.rates_hz), ("responses", one.expected)):
            np.testing.assert_array_equal(np.load(mouse.path / "truth" / name / f"{one.trial}.npy"), truth)
    same = [clips[int(a.name)] == clips[int(b.name)] for a in mouse.trials for b in mouse.trials]
    assert same == [a.clip == b.clip for a in mouse.trials for b in mouse.trials]
    trained = np.concatenate([trial.load().responses for trial in mouse.of_tier("train")], axis=1)
    np.testing.assert_allclose(mouse.response_std, trained.std(axis=1), rtol=1e-4)
    with pytest.raises(ConfigError, match="is there already and not empty"):
        simulate_movie_responses(tmp_path / small.name, small, written.append)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), samples=st.integers(1, 25), retention=st.floats(0.3, 0.97))
def test_deconvolution_is_the_least_squares_fit(seed, samples, retention):
    traces = np.random.default_rng(seed).normal(0.2, 1.0, (samples, 3))
    decay = np.tril(retention ** (np.arange(samples)[:, None] - np.arange(samples)))
    found = deconvolve(traces, retention)
    assert found.min() >= 0
    for neuron in range(3):
        best = nnls(decay, traces[:, neuron])[0]  # the first entry is the calcium that was there before
        np.testing.assert_allclose(found[1:, neuron], best[1:], atol=1e-6)


def test_deconvolution_finds_spikes_without_noise():
    spikes = np.random.default_rng(0).poisson(0.2, (200, 4)).astype(float)
    calcium = np.zeros((200, 4))
    for k in range(200):
        calcium[k] = spikes[k] + (0.8 * calcium[k - 1] if k else 0.0)
    np.testing.assert_allclose(deconvolve(calcium, 0.8)[1:], spikes[1:], atol=1e-9)
