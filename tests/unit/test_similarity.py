"""Scores of a reconstruction against the published definitions, written out in plain numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from decoders.reconstruction.similarity import (
    bootstrap,
    compare,
    matched,
    mean_of_mice,
    pearson,
    response_fit,
    smooth,
)

DROPPED = 30
FRAMES = 45


@pytest.fixture(scope="module")
def movies():
    """A movie and a poor copy of it, different in mean and contrast, and much different before frame 30."""
    draw = np.random.default_rng(0)
    shown = draw.uniform(0, 255, (FRAMES, 9, 16)).astype(np.float32)
    found = (0.4 * shown + 80 + draw.normal(0, 30, shown.shape)).astype(np.float32)
    found[:DROPPED] = draw.uniform(0, 255, (DROPPED, 9, 16))
    return shown, found


@pytest.fixture(scope="module")
def mask():
    mask = np.zeros((9, 16), bool)
    mask[2:7, 3:10] = True
    return mask


def scored(movie, mask):
    return np.stack([frame[mask] for frame in movie[DROPPED:]]).astype(np.float64)


def test_correlations_are_those_of_the_scored_pixels_and_frames(movies, mask):
    true, found = (scored(movie, mask) for movie in movies)
    score = compare(*movies, mask)
    assert score.correlation == pytest.approx(np.corrcoef(true.ravel(), found.ravel())[0, 1])
    by_frame = [np.corrcoef(one, other)[0, 1] for one, other in zip(true, found, strict=True)]
    assert score.frame_correlation == pytest.approx(np.mean(by_frame))
    assert score.correlation > compare(*movies, mask, dropped=0).correlation + 0.2
    assert score.correlation != pytest.approx(compare(*movies).correlation, abs=1e-4)


def test_errors_and_motion_are_in_grey_levels(movies, mask):
    true, found = (scored(movie, mask) for movie in movies)
    score = compare(*movies, mask)
    rmse = np.sqrt(((true - found) ** 2).mean())
    assert score.rmse == pytest.approx(rmse)
    assert score.psnr_db == pytest.approx(10 * np.log10(255**2 / rmse**2))
    assert score.motion_energy_shown == pytest.approx(np.abs(true[1:] - true[:-1]).mean())
    assert score.motion_energy == pytest.approx(np.abs(found[1:] - found[:-1]).mean())


def test_ssim_is_that_of_whole_frames_with_the_published_constants(movies, mask):
    constant = (1.0 * 255) ** 2
    values = []
    for x, y in zip(*(scored(movie, mask) for movie in movies), strict=True):
        covariance = ((x - x.mean()) * (y - y.mean())).mean()
        luminance = (2 * x.mean() * y.mean() + constant) / (x.mean() ** 2 + y.mean() ** 2 + constant)
        values.append(luminance * (2 * covariance + constant) / (x.var() + y.var() + constant))
    assert compare(*movies, mask).ssim == pytest.approx(np.mean(values))


def test_a_movie_is_like_itself(movies, mask):
    score = compare(movies[0], movies[0], mask)
    assert (score.correlation, score.frame_correlation, score.ssim) == pytest.approx((1, 1, 1))
    assert score.rmse == 0
    assert score.psnr_db == np.inf
    assert score.motion_energy == score.motion_energy_shown


def test_a_movie_of_one_grey_has_no_correlation(movies):
    flat = compare(movies[0], np.full_like(movies[0], 127))
    assert np.isnan(flat.correlation)
    assert np.isnan(flat.frame_correlation)
    assert flat.rmse > 0


@given(gain=st.floats(0.1, 10), shift=st.floats(-100, 100), seed=st.integers(0, 99))
def test_correlation_knows_no_contrast(gain, shift, seed):
    x, y = np.random.default_rng(seed).normal(size=(2, 50))
    assert pearson(gain * x + shift, y) == pytest.approx(pearson(x, y), abs=1e-9)
    assert pearson(-x, y) == pytest.approx(-pearson(x, y), abs=1e-9)
    assert -1 <= pearson(x, y) <= 1


def test_movies_that_cannot_be_compared(movies):
    shown, found = movies
    with pytest.raises(ValueError, match="30 frames dropped"):
        compare(shown[:31], found[:31])
    with pytest.raises(ValueError, match="30 frames dropped"):
        compare(shown, found[:-1])


def test_the_final_blur_is_a_gaussian_in_time_and_space(movies):
    shown = movies[0]
    np.testing.assert_allclose(smooth(shown), gaussian_filter(shown, (0.5, 0.5, 0.5)), atol=1e-3)
    impulse = np.zeros((11, 11, 11), np.float32)
    impulse[5, 5, 5] = 1
    weights = smooth(impulse)[:, 5, 5] / smooth(impulse)[5, 5, 5]
    assert weights[4] == weights[6] == pytest.approx(np.exp(-0.5 / 0.5**2), rel=1e-3)
    np.testing.assert_array_equal(smooth(shown, 0), shown)


def test_a_matched_reconstruction_has_the_mean_and_contrast_of_the_movie(movies, mask):
    shown, found = movies
    brought = scored(matched(shown, found, mask), mask)
    true = scored(shown, mask)
    assert brought.mean() == pytest.approx(true.mean(), abs=1e-3)
    assert brought.std() == pytest.approx(true.std(), abs=1e-3)
    assert pearson(brought, true) == pytest.approx(compare(shown, found, mask).correlation, abs=1e-6)


def test_the_fit_of_responses_is_over_what_was_recorded():
    draw = np.random.default_rng(1)
    recorded, predicted = draw.gamma(1, 2, (2, 4, FRAMES))
    recorded[2] = np.nan
    kept = [0, 1, 3]
    expected = np.corrcoef(recorded[kept, DROPPED:].ravel(), predicted[kept, DROPPED:].ravel())[0, 1]
    assert response_fit(recorded, predicted) == pytest.approx(expected)


def test_every_mouse_counts_once():
    scores = {"a": {"1": 0.2, "2": 0.4, "3": float("nan")}, "b": {"1": 0.9}}
    mean, mice = mean_of_mice(scores)
    assert mice == pytest.approx({"a": 0.3, "b": 0.9})
    assert mean == pytest.approx(0.6)
    assert np.isnan(mean_of_mice({"a": {"1": float("nan")}})[0])


def test_the_interval_holds_the_mean_and_grows_narrow_with_clips():
    draw = np.random.default_rng(2)
    widths = []
    for clips in (4, 64):
        scores = {mouse: dict(enumerate(draw.normal(0.5, 0.1, clips))) for mouse in "ab"}
        low, high = bootstrap(scores)
        assert low < mean_of_mice(scores)[0] < high
        widths.append(high - low)
    assert widths[1] < 0.5 * widths[0]
    assert widths[1] == pytest.approx(2 * 1.96 * 0.1 / np.sqrt(128), rel=0.35)
    assert bootstrap({"a": {"1": 0.1, "2": 0.2}}) is None
