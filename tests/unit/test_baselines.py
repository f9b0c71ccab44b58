"""What needs no network: fitted to recordings that are made to be easy, hard, or cut off."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from threadpoolctl import threadpool_limits

from decoders.behavior import predictor
from decoders.behavior.baselines import KINDS, binned_size, load_baseline, running_z, window_frames
from decoders.behavior.metrics import area_under_curve
from decoders.behavior.predictor import FitOptions
from decoders.datasets.behavior import BehaviorRecording, Excerpt
from rig.errors import CheckpointError, DataError

RATE_HZ = 10.0
FRAMES = 900
HIDDEN = (slice(4, 12), slice(20, 28))  # pixels that tell running from rest


def recording(name, seed, brighter=0.0):
    """Running brightens one patch and darkens another as much; `brighter` is what it adds to the whole."""
    rng = np.random.default_rng(seed)
    running = np.repeat(rng.random(FRAMES // 30) < 0.5, 30)
    movie = 1000 + rng.normal(0, 10, (FRAMES, 32, 32)) + rng.normal(0, 5, (FRAMES, 1, 1))
    movie[:, HIDDEN[0], HIDDEN[1]] += 12 * running[:, None, None]
    movie[:, 20:28, 4:12] -= 12 * running[:, None, None]
    movie += brighter * running[:, None, None]
    speed = np.where(running, 50.0, 0.0)
    path = Path(f"{name}.nwb")
    return BehaviorRecording(name, name, path, RATE_HZ, movie.astype(np.uint16), running, speed)


@pytest.fixture(autouse=True)
def one_thread():
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def mice():
    return [recording(f"mouse{seed}", seed) for seed in range(3)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def fitted(kind, training, cache, **options):
    whole = [one if isinstance(one, Excerpt) else one.whole() for one in training]
    return predictor.fit(kind, whole, (), FitOptions(cache, **options))


def auc(model, tested):
    probability = model.predict(tested)
    known = np.isfinite(probability)
    return area_under_curve(probability[known], tested.running[known])


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_probabilities_after_the_warm_up(kind, mice, cache):
    probability = fitted(kind, mice[:2], cache).predict(mice[2])
    assert probability.shape == (FRAMES,)
    assert probability.dtype == np.float32
    assert np.isnan(probability[:30]).all()
    assert ((probability[30:] >= 0) & (probability[30:] <= 1)).all()


def test_pixels_and_rois_tell_what_the_mean_cannot(mice, cache):
    assert auc(fitted("logistic", mice[:2], cache), mice[2]) > 0.95
    assert auc(fitted("svm", mice[:2], cache), mice[2]) > 0.85
    assert 0.3 < auc(fitted("brightness", mice[:2], cache), mice[2]) < 0.7
    assert auc(fitted("majority", mice[:2], cache), mice[2]) == 0.5


@pytest.mark.parametrize("brighter", [15.0, -15.0])
def test_brightness_learns_its_sign(brighter, tmp_path):
    two = [recording(f"bright{k}", 10 + k, brighter) for k in range(2)]
    model = fitted("brightness", two[:1], tmp_path)
    assert auc(model, two[1]) > 0.85
    probability = model.predict(two[1])
    assert np.mean((probability[30:] >= 0.5) == two[1].running[30:]) > 0.8


def test_majority_is_the_training_animals_run_fraction(mice, cache):
    excerpt = Excerpt(mice[0], 100, 400)
    probability = fitted("majority", [excerpt], cache).predict(mice[1])
    assert probability[30:] == pytest.approx(excerpt.running.mean(), abs=1e-5)


@pytest.mark.parametrize("kind", ["brightness", "logistic", "svm"])
def test_no_later_frame_takes_part(kind, mice, cache, tmp_path):
    model = fitted(kind, mice[:2], cache)
    cut = 500
    frames = np.concatenate([mice[2].frames[:cut], mice[2].frames[cut:][::-1] // 2])
    other = replace(mice[2], frames=frames, path=Path("other.nwb"))
    np.testing.assert_array_equal(model.predict(mice[2])[:cut], model.predict(other)[:cut])
    assert not np.array_equal(model.predict(mice[2])[cut:], model.predict(other)[cut:])


@pytest.mark.parametrize("kind", ["logistic", "svm"])
def test_the_window_reaches_as_far_back_as_it_says(kind, mice, cache):
    model = fitted(kind, mice[:2], cache, window_s=0.3)
    assert len(model.weights) == 3
    assert window_frames(FitOptions(cache), 30.0) == 5, "0.17 s at 30 Hz"
    assert window_frames(FitOptions(cache, window_s=0.001), 30.0) == 1


def test_occlusion_takes_the_pixels_away(mice, cache):
    model = fitted("logistic", mice[:2], cache)
    there, elsewhere = np.zeros((32, 32), np.bool_), np.zeros((32, 32), np.bool_)
    there[HIDDEN] = there[20:28, 4:12] = True
    elsewhere[26:32, 26:32] = True
    known = slice(30, None)

    def auc_without(mask):
        return area_under_curve(model.predict(mice[2], mask)[known], mice[2].running[known])

    assert auc_without(there) < 0.7
    assert auc_without(elsewhere) > 0.9
    with pytest.raises(DataError, match="model svm looks at no image"):
        fitted("svm", mice[:2], cache).predict(mice[2], there)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_gives_the_same_answers(kind, mice, cache, tmp_path):
    model = fitted(kind, mice[:1], cache)
    model.save(tmp_path / "model.npz")
    loaded = load_baseline(tmp_path / "model.npz", kind, cache)
    np.testing.assert_array_equal(model.predict(mice[2]), loaded.predict(mice[2]))
    with pytest.raises(CheckpointError, match="valid here is 'behavior-"):
        load_baseline(tmp_path / "model.npz", KINDS[KINDS.index(kind) - 1], cache)


def test_the_same_seed_gives_the_same_model(mice, cache):
    one, same, other = (fitted("logistic", mice[:2], cache, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.weights, same.weights)
    assert not np.array_equal(one.pixels, other.pixels)


def test_one_excerpt_is_enough(mice, cache):
    for kind in KINDS:
        model = fitted(kind, [Excerpt(mice[0], 0, 600)], cache)
        assert np.isfinite(model.predict(mice[0])[600:]).all()


def test_nothing_left_after_the_warm_up(mice, cache):
    with pytest.raises(DataError, match=r"mouse0\.nwb: nothing is left after the first 3 s"):
        fitted("logistic", [Excerpt(mice[0], 0, 20)], cache)


def test_other_numbers_of_rois(mice, cache):
    few = replace(mice[1], roi_traces=np.ones((FRAMES, 7), np.float32))
    with pytest.raises(DataError, match="7 ROI traces, 50 in the recordings before"):
        fitted("svm", [mice[0], few], cache)
    with pytest.raises(DataError, match="7 features; valid for this svm model: 50"):
        fitted("svm", mice[:1], cache).predict(few)


@pytest.mark.parametrize("kind", KINDS)
def test_another_rate_is_refused(kind, mice, cache):
    model = fitted(kind, mice[:1], cache)
    with pytest.raises(DataError, match=rf"mouse2\.nwb: 5 Hz; this {kind} model was trained on 10 Hz"):
        model.predict(replace(mice[2], rate_hz=5.0))
    measured = model.predict(replace(mice[2], rate_hz=9.9986))
    assert np.isfinite(measured[30:]).all()


@settings(max_examples=30)
@given(arrays(np.float32, (40, 2), elements=st.floats(0, 1000, width=32)), st.integers(1, 39))
def test_running_z_scores_use_no_later_row(traces, cut):
    np.testing.assert_array_equal(running_z(traces, RATE_HZ)[:cut], running_z(traces[:cut], RATE_HZ))


def test_running_z_scores_by_hand():
    found = running_z(np.array([[1.0], [3.0], [3.0]]), 1000.0)
    mean, variance = 2.0, 0.5 * 1.0  # plain averages of all so far
    assert found[1, 0] == pytest.approx((3 - mean) / np.sqrt(variance))
    assert abs(running_z(np.random.default_rng(0).normal(5, 2, (4000, 1)), RATE_HZ)[1000:].std() - 1) < 0.1


@given(st.integers(1, 700), st.integers(1, 700))
def test_frames_of_any_size_can_be_binned(height, width):
    rows, columns = binned_size(height, width)
    assert (height % rows, width % columns) == (0, 0)
    assert height // rows == width // columns
    assert min(rows, columns) >= min(64, height, width)


def test_published_frames_are_binned_in_two():
    assert binned_size(128, 128) == (64, 64)
    assert binned_size(512, 640) == (64, 80)
