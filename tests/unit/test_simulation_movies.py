"""Movies from natural statistics: reproducible, and natural in what matters to visual cortex."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from rig.simulation.movies import natural_movies


@pytest.fixture(scope="module")
def movies() -> NDArray[np.uint8]:
    return natural_movies(clips=8, frames=150, seed=5)


def test_shape_and_type(movies: NDArray[np.uint8]) -> None:
    assert movies.shape == (8, 150, 36, 64)
    assert movies.dtype == np.uint8
    assert natural_movies(1, 7, 0, height_px=20, width_px=30).shape == (1, 7, 20, 30)


def test_same_seed_same_movies(movies: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(natural_movies(8, 150, 5), movies)
    assert np.any(natural_movies(1, 150, 6)[0] != movies[0])


def test_a_clip_does_not_depend_on_how_many_are_made(movies: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(natural_movies(2, 150, 5), movies[:2])


def test_grey_levels_use_the_range(movies: NDArray[np.uint8]) -> None:
    assert 90 < movies.mean() < 150
    assert 35 < movies.std() < 70
    assert (movies == 255).mean() < 0.06
    clip_means = movies.mean(axis=(1, 2, 3))
    assert clip_means.std() < 30


def test_clips_differ(movies: NDArray[np.uint8]) -> None:
    flat = movies.reshape(8, -1).astype(float)
    between = np.corrcoef(flat)[np.triu_indices(8, 1)]
    assert np.abs(between).max() < 0.3


def test_spatial_spectrum_falls_as_in_nature(movies: NDArray[np.uint8]) -> None:
    frames = movies[:, ::30].astype(float)
    window = np.outer(np.hanning(36), np.hanning(64))
    centred = (frames - frames.mean(axis=(2, 3), keepdims=True)) * window
    amplitude = np.sqrt((np.abs(np.fft.fft2(centred)) ** 2).mean(axis=(0, 1)))
    frequency = np.hypot(np.fft.fftfreq(36)[:, None], np.fft.fftfreq(64))
    used = (frequency > 0.06) & (frequency < 0.4)
    slope = np.polyfit(np.log(frequency[used]), np.log(amplitude[used]), 1)[0]
    assert -1.8 < slope < -0.7


def test_motion_is_smooth_except_at_cuts(movies: NDArray[np.uint8]) -> None:
    flat = movies.reshape(8, 150, -1).astype(float)
    similarity = np.array([[np.corrcoef(a, b)[0, 1] for a, b in pairwise(c)] for c in flat])
    assert np.median(similarity) > 0.9
    assert similarity.min() < 0.5  # there are cuts
    assert (similarity < 0.5).mean() < 0.03
    assert np.median(np.abs(np.diff(flat, axis=1)).mean(axis=2)) > 1.0  # and it does move
