"""The published reconstruction through a small encoder whose movies are known, and what it refuses."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.datasets.movie_trials import MovieTrial, Trial
from decoders.reconstruction import invert
from decoders.reconstruction.mask import load_mask, save_mask, selected, train_mask
from decoders.reconstruction.problem import InversionOptions, InversionProblem
from decoders.reconstruction.published_inversion import (
    PublishedRecipe,
    invert_published,
    reconstruct,
    window_starts,
)
from rig.errors import DataError
from tests.unit.few_filters import FewFilters, made_up

FRAMES = 40
SHORT = PublishedRecipe(iterations=12, windows_at_once=8)


@pytest.fixture(scope="module")
def encoder():
    return made_up(0)


@pytest.fixture(scope="module")
def clip(encoder):
    """A grating that drifts, and what the neurons answer to it."""
    draw = np.random.default_rng(1)
    phase = np.arange(64)[:, None] / 12 + np.arange(FRAMES) / 6
    video = np.broadcast_to(127.5 + 100 * np.sin(phase), (36, 64, FRAMES)).astype(np.float32)
    behavior, pupil_center = draw.normal(0, 0.3, (2, 2, FRAMES)).astype(np.float32)
    return {
        "video": video,
        "responses": encoder.predict(video, behavior, pupil_center),
        "behavior": behavior,
        "pupil_center": pupil_center,
    }


def problem_of(encoders, clip, **changes):
    values = {name: clip[name] for name in ("responses", "behavior", "pupil_center")} | {"mouse": 0} | changes
    return InversionProblem.of(encoders, **values)


def correlation(movie, clip, columns=slice(48)):
    shown = np.moveaxis(clip["video"], -1, 0)
    return np.corrcoef(movie[..., columns].ravel(), shown[..., columns].ravel())[0, 1]


def test_the_movie_comes_back_where_neurons_look(encoder, clip):
    movie = invert(
        encoder,
        clip["responses"],
        clip["behavior"],
        clip["pupil_center"],
        mouse=0,
        recipe="published",
        iterations=60,
        progress=False,
    )
    assert (movie.shape, movie.dtype) == ((FRAMES, 36, 64), np.float32)
    assert movie.min() >= 0
    assert movie.max() <= 255
    assert correlation(movie, clip) > 0.8 > correlation(movie, clip, slice(60, 64))


@pytest.mark.parametrize("loss", ["poisson", "squared"])
def test_windows_computed_together_are_windows_computed_apart(encoder, clip, loss):
    problem = problem_of([encoder], clip)
    together, apart = (
        reconstruct([encoder], problem, replace(SHORT, loss=loss, batched=batched))
        for batched in (True, False)
    )
    np.testing.assert_allclose(together, apart, rtol=0, atol=0.01)
    assert np.ptp(apart) > 1


def test_an_ensemble_is_the_mean_of_its_movies_and_not_of_its_gradients(encoder, clip):
    models = [encoder, made_up(5)]
    problem, options = problem_of(models, clip), InversionOptions(progress=False)
    recipe = replace(SHORT, learning_rate=1e5)  # small steps would lead to the same movie
    alone = [invert_published([model], problem, options, recipe) for model in models]
    np.testing.assert_allclose(
        invert_published(models, problem, options, recipe), np.mean(alone, axis=0), atol=1e-3
    )
    by_gradients = invert_published(models, problem, options, replace(recipe, models="gradients"))
    assert np.abs(by_gradients - np.mean(alone, axis=0)).max() > 0.1


def test_unknown_neurons_are_left_out_not_asked_to_be_silent(encoder, clip):
    kept = np.arange(48) < 30
    unknown = np.where(kept[:, None], clip["responses"], np.nan)
    fewer = FewFilters(encoder.filters[:30])
    expected = reconstruct([fewer], problem_of([fewer], clip, responses=unknown[:30]), SHORT)
    movie = reconstruct([encoder], problem_of([encoder], clip, responses=unknown), SHORT)
    np.testing.assert_allclose(movie, expected, rtol=0, atol=0.01)
    silent = np.where(kept[:, None], clip["responses"], 0)
    assert (
        np.abs(reconstruct([encoder], problem_of([encoder], clip, responses=silent), SHORT) - movie).max()
        > 0.1
    )


def test_moments_without_a_response_are_left_grey_and_break_nothing(encoder, clip):
    responses = clip["responses"].copy()
    responses[:, :36] = np.nan  # the windows that begin at 0 and 4 know 0 and 4 frames
    movie = reconstruct([encoder], problem_of([encoder], clip, responses=responses), SHORT)
    assert np.isfinite(movie).all()
    assert (movie[:30] == 127.5).all()
    assert np.ptp(movie[37:]) > 1


@pytest.mark.parametrize("shape", [(36, 64), (64, 64)])
def test_pixels_outside_the_mask_stay_grey(encoder, clip, shape):
    mask = np.zeros(shape, np.float32)
    top = (shape[0] - 36) // 2
    mask[top + 10 : top + 20, 20:30] = 0.5
    movie = reconstruct([encoder], problem_of([encoder], clip, mask=mask), SHORT)
    inside = np.zeros((36, 64), bool)
    inside[10:20, 20:30] = True
    assert (movie[:, ~inside] == 127.5).all()
    assert (movie[-1, inside] != 127.5).all()


@given(frames=st.integers(1, 400), window=st.integers(1, 40), stride=st.integers(1, 40))
def test_windows_cover_a_clip_to_its_last_frame(frames, window, stride):
    window = min(window, frames)
    starts = window_starts(frames, window, stride)
    assert starts[0] == 0
    assert starts[-1] == frames - window
    assert all(0 < after - before <= stride for before, after in itertools.pairwise(starts))


def test_the_published_windows():
    assert window_starts(300, 32, 8) == [*range(0, 265, 8), 268]


def test_a_reconstruction_that_was_broken_off_goes_on(encoder, clip, tmp_path):
    options = InversionOptions(folder=tmp_path / "state", save_every=2, progress=False)
    models = [encoder, made_up(5)]
    problem = problem_of(models, clip)
    whole = invert_published(models, problem, InversionOptions(progress=False), SHORT)
    broken = [encoder, replace(models[1], breaks_at=8)]
    with pytest.raises(KeyboardInterrupt):
        invert_published(broken, problem, options, SHORT)
    assert len(list(options.folder.glob("*.npz"))) == 2
    encoder.calls.clear()
    models[1].calls.clear()
    np.testing.assert_allclose(invert_published(models, problem, options, SHORT), whole, rtol=0, atol=1e-3)
    assert len(encoder.calls) == 1  # the first model was finished: only asked whether it is the same
    assert 1 < len(models[1].calls) < 12
    assert not list(options.folder.iterdir())


def test_a_kept_state_of_another_encoder_or_a_damaged_one_is_refused(encoder, clip, tmp_path):
    options = InversionOptions(folder=tmp_path, save_every=2, progress=False)
    problem = problem_of([encoder], clip)
    with pytest.raises(KeyboardInterrupt):
        invert_published([replace(encoder, breaks_at=8)], problem, options, SHORT)
    with pytest.raises(DataError, match="by another encoder; delete it"):
        invert_published([made_up(5)], problem, options, SHORT)
    (state,) = tmp_path.iterdir()
    state.write_bytes(state.read_bytes()[:500])
    with pytest.raises(DataError, match="cannot be resumed from"):
        invert_published([encoder], problem, options, SHORT)


def test_another_clip_starts_anew_in_the_same_folder(encoder, clip, tmp_path):
    options = InversionOptions(folder=tmp_path, save_every=2, progress=False)
    with pytest.raises(KeyboardInterrupt):
        invert_published([replace(encoder, breaks_at=8)], problem_of([encoder], clip), options, SHORT)
    problem = problem_of([encoder], clip, behavior=clip["behavior"] + 0.1)
    expected = invert_published([encoder], problem, InversionOptions(progress=False), SHORT)
    np.testing.assert_array_equal(invert_published([encoder], problem, options, SHORT), expected)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"recipe": "slow"}, "recipe 'slow' is unknown; valid is"),
        (
            {"preview": "preview.npz"},
            "recipe 'published' begins at grey, as published; valid with a preview is",
        ),
        ({"iterations": 0}, "iterations is 0; valid is 1 or more"),
        ({"encoders": []}, "no encoder was given"),
        ({"mouse": 1}, "mouse 1: unknown to the encoder; valid are 0 to 0"),
        ({"responses": np.ones((7, FRAMES))}, f"responses is 7 x {FRAMES}; valid is 48 x {FRAMES}"),
        ({"responses": np.ones((48, 2))}, "a clip of 2 frames; valid for this encoder is 3 or more"),
        ({"responses": np.full((48, FRAMES), np.nan)}, "responses are all NaN"),
        ({"responses": np.full((48, FRAMES), np.inf)}, "responses has 1920 values that are not finite"),
        ({"responses": "many"}, "responses are not numbers"),
        ({"behavior": np.ones((1, FRAMES))}, f"behavior is 1 x {FRAMES}; valid is 2 x {FRAMES}"),
        ({"pupil_center": np.full((2, FRAMES), np.nan)}, "pupil_center has 80 values that are not finite"),
        ({"mask": np.ones((30, 64))}, "mask is 30 x 64; valid is 36 x 64 or 64 x 64"),
        ({"mask": np.full((36, 64), 0.4)}, "mask has no pixel of 0.5 or more, its largest is 0.4"),
        ({"mask": np.full((36, 64), np.nan)}, "mask has 2304 values that are not finite"),
        ({"behavior": np.full((2, FRAMES), 3e38)}, "the loss became"),
    ],
)
def test_what_cannot_be_inverted_is_refused_in_one_line(encoder, clip, changes, told):
    values = {name: clip[name] for name in ("responses", "behavior", "pupil_center")}
    call = {"encoders": encoder, "mouse": 0, "recipe": "published", "iterations": 3, **values, **changes}
    with pytest.raises(DataError, match=told) as refused:
        invert(call.pop("encoders"), *(call.pop(name) for name in values), progress=False, **call)
    assert "\n" not in str(refused.value)


def trials_of(encoder, count, frames=90):
    draw = np.random.default_rng(3)
    videos = draw.uniform(0, 255, (count, 9, 16, frames)).repeat(4, 1).repeat(4, 2).astype(np.float32)
    still = np.zeros((2, frames), np.float32)
    trials = [Trial(video, encoder.predict(video, still, still), still, still) for video in videos]
    return [
        MovieTrial("mouse", str(at), "train", str(at), lambda trial=trial: trial)
        for at, trial in enumerate(trials)
    ]


def test_the_mask_grows_where_the_neurons_look(encoder):
    mask = train_mask(encoder, 0, trials_of(encoder, 6), steps=60, learning_rate=40.0, progress=False)
    assert (mask.shape, mask.dtype) == ((36, 64), np.float32)
    assert mask[:, 8:40].mean() > mask[:, 58:].mean() + 0.1


def test_trials_that_no_mask_can_be_learnt_from_are_refused(encoder):
    trials = trials_of(encoder, 2)
    with pytest.raises(DataError, match="1 trials to learn a mask from; valid is 2 or more"):
        train_mask(encoder, 0, trials[:1])
    with pytest.raises(
        DataError, match=r"trial '[01]' of mouse 'mouse': responses is 48 x 20; valid is 48 x 32"
    ):
        train_mask(encoder, 0, trials_of(encoder, 2, frames=70), progress=False)


def test_a_mask_is_kept_and_selects_by_its_threshold(tmp_path):
    mask = np.zeros((64, 64), np.float32)
    mask[14, :3] = 0.4, 0.5, 1.2
    save_mask(tmp_path / "mask.npy", mask)
    kept = load_mask(tmp_path / "mask.npy")
    np.testing.assert_array_equal(kept, mask)
    assert np.flatnonzero(selected(kept, (36, 64), 0.5)).tolist() == [1, 2]
    assert np.flatnonzero(selected(kept[14:50], (64, 64), 1.0)).tolist() == [14 * 64 + 2]
    assert selected(None, (64, 64), 0.5).sum() == 36 * 64
    with pytest.raises(DataError, match="exists already"):
        save_mask(tmp_path / "mask.npy", mask)


@given(kept=st.integers(0, 36 * 64 * 4 + 127))
def test_a_mask_that_was_cut_short_is_refused(tmp_path_factory, kept):
    path = tmp_path_factory.mktemp("masks") / "mask.npy"
    np.save(path, np.ones((36, 64), np.float32))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match="not a mask, or cut short") as refused:
        load_mask(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (np.ones((36, 60)), "mask is 36 x 60; valid is 36 x 64 or 64 x 64"),
        (np.array([["a"] * 64] * 36), "not a mask"),
        (np.zeros((36, 64)), "no pixel of 0.5 or more"),
        (np.array([{"any": "thing"}]), "not a mask"),
    ],
)
def test_a_file_that_is_no_mask_is_refused(tmp_path, content, told):
    np.save(tmp_path / "mask.npy", content)
    with pytest.raises(DataError, match=told):
        load_mask(tmp_path / "mask.npy")
