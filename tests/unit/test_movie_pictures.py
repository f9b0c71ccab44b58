"""Movies and scores for people: the MP4, decoded again, and the plots."""

import base64
import io

import av
import numpy as np
import pytest
from PIL import Image

from decoders.reconstruction import figures
from decoders.reconstruction.departures import Departure
from decoders.reconstruction.stimuli import GRIDS, Surface
from decoders.reconstruction.video_file import write_mp4
from rig.errors import DataError
from rig.simulation.movies import natural_movies

FRAMES = 40


@pytest.fixture(scope="module")
def movies():
    return natural_movies(2, FRAMES, 0).astype(np.float32)


def decoded(path):
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        frames = [frame.to_ndarray(format="gray") for frame in file.decode(stream)]
        return np.stack(frames), float(stream.average_rate)


def test_the_mp4_shows_both_movies_side_by_side_at_their_rate(movies, tmp_path):
    path = tmp_path / "movie.mp4"
    write_mp4(list(movies), path, 30.0)
    frames, rate_hz = decoded(path)
    assert rate_hz == 30
    assert frames.shape == (FRAMES, 36 * 6, (64 + 2 + 64) * 6)
    small = frames.reshape(FRAMES, 36, 6, 130, 6).mean(axis=(2, 4))
    for movie, columns in zip(movies, (slice(64), slice(66, None)), strict=True):
        error = small[:, :, columns] - movie
        assert np.sqrt((error**2).mean()) < 6  # grey levels: the codec loses some
        assert abs(error.mean()) < 1, "grey levels are not shifted or stretched"
        assert np.corrcoef(small[:, :, columns].ravel(), movie.ravel())[0, 1] > 0.99
    assert small[:, :, 64:66].min() > 215, "a white gap"
    assert [file.name for file in tmp_path.iterdir()] == ["movie.mp4"]


@pytest.mark.parametrize("level", [0, 127, 255])
def test_greys_come_back_as_they_are(tmp_path, level):
    write_mp4([np.full((3, 36, 64), level, np.float32)], tmp_path / "grey.mp4", 29.97)
    frames, rate_hz = decoded(tmp_path / "grey.mp4")
    assert np.abs(frames.astype(float) - level).max() <= 2
    assert rate_hz == pytest.approx(29.97, abs=0.01)


def test_values_beyond_the_grey_levels_are_cut(tmp_path):
    write_mp4([np.linspace(-400, 600, 3 * 36 * 64).reshape(3, 36, 64)], tmp_path / "far.mp4", 30.0)
    frames, _ = decoded(tmp_path / "far.mp4")
    assert frames[0].max() < 20
    assert frames[2].min() > 235


def test_an_mp4_that_cannot_be_written_is_said(movies, tmp_path):
    with pytest.raises(DataError, match=r"nowhere/movie\.mp4: cannot be written"):
        write_mp4(list(movies), tmp_path / "nowhere" / "movie.mp4", 30.0)


# --- plots ---


def told(mean, clips=(0.2, 0.3, 0.4), interval=(0.1, 0.4)):
    return {
        "mean": mean,
        "interval": list(interval) if interval else None,
        "clips": dict(zip("abc", clips, strict=True)),
    }


@pytest.fixture(scope="module")
def report():
    ablation = told(0.25) | {"published": 0.44, "difference": {"mean": -0.05, "interval": None}}
    unknown = told(None, (None, None, None), None) | {
        "published": None,
        "difference": {"mean": None, "interval": None},
    }
    return {
        "correlation": told(0.3, (0.2, None, 0.4)),
        "baselines": {"linear": told(0.2), "mean_frame": told(0.1), "mismatched": told(0.0)},
        "published_correlation": 0.569,
        "ablations": {"ensemble 1": ablation, "without behaviour": unknown},
    }


def texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_every_plot_is_a_picture_that_is_not_empty(report, movies):
    departure = Departure.of(movies[0], movies[1], list(movies), movies[1], None, 0.5)
    surface = Surface(GRIDS["noise"], 2, "mouse", np.linspace(-0.1, 1, 49).reshape(7, 7)).as_dict()
    drawn = [
        figures.correlations(report),
        figures.ablations(report),
        figures.strip({"movie": movies[0], "reconstruction": movies[1]}),
        figures.surface(surface),
        figures.departure_maps(departure),
        figures.departure_times(departure),
    ]
    for figure in drawn:
        picture = np.asarray(Image.open(io.BytesIO(figures.as_png(figure))).convert("L"))
        assert min(picture.shape) > 150
        assert picture.std() > 5
        edges = (picture[0], picture[-1], picture[:, 0], picture[:, -1])
        assert all((edge == 255).all() for edge in edges), "nothing is cut at the edge"


def test_a_strip_says_when_its_frames_were_shown(movies):
    figure = figures.strip({"movie": movies[0], "reconstruction": movies[1]}, [0, 15, 30])
    assert [text for text in texts(figure) if text.endswith(" s")] == ["0.0 s", "0.5 s", "1.0 s"]
    assert {"movie", "reconstruction"} <= set(texts(figure))
    shown = figure.axes[1].images[0]
    np.testing.assert_array_equal(shown.get_array(), movies[0][15])
    assert shown.get_clim() == (0, 255)


def test_a_correlation_without_a_value_is_a_dash_and_not_a_colour(report):
    values = np.full((4, 7), 0.5)
    values[0, :2] = np.nan, -1e-4
    figure = figures.surface(Surface(GRIDS["gratings"], 2, "mouse", values).as_dict())
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert cells == ["-", "0.00", *["0.50"] * 26]
    assert "temporal frequency, Hz" in texts(figure)
    figures.as_png(figures.correlations(report))


def test_maps_and_times_have_units(movies):
    departure = Departure.of(movies[0], movies[1], [], movies[1], None, 0.5)
    assert "RMS, grey levels" in texts(figures.departure_maps(departure))
    assert "time in the clip, s (grey: not scored)" in texts(figures.departure_times(departure))


def test_a_picture_within_a_page_is_the_picture(report):
    figure = figures.ablations(report)
    kind, content = figures.embedded(figure).split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content)[:8] == b"\x89PNG\r\n\x1a\n"
