"""The camera's motion is found in a noisy movie of a scene, and the average along it is nearer to the movie."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates

from decoders.reconstruction.camera_motion import average_along_motion

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTHS = (8.0, 16.0, 16.0)
FRAMES, HEIGHT, WIDTH = 60, 36, 64


def scene(seed: int) -> np.ndarray:
    """A texture larger than the screen, (120, 160), of unit standard deviation."""
    texture = gaussian_filter(np.random.default_rng(seed).normal(size=(120, 160)), 4.0)
    return texture / texture.std()


def filmed(over: np.ndarray, rows: np.ndarray, columns: np.ndarray, zoom: np.ndarray) -> np.ndarray:
    """A movie, grey levels (T, 36, 64), by a camera at places (T,) from the scene's middle."""
    y, x = np.indices((HEIGHT, WIDTH), np.float64) - np.array([HEIGHT - 1, WIDTH - 1])[:, None, None] / 2
    frames = [
        map_coordinates(over, [60 + r + z * y, 80 + c + z * x], order=1)
        for r, c, z in zip(rows, columns, zoom, strict=True)
    ]
    return (127 + 30 * np.array(frames)).astype(np.float32)


def moving(seed: int = 0) -> np.ndarray:
    """Shot from a camera that pans back and forth and comes nearer."""
    t = np.arange(FRAMES) / FRAMES
    return filmed(scene(seed), 10 * np.sin(4 * t), 18 * t, 1 - 0.15 * t)


def misread(movie: np.ndarray, seed: int = 0) -> np.ndarray:
    """A movie with errors as a reconstruction's: smooth, of a few frames, and as large as what was shown."""
    errors = gaussian_filter(np.random.default_rng(seed).normal(size=movie.shape), (2, 2, 2))
    return (movie + 25 * errors / errors.std()).astype(np.float32)


def averaged(movie: np.ndarray, shown: np.ndarray | None = None) -> np.ndarray:
    """The movie along the motion in it."""
    where = None if shown is None else torch.from_numpy(shown.astype(np.float32))
    return average_along_motion(torch.from_numpy(movie), WIDTHS, where).numpy()


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's, over all pixels and frames."""
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_errors_that_do_not_move_with_the_scene_are_averaged_away():
    movie = moving()
    given = misread(movie)
    found = averaged(given)
    assert found.shape == movie.shape
    still = max(correlation(gaussian_filter1d(given, sd, axis=0), movie) for sd in (2, 4, 8))
    assert correlation(found, movie) > correlation(given, movie) + 0.1
    assert correlation(found, movie) > still + 0.03


def test_one_scene_does_not_bleed_into_the_next_at_a_cut():
    movie = np.concatenate([moving(1)[:30], moving(2)[30:]])
    found = averaged(misread(movie))
    before, after = found[25:30].mean(axis=0), found[30:35].mean(axis=0)
    assert correlation(before, movie[29]) > correlation(before, movie[30]) + 0.25
    assert correlation(after, movie[30]) > correlation(after, movie[29]) + 0.25
    assert correlation(found, movie) > correlation(misread(movie), movie)


@pytest.mark.parametrize("place", [np.s_[6:30, 10:50], np.s_[10:27, 24:42]], ids=["half", "an eighth"])
def test_only_what_was_looked_for_takes_part(place):
    shown, gains = np.zeros((HEIGHT, WIDTH), bool), []
    shown[place] = True
    for seed in range(3):
        movie = moving(seed)
        given = np.where(shown, misread(movie, seed), np.float32(0))
        elsewhere = np.random.default_rng(3).uniform(0, 255, movie.shape)
        other = np.where(shown, given, elsewhere).astype(np.float32)
        found, changed = averaged(given, shown), averaged(other, shown)
        assert (found[:, ~shown] == 0).all()
        assert (changed[:, ~shown] == other[:, ~shown]).all()
        before, after = (correlation(one[:, shown], movie[:, shown]) for one in (given, found))
        gains.append(after - before)
    assert np.mean(gains) > 0.05


def test_a_movie_of_one_grey_stays_and_a_short_one_is_given_back():
    grey = np.full((FRAMES, HEIGHT, WIDTH), 99, np.float32)
    np.testing.assert_allclose(averaged(grey), grey, atol=1e-3)
    short = misread(moving())[:14]
    np.testing.assert_array_equal(averaged(short), short)


def test_what_stays_within_grey_levels_does():
    found = averaged(np.clip(misread(moving()), 0, 255))
    assert -1e-3 <= found.min() < found.max() <= 255 + 1e-3
