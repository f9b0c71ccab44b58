"""Stimuli in silico: their frequencies, directions and scales are those that the axes say."""

import numpy as np
import pytest

from decoders.reconstruction.stimuli import (
    DIRECTIONS_DEG,
    GRATING_CYCLES_PX,
    GRATING_HZ,
    GRIDS,
    NOISE_FRAMES,
    NOISE_PX,
    Surface,
    grating,
    noise,
)

ROW, COLUMN = 18, 32


def frequency_of(signal, rate):
    """Peak of the spectrum, finely padded."""
    power = np.abs(np.fft.rfft(signal - signal.mean(), 4096)) ** 2
    return np.argmax(power) * rate / 4096


@pytest.mark.parametrize("cycles_px", GRATING_CYCLES_PX)
def test_a_grating_has_its_spatial_frequency(cycles_px):
    movie = grating(cycles_px, 0.0, 0.0)
    assert frequency_of(movie[0, ROW], 1.0) == pytest.approx(cycles_px, abs=0.005)
    np.testing.assert_allclose(movie[0, 0], movie[0, 35], atol=1e-3)
    upright = grating(cycles_px, 0.0, 90.0)
    assert frequency_of(upright[0, :, COLUMN], 1.0) == pytest.approx(cycles_px, abs=0.012)
    np.testing.assert_allclose(movie[0], movie[59], atol=1e-3)  # 0 Hz


@pytest.mark.parametrize("drift_hz", GRATING_HZ[:-1])
def test_a_grating_drifts_at_its_rate(drift_hz):
    movie = grating(0.125, drift_hz, 0.0)
    assert frequency_of(movie[:, ROW, COLUMN], 30.0) == pytest.approx(drift_hz, abs=0.12)


@pytest.mark.parametrize(
    ("direction_deg", "by_px"), [(0.0, (0, 1)), (90.0, (-1, 0)), (180.0, (0, -1)), (270.0, (1, 0))]
)
def test_a_grating_drifts_in_its_direction(direction_deg, by_px):
    movie = grating(0.125, 3.75, direction_deg)  # one pixel a frame
    moved = np.roll(movie[0], by_px, axis=(0, 1))
    inside = (slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(movie[1][inside], moved[inside], atol=0.01)


def test_no_grating_is_lost_at_its_zeros():
    for cycles_px in GRATING_CYCLES_PX:
        for drift_hz in GRATING_HZ:
            movie = grating(cycles_px, drift_hz, 0.0)
            assert movie.std() > 80
            assert 0 <= movie.min() < movie.max() <= 255


def width_of(profile):
    """Standard deviation of a Gaussian filter, from the correlation of its noise over one step: exp(-1 / (4 s^2))."""
    return np.sqrt(-1 / (4 * np.log(profile)))


def correlation_of(movie, axis):
    centred = movie - movie.mean()
    ahead, behind = (
        np.take(centred, range(*ends), axis) for ends in ((1, movie.shape[axis]), (0, movie.shape[axis] - 1))
    )
    return (ahead * behind).mean() / centred.var()


@pytest.mark.parametrize("space_px", NOISE_PX[1:5])
@pytest.mark.parametrize("time_frames", NOISE_FRAMES[2:5])
def test_noise_has_its_scales(space_px, time_frames):
    movies = [noise(space_px, time_frames, seed) for seed in range(4)]
    for axis, scale in ((0, time_frames), (1, space_px), (2, space_px)):
        found = np.mean([width_of(correlation_of(movie, axis)) for movie in movies])
        assert found == pytest.approx(scale, rel=0.25)


def test_noise_is_of_one_contrast_whatever_its_scale():
    for space_px in NOISE_PX:
        for time_frames in NOISE_FRAMES:
            movie = noise(space_px, time_frames, 0)
            assert movie.shape == (60, 36, 64)
            assert movie.mean() == pytest.approx(127.5, abs=3)
            assert movie.std() == pytest.approx(50, rel=0.05)
            assert 0 <= movie.min() <= movie.max() <= 255


def test_noise_is_the_same_for_a_seed_and_comes_with_its_inverse():
    first, inverse, second = GRIDS["noise"].stimuli((2, 3), 3)
    np.testing.assert_allclose(first + inverse, 255, atol=1e-3)
    np.testing.assert_array_equal(first, noise(NOISE_PX[2], NOISE_FRAMES[3], 0))
    assert np.abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.5


def test_gratings_of_a_cell_are_of_all_directions():
    found = GRIDS["gratings"].stimuli((1, 2), 5)
    for movie, direction in zip(found, (*DIRECTIONS_DEG, 0.0), strict=True):
        np.testing.assert_array_equal(movie, grating(0.25, 3.75, direction))


def test_a_surface_as_json_says_its_axes():
    grid = GRIDS["gratings"]
    values = np.full((4, 7), 0.5)
    values[1, 2] = np.nan
    told = Surface(grid, 4, "mouse", values).as_dict()
    assert told["space_is"] == "spatial frequency, cycles/px"
    assert told["time"] == list(GRATING_HZ)
    assert told["correlation"][1][2] is None
    assert told["correlation"][0] == [0.5] * 7
    assert len(list(grid.cells())) == 28
    assert len(list(GRIDS["noise"].cells())) == 49
