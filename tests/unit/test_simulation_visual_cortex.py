"""The simulated two-photon field of view: reproducible, physiological, and decodable."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from rig.errors import ConfigError
from rig.simulation.mouse import Mouse
from rig.simulation.movies import natural_movies
from rig.simulation.visual_cortex import VisualCortex
from rig.simulation.visual_parameters import VisualParameters

CLIPS, CLIP_FRAMES = 6, 300
HELD_OUT_CLIPS = (0, 1, 2, 3)
WINDOW_FRAMES = 10
STEADY = VisualParameters(shared_sd=(0.0, 0.0, 0.0))  # rates are what the movie and running make them


@pytest.fixture(scope="module")
def movies() -> NDArray[np.uint8]:
    return natural_movies(CLIPS, CLIP_FRAMES, seed=0)


@pytest.fixture(scope="module")
def mouse() -> Mouse:
    return Mouse(seed=1, duration_s=600.0)


@pytest.fixture(scope="module")
def cortex(movies: NDArray[np.uint8], mouse: Mouse) -> VisualCortex:
    return VisualCortex(movies, mouse, seed=0)


@pytest.fixture(scope="module")
def measured(cortex: VisualCortex) -> NDArray[np.float64]:
    """dF/F of each neuron as a microscopist would get it, over one loop, (frames, N)."""
    labels = cortex.label_image.ravel()
    area = np.bincount(labels)
    light = np.empty((cortex.loop_frames, cortex.neurons))
    for k in range(cortex.loop_frames):
        light[k] = (np.bincount(labels, cortex.frame(k).ravel()) / area)[1:]
    return light / np.percentile(light, 10, axis=0) - 1


def test_instances_agree_and_seeds_differ(
    movies: NDArray[np.uint8], mouse: Mouse, cortex: VisualCortex
) -> None:
    np.testing.assert_array_equal(VisualCortex(movies, mouse, 0).frame(777), cortex.frame(777))
    assert np.any(VisualCortex(movies, mouse, 1).frame(777) != cortex.frame(777))


def test_sessions_share_the_neurons_and_what_drives_them(movies: NDArray[np.uint8], mouse: Mouse) -> None:
    first, second = (VisualCortex(movies, mouse, 3, parameters=STEADY, session=k) for k in (0, 1))
    loop = np.arange(first.loop_frames)
    np.testing.assert_array_equal(first.label_image, second.label_image)
    np.testing.assert_array_equal(first.rates(loop), second.rates(loop))


def test_sessions_share_no_noise(movies: NDArray[np.uint8], mouse: Mouse) -> None:
    first, second = (VisualCortex(movies, mouse, 3, session=k) for k in (0, 1))
    for fluctuations in zip(first._shared.T, second._shared.T, strict=True):
        assert abs(np.corrcoef(*fluctuations)[0, 1]) < 0.5
    jitter = (np.diff(cortex._motion_px[:, 0]) for cortex in (first, second))
    assert np.corrcoef(*jitter)[0, 1] < 0.5  # the rest is the running of the same mouse
    steps = [np.diff([cortex.frame(k).ravel() for k in (100, 101)], axis=0) for cortex in (first, second)]
    assert abs(np.corrcoef(*np.concatenate(steps))[0, 1]) < 0.2


def test_sessions_share_no_spikes_at_equal_rates(movies: NDArray[np.uint8], mouse: Mouse) -> None:
    first, second = (VisualCortex(movies, mouse, 3, parameters=STEADY, session=k) for k in (0, 1))
    spikes = np.stack([first._draw_spikes(2), second._draw_spikes(2)])
    expected = first.rates(120 + np.arange(60)) / 30
    surprise = ((spikes - expected) / np.sqrt(expected + 0.01)).reshape(2, -1)
    assert abs(np.corrcoef(*surprise)[0, 1]) < 0.1


def test_session_zero_is_what_it_was_before_there_were_others(
    movies: NDArray[np.uint8], mouse: Mouse, cortex: VisualCortex
) -> None:
    np.testing.assert_array_equal(VisualCortex(movies, mouse, 0, session=0).frame(777), cortex.frame(777))
    drawn = cortex._session_rng(4, 777).standard_normal(3)
    np.testing.assert_array_equal(drawn, np.random.default_rng((0, 4, 777)).standard_normal(3))


def test_any_order_gives_the_same_frames(movies: NDArray[np.uint8], mouse: Mouse) -> None:
    forwards, backwards = VisualCortex(movies, mouse, 3), VisualCortex(movies, mouse, 3)
    order = [0, 1, 59, 60, 61, 500, 9_000, 30_000]
    last_first = [backwards.frame(k) for k in order[::-1]]
    np.testing.assert_array_equal([forwards.frame(k) for k in order], last_first[::-1])


def test_clips_are_shown_in_order_with_grey_between(cortex: VisualCortex) -> None:
    shown = [cortex.stimulus_at(k) for k in range(cortex.loop_frames)]
    expected = []
    for clip in range(CLIPS):
        expected += [(-1, -1)] * 15 + [(clip, frame) for frame in range(CLIP_FRAMES)]
    assert shown == expected
    assert cortex.stimulus_at(cortex.loop_frames + 20) == cortex.stimulus_at(20)


def test_labels_are_neurons(cortex: VisualCortex) -> None:
    labels = cortex.label_image
    assert labels.shape == (128, 128)
    assert labels.dtype == np.int32
    assert set(np.unique(labels)) == set(range(201))
    assert np.bincount(labels.ravel())[1:].min() >= 4


def test_counts_are_a_microscopes(cortex: VisualCortex) -> None:
    image = cortex.frame(0)
    assert image.shape == (128, 128)
    assert image.dtype == np.uint16
    somata = cortex.label_image > 0
    assert image[somata].mean() > 1.5 * image[~somata].mean() > 300
    assert image.max() < 65535


def test_rates_are_physiological(cortex: VisualCortex) -> None:
    rates = cortex.rates(np.arange(2 * cortex.loop_frames))
    assert rates.min() >= 0
    assert cortex.dff(np.arange(cortex.loop_frames)).max() < 15
    assert 0.3 < np.median(rates.mean(axis=0)) < 4.0
    assert 3.0 < np.median(rates.max(axis=0)) < 60.0
    assert np.median(rates.std(axis=0) / rates.mean(axis=0)) > 0.5  # selective


def test_rates_and_dff_take_any_shape(cortex: VisualCortex) -> None:
    index = np.array([[5, 100], [7, 3]])
    assert cortex.rates(index).shape == cortex.dff(index).shape == (2, 2, 200)
    np.testing.assert_array_equal(cortex.dff(index)[1, 0], cortex.dff(7))


def test_grey_leaves_neurons_at_rest(cortex: VisualCortex) -> None:
    rates = cortex.rates(np.arange(cortex.loop_frames))
    assert np.median(rates[:5]) < 1.0
    assert rates[15:315].mean() > 1.5 * rates[:5].mean()


def test_repetitions_share_the_stimulus_but_not_the_noise(cortex: VisualCortex) -> None:
    loop = np.arange(cortex.loop_frames)
    first, second = cortex.dff(loop + cortex.loop_frames), cortex.dff(loop + 2 * cortex.loop_frames)
    alike = [np.corrcoef(a, b)[0, 1] for a, b in zip(first.T, second.T, strict=True)]
    assert 0.1 < np.median(alike) < 0.8
    assert np.max(alike) < 0.98


def test_running_raises_responses(cortex: VisualCortex, mouse: Mouse) -> None:
    index = np.arange(3 * cortex.loop_frames)
    running = mouse.running(index / 30.0)
    rates = cortex.rates(index)
    assert rates[running].mean() > 1.2 * rates[~running].mean()


def test_fields_do_not_depend_on_the_movies(
    movies: NDArray[np.uint8], mouse: Mouse, cortex: VisualCortex
) -> None:
    alone = VisualCortex(movies[:1], mouse, seed=0)
    clip = np.arange(15, 315)
    np.testing.assert_allclose(alone.rates(clip), cortex.rates(clip), rtol=1e-3, atol=1e-3)


def test_images_show_the_true_calcium(cortex: VisualCortex, measured: NDArray[np.float64]) -> None:
    true = cortex.dff(np.arange(cortex.loop_frames))
    agreement = [np.corrcoef(a, b)[0, 1] for a, b in zip(true.T, measured.T, strict=True)]
    assert np.median(agreement) > 0.7


def test_ridge_reads_held_out_clips(mouse: Mouse, capsys: pytest.CaptureFixture[str]) -> None:
    movies = natural_movies(clips=30, frames=150, seed=0)  # a decoder learns from variety
    cortex = VisualCortex(movies, mouse, seed=0)
    dff = cortex.dff(np.arange(cortex.loop_frames))
    scaled = (dff - dff.mean(axis=0)) / dff.std(axis=0)
    starts = np.arange(len(scaled) - WINDOW_FRAMES)
    stimulus = np.array([cortex.stimulus_at(int(k)) for k in starts])
    starts, stimulus = starts[stimulus[:, 0] >= 0], stimulus[stimulus[:, 0] >= 0]
    windows = scaled[starts[:, None] + np.arange(WINDOW_FRAMES)].reshape(len(starts), -1)
    pixels = movies[stimulus[:, 0], stimulus[:, 1]].reshape(len(starts), -1).astype(np.float32)
    held_out = np.isin(stimulus[:, 0], HELD_OUT_CLIPS)
    model = Ridge(alpha=3e4).fit(windows[~held_out], pixels[~held_out])
    read, shown = model.predict(windows[held_out]), pixels[held_out]
    correlation = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(read, shown, strict=True)])
    with capsys.disabled():
        print(f"\nridge on held-out clips: pixel correlation {correlation:.3f}")  # noqa: T201
    assert correlation > 0.15


def test_what_does_not_fit_is_refused(movies: NDArray[np.uint8], mouse: Mouse) -> None:
    with pytest.raises(ConfigError, match="uint8"):
        VisualCortex(movies[0], mouse, 0)
    with pytest.raises(ConfigError, match="do not fit"):
        VisualCortex(movies, mouse, 0, neurons=5000)
