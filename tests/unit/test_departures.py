"""Maps of where a reconstruction departs from the movie, on movies whose departures are known."""

from dataclasses import replace

import numpy as np
import pytest

from decoders.reconstruction.departures import Departure
from decoders.reconstruction.similarity import matched, smooth
from rig.errors import DataError

FRAMES = 50


@pytest.fixture(scope="module")
def shown():
    return np.random.default_rng(0).uniform(0, 255, (FRAMES, 36, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def departure(shown):
    """All models miss a square; where they differ from each other is a strip."""
    square, strip = np.zeros((2, 36, 64), bool)
    square[10:20, 10:20], strip[25:30, 40:60] = True, True
    draw = np.random.default_rng(1)
    by_model = []
    for _ in range(3):
        movie = np.where(square, 127.5, shown) + strip * draw.normal(0, 20, shown.shape)
        by_model.append(movie.astype(np.float32))
    free = by_model[0] + 5 * draw.normal(size=(FRAMES, 1, 1)).astype(np.float32)
    found = np.mean(by_model, axis=0)
    return Departure.of(shown, found, by_model, free, None, 0.0), square, strip


def test_the_maps_show_where_it_departs_and_where_the_models_differ(departure):
    maps, square, strip = departure
    planes = maps.by_pixel()
    elsewhere = ~(square | strip)
    assert planes["difference"][square].min() > 5 * planes["difference"][elsewhere].max()
    assert planes["spread"][strip].min() > 5 * planes["spread"][~strip].max()
    assert np.ptp(planes["noise"][elsewhere]) < 2, "the noise here is common to all pixels"
    assert maps.by_frame()["difference"].shape == (FRAMES,)


def test_differences_are_in_grey_levels_of_the_movie(shown):
    darker = (0.5 * shown + 20).astype(np.float32)
    maps = Departure.of(shown, darker, [], darker, None, 0.0)
    np.testing.assert_allclose(maps.difference, 0, atol=1e-2)  # contrast alone is no departure
    blurred = Departure.of(shown, shown, [], shown, None, 0.5)
    np.testing.assert_allclose(blurred.difference, matched(shown, smooth(shown)) - shown, atol=1e-2)
    assert maps.spread is None
    assert maps.summary()["share_beyond_two_spreads"] is None


def test_figures_are_of_scored_pixels_and_frames(departure):
    maps, square, strip = departure
    inside = replace(maps, mask=square)
    told = inside.summary()
    values = maps.difference[30:, square].astype(np.float64)
    assert told["difference_rms"] == pytest.approx(np.sqrt((values**2).mean()))
    assert told["spread_mean"] == pytest.approx(maps.spread[30:, square].mean(), rel=1e-5)
    assert told["share_beyond_two_spreads"] > 0.9, "the models agree on what was not shown"
    differing = replace(maps, mask=strip)  # here they differ from each other instead
    differ, spread = (np.abs(values[30:, strip]) for values in (maps.difference, maps.spread))
    assert differing.summary()["share_beyond_two_spreads"] == pytest.approx((differ > 2 * spread).mean())
    assert 0.01 < differing.summary()["share_beyond_two_spreads"] < 0.5
    plane = inside.by_pixel()["difference"]
    assert np.isnan(plane[~square]).all()
    expected = np.sqrt((maps.difference[30:, 15, 15].astype(np.float64) ** 2).mean())
    assert plane[15, 15] == pytest.approx(expected, rel=1e-5)
    by_frame = np.sqrt((maps.difference[:, square].astype(np.float64) ** 2).mean(axis=1))
    np.testing.assert_allclose(inside.by_frame()["difference"], by_frame, rtol=1e-5)


def test_models_that_are_the_same_have_no_correlation_of_the_spread(shown):
    maps = Departure.of(shown, shown, [shown, shown], shown, None, 0.0)
    assert maps.summary()["difference_with_spread"] is None
    assert maps.summary()["spread_mean"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_maps_are_kept(departure, tmp_path, masked):
    maps, square, _ = departure
    maps = replace(maps, mask=square if masked else None)
    maps.save(tmp_path / "maps" / "clip.npz")
    kept = Departure.load(tmp_path / "maps" / "clip.npz")
    np.testing.assert_allclose(kept.difference, maps.difference, atol=0.1)
    np.testing.assert_allclose(kept.spread, maps.spread, atol=0.1)
    assert (kept.mask is None) is not masked
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["clip.npz"]


def test_one_model_has_no_spread_in_the_file_either(shown, tmp_path):
    Departure.of(shown, shown, [], shown, None, 0.5).save(tmp_path / "clip.npz")
    assert Departure.load(tmp_path / "clip.npz").spread is None


@pytest.mark.parametrize("kept", [0, 10, 5000])
def test_maps_cut_short_are_refused(departure, tmp_path, kept):
    path = tmp_path / "clip.npz"
    departure[0].save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"clip\.npz: damaged or cut short"):
        Departure.load(path)
