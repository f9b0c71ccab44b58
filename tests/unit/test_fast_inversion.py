"""The fast recipe: its prior, its noise of responses, its stretches and tiles, and the movies that it finds."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from decoders.datasets.movie_trials import MovieTrial, Trial
from decoders.reconstruction import invert, knowledge
from decoders.reconstruction.dwiseneuro import DwiseNeuro, DwiseNeuroConfig, initialise
from decoders.reconstruction.dwiseneuro_encoder import DwiseNeuroEncoder
from decoders.reconstruction.fast_inversion import FastRecipe, invert_fast, stretches, tile_starts
from decoders.reconstruction.light_encoder import LightConfig, LightEncoder, LightNetwork
from decoders.reconstruction.linear_movies import fit_linear
from decoders.reconstruction.movie_prior import MoviePrior, MovieSpace
from decoders.reconstruction.problem import InversionOptions, InversionProblem
from decoders.reconstruction.response_noise import ResponseNoise, filtered
from decoders.reconstruction.similarity import compare, smooth
from rig.errors import DataError
from rig.simulation.movies import natural_movies
from tests.unit.few_filters import made_up

pytestmark = pytest.mark.usefixtures("one_thread")

FRAMES, NEURONS = 70, 60
QUIET = InversionOptions(progress=False)
EVERYWHERE = np.ones((36, 64), bool)


@pytest.fixture(scope="module")
def movies():
    """The first is to be found; the others are known (T, 36, 64)."""
    return natural_movies(7, FRAMES, 5).astype(np.float32)


@pytest.fixture(scope="module")
def light(movies):
    """A light encoder whose neurons look at places and patterns by chance, and that knows the other movies."""
    torch.manual_seed(0)
    network = LightNetwork(LightConfig((NEURONS,), stride_px=4, features=2, hidden=2))
    readout = network.readout(0)
    with torch.no_grad():
        readout.place.copy_(
            torch.rand(NEURONS, 2) * torch.tensor([size - 1.0 for size in network.config.cells])
        )
        readout.log_width.fill_(-1.0)
        torch.nn.init.normal_(readout.weight, 0.0, 1.0)
        readout.weight[:, 24:] *= 0.2
        torch.nn.init.normal_(readout.gain, 0.0, 0.3)
    encoder = LightEncoder(network.eval().requires_grad_(False), ("mouse",), knowledge.movies(movies[1:]))
    answers = trial_of(encoder, movies[0]).responses
    encoder.knowledge["noise_mouse"] = (0.05 * answers.var(axis=1)).astype(np.float32)
    return encoder


def trial_of(encoder, movie):
    """What the encoder answers to a movie, without noise."""
    behavior, pupil_center = 0.3 * np.random.default_rng(0).normal(size=(2, 2, len(movie))).astype(np.float32)
    video = np.moveaxis(movie, 0, -1)
    return Trial(video, encoder.predict(video, behavior, pupil_center), behavior, pupil_center)


def problem_of(encoder, trial, **changes):
    given = {name: getattr(trial, name) for name in ("responses", "behavior", "pupil_center")} | changes
    return InversionProblem.of([encoder], **given, mouse=0)


@pytest.fixture(scope="module")
def filters():
    return made_up(0)


@pytest.fixture(scope="module")
def short(filters, movies):
    """A trial of 40 frames."""
    return trial_of(filters, movies[0][:40])


# --- the movies' prior ---


@pytest.mark.parametrize("frames", [1, 2, 17])
def test_the_transform_of_movies_is_orthonormal(frames):
    draw = torch.Generator().manual_seed(0)
    flat = MoviePrior(
        np.zeros((36, 64), np.float32), np.ones((36, 64), np.float32), np.zeros((36, 64), np.float32)
    )
    space = MovieSpace.of(flat, frames, EVERYWHERE, torch.device("cpu"))
    z = torch.randn(frames, 36, 64, generator=draw)
    torch.testing.assert_close(space.movie(z).norm(), z.norm(), rtol=1e-5, atol=0)
    torch.testing.assert_close(space.gradient(space.movie(z)), z, rtol=1e-4, atol=1e-4)


def test_the_gradient_is_the_adjoint_of_the_movie_and_what_autograd_says():
    draw = torch.Generator().manual_seed(1)
    shown = np.zeros((36, 64), bool)
    shown[5:30, 10:50] = True
    space = MovieSpace.of(MoviePrior.natural(), 9, shown, torch.device("cpu"))
    z, other = (torch.randn(9, 36, 64, generator=draw) for _ in range(2))
    of_z = float(((space.movie(z) - space.mean) * other).sum())
    assert float((z * space.gradient(other)).sum()) == pytest.approx(of_z, rel=1e-4)
    z.requires_grad_()
    (expected,) = torch.autograd.grad((space.movie(z) * other).sum(), z)
    torch.testing.assert_close(space.gradient(other), expected, rtol=1e-4, atol=1e-3)


def test_movies_of_the_prior_have_its_power_and_its_memory():
    parts = (np.full((36, 64), value, np.float32) for value in (100.0, 4.0, 0.8))
    space = MovieSpace.of(MoviePrior(*parts), 400, EVERYWHERE, torch.device("cpu"))
    z = torch.randn(400, 36, 64, generator=torch.Generator().manual_seed(2))
    movie = space.movie(z).numpy()
    assert movie.mean() == pytest.approx(100, abs=0.1)
    assert movie.var() == pytest.approx(4, rel=0.03)
    centred = movie - movie.mean()
    assert (centred[1:] * centred[:-1]).mean() / movie.var() == pytest.approx(0.8, abs=0.02)


def test_the_prior_is_that_of_the_encoders_movies_or_of_natural_ones(light, filters, movies):
    known = MoviePrior.of(light)
    np.testing.assert_allclose(known.mean, movies[1:].mean(axis=(0, 1)), atol=0.01)
    natural = MoviePrior.of(filters)
    assert natural.power[0, 0] > natural.power[3, 3] > natural.power[30, 60] > 0
    assert natural.lag1[0, 1] > natural.lag1[10, 10] > 0


# --- the responses' noise ---


def noise_of(encoder, responses, common=0.0, order=6):
    return ResponseNoise.of(encoder, 0, responses, torch.device("cpu"), common, order)


def test_noise_that_lasts_is_made_white(filters):
    draw = np.random.default_rng(0)
    lasting = np.zeros((48, 2000))
    for now in range(1, 2000):
        lasting[:, now] = 0.75 * lasting[:, now - 1] + draw.normal(size=48)
    scales = draw.uniform(0.5, 4, (48, 1))
    noise = noise_of(filters, (scales * lasting + 7).astype(np.float32))
    np.testing.assert_allclose(noise.spread[:, 0], scales[:, 0] * lasting.std(axis=1), rtol=1e-3)
    white = filtered(torch.from_numpy(scales * lasting).float() / noise.spread, noise.whitener).numpy()

    def memory(values):
        lags = range(1, 6)
        return [(values[:, lag:] * values[:, :-lag]).mean() / (values**2).mean() for lag in lags]

    assert memory(lasting)[0] > 0.7
    np.testing.assert_allclose(memory(white), 0, atol=0.06)
    assert (white**2).mean() == pytest.approx(1, abs=0.1)


def test_the_misfit_is_the_likelihood_of_noise_with_a_common_part(filters):
    draw = np.random.default_rng(1)
    responses, answers = draw.gamma(2, 1, (2, 48, 25)).astype(np.float32)
    common = 0.2
    noise = noise_of(filters, responses, common, order=0)
    deviations = (responses - answers) / noise.spread.numpy() * float(noise.whitener[0])
    covariance = np.eye(48) + common / (1 - common)
    expected = 0.5 * np.sum(deviations * np.linalg.solve(covariance, deviations))
    assert float(noise.misfit(torch.from_numpy(answers))) == pytest.approx(expected, rel=1e-4)


def test_noise_of_an_encoder_that_knows_it_is_taken_from_there(light, movies):
    trial = trial_of(light, movies[0])
    noise = noise_of(light, trial.responses)
    np.testing.assert_allclose(noise.spread[:, 0] ** 2, light.knowledge["noise_mouse"], rtol=1e-4)


def test_a_neuron_counts_from_where_its_filter_is_filled(filters):
    responses = np.random.default_rng(2).gamma(2, 1, (48, 30)).astype(np.float32)
    responses[:, 10] = np.nan
    noise = noise_of(filters, responses, order=3)
    answers = torch.full((48, 30), 1.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(noise.misfit(answers), answers)
    assert (gradient[:, 10] == 0).all()
    changed = answers.detach().clone()
    changed[:, 11:13] += 5  # only predict what comes after them
    alone = noise_of(filters, np.where(np.arange(30) < 13, responses, np.nan), order=3)
    apart = [float(alone.misfit(values)) for values in (answers.detach(), changed)]
    assert apart[0] == pytest.approx(apart[1])


# --- stretches and tiles ---


@given(
    frames=st.integers(1, 2000),
    longest=st.integers(1, 400),
    overlap=st.integers(1, 100),
    shortest=st.integers(1, 60),
)
def test_stretches_weigh_every_frame_once(frames, longest, overlap, shortest):
    parts = stretches(frames, longest, overlap, shortest)
    total = np.zeros(frames)
    for part, weight in parts:
        assert weight.shape == (part.stop - part.start,)
        assert (weight >= 0).all()
        assert part.stop - part.start >= min(frames, shortest)
        assert part.stop - part.start <= max(longest, shortest + overlap)
        total[part] += weight
    np.testing.assert_allclose(total, 1, atol=1e-5)


@given(frames=st.integers(1, 500), tile=st.integers(1, 80), iteration=st.integers(0, 50))
def test_tiles_cover_every_frame_at_every_iteration(frames, tile, iteration):
    tile = min(tile, frames)
    covered = np.zeros(frames, int)
    for start in tile_starts(frames, tile, iteration):
        assert 0 <= start <= frames - tile
        covered[start : start + tile] += 1
    assert covered.min() >= 1
    assert covered.max() <= 3


def test_no_frame_is_always_at_the_edge_of_a_tile():
    edges = [set(tile_starts(300, 32, iteration)) for iteration in range(8)]
    assert set.intersection(*edges) == {0, 268}


def test_memory_does_not_grow_with_the_clip_beyond_a_stretch(filters, movies):
    recipe = FastRecipe(iterations=2, stretch=40, overlap=10)
    longest = []
    for clip in (movies[0], np.concatenate(movies[:3])):
        filters.calls.clear()
        invert_fast([filters], problem_of(filters, trial_of(filters, clip)), QUIET, recipe)
        shapes = [
            shape for shape in filters.calls if shape[2] != len(clip)
        ]  # those of the answers themselves
        assert len(shapes) >= 2 * (len(clip) - 10) // 30
        longest.append(max(shape[2] for shape in shapes))
    assert longest == [40, 40]


def test_a_movie_worked_out_in_stretches_is_nearly_the_whole(filters, movies):
    trial = trial_of(filters, movies[1])
    problem = problem_of(filters, trial)
    whole, parts = (
        invert_fast(
            [filters], problem, QUIET, FastRecipe(iterations=20, stretch=stretch, overlap=20, motion=())
        )
        for stretch in (300, 45)
    )
    assert np.corrcoef(whole.ravel(), parts.ravel())[0, 1] > 0.85  # a short stretch knows its noise less well
    steps = np.abs(np.diff(parts, axis=0)).mean(axis=(1, 2))
    assert steps[25:45].max() < 2 * np.median(steps)  # no cut where one stretch fades into the other


# --- the movies found ---


def test_a_movie_comes_back_better_than_by_ridge_or_grey(light, movies):
    trial = trial_of(light, movies[0])
    known = [
        MovieTrial("mouse", str(k), "train", str(k), lambda k=k: trial_of(light, movies[k]))
        for k in range(1, len(movies))
    ]
    found = invert(light, trial.responses, trial.behavior, trial.pupil_center, mouse=0, progress=False)
    assert (found.shape, found.dtype) == ((FRAMES, 36, 64), np.float32)
    assert 0 <= found.min() < found.max() <= 255
    grey = np.broadcast_to(light.knowledge["movie_mean"], found.shape)
    ours, ridge, start = (
        compare(movies[0], movie).correlation
        for movie in (smooth(found), smooth(fit_linear(known)(trial.responses)), grey)
    )
    assert ours > ridge + 0.04
    assert ours > start + 0.3


def test_unknown_neurons_are_left_out_whatever_they_would_have_answered(light, movies):
    trial = trial_of(light, movies[0][:40])
    responses = trial.responses.copy()
    responses[::3] = np.nan
    other = replace(light, network=copy.deepcopy(light.network))
    with torch.no_grad():
        other.network.readout(0).weight[::3].normal_(0, 3)
    found, changed = (
        invert_fast([model], problem_of(model, trial, responses=responses), QUIET, FastRecipe(iterations=4))
        for model in (light, other)
    )
    np.testing.assert_array_equal(found, changed)
    with torch.no_grad():
        other.network.readout(0).weight[1].normal_(0, 3)  # one that is known
    seen = invert_fast(
        [other], problem_of(other, trial, responses=responses), QUIET, FastRecipe(iterations=4)
    )
    assert np.abs(seen - found).max() > 0.1


def test_a_stretch_without_a_response_is_what_movies_are_on_average(filters, movies):
    trial = trial_of(filters, movies[0])
    responses = trial.responses.copy()
    responses[:, 25:] = np.nan
    recipe = FastRecipe(iterations=5, stretch=30, overlap=10)
    found = invert_fast([filters], problem_of(filters, trial, responses=responses), QUIET, recipe)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(
        found[-20:], np.broadcast_to(MoviePrior.natural().mean, (20, 36, 64)), atol=0.5
    )
    assert np.ptp(found[:20]) > 5


def test_an_ensemble_averages_what_its_models_find(filters, short):
    models = [filters, made_up(5)]
    problem, recipe = problem_of(filters, short), FastRecipe(iterations=5)
    alone = [invert_fast([model], problem, QUIET, recipe) for model in models]
    np.testing.assert_allclose(invert_fast(models, problem, QUIET, recipe), np.mean(alone, axis=0), atol=1e-3)
    assert np.abs(alone[0] - alone[1]).max() > 1


def read(movie, error=10.0):
    """The prior around a movie that a preview has read, wrong by so many grey levels at every pixel."""
    parts = (np.full((36, 64), value, np.float32) for value in (error**2, 0.8))
    return MoviePrior(movie, *parts)


def test_what_a_preview_read_is_kept_where_responses_say_nothing_else(filters, movies):
    trial = trial_of(filters, movies[0])
    begun = replace(problem_of(filters, trial), prior=read(movies[1]))
    recipe = FastRecipe(iterations=5, stretch=30, overlap=10, motion=())
    deaf = invert_fast([filters], begun, QUIET, replace(recipe, trust_again=0))
    np.testing.assert_allclose(deaf, movies[1], atol=1e-3)  # also where stretches meet
    heard = invert_fast([filters], begun, QUIET, recipe)
    assert np.abs(heard - movies[1]).max() > 5


def test_responses_are_believed_more_where_the_movie_is_averaged_afterwards(filters, movies):
    trial = trial_of(filters, movies[0][:20])
    asked = problem_of(filters, trial)
    for problem in (asked, replace(asked, prior=read(movies[1][:20]))):
        recipe = FastRecipe(iterations=4, motion=(1e-9,), averaged=3.0)  # so short a window averages nothing
        still = invert_fast([filters], problem, replace(QUIET, motion=False), replace(recipe, motion=(8.0,)))
        along = invert_fast([filters], problem, QUIET, replace(recipe, motion=()))
        np.testing.assert_array_equal(still, along)
        closer = invert_fast([filters], problem, QUIET, recipe)
        plain = FastRecipe(iterations=4, motion=(), trust=3.0, trust_again=3 * 0.35)
        np.testing.assert_array_equal(closer, invert_fast([filters], problem, QUIET, plain))
        assert np.abs(closer - still).max() > 1


def test_a_movie_is_found_better_from_what_a_preview_read(light, movies):
    trial = trial_of(light, movies[0])
    draw = np.random.default_rng(0)
    coarse = movies[0] + draw.normal(0, 1000, movies[0].shape).astype(np.float32)
    begun = smooth(coarse, 4)
    errors = knowledge.movies([movies[0] - begun])
    prior = MoviePrior(begun, errors["movie_power"], errors["movie_lag1"])
    problem = problem_of(light, trial)
    plain, better = (
        compare(movies[0], invert_fast([light], asked, QUIET)).correlation
        for asked in (problem, replace(problem, prior=prior))
    )
    assert better > plain
    assert better > compare(movies[0], begun).correlation


def test_pixels_outside_the_mask_stay_as_movies_are_on_average(filters, short):
    mask = np.zeros((36, 64), np.float32)
    mask[10:20, 20:30] = 0.6
    found = invert_fast([filters], problem_of(filters, short, mask=mask), QUIET, FastRecipe(iterations=3))
    outside = mask < 0.5
    mean = np.broadcast_to(MoviePrior.natural().mean, found.shape)
    np.testing.assert_array_equal(found[:, outside], mean[:, outside])
    assert np.abs(found - mean)[:, ~outside].max() > 1


def test_an_interrupted_reconstruction_goes_on_to_the_same_movie(filters, short, tmp_path):
    recipe = FastRecipe(iterations=8, stretch=25, overlap=10)
    models = [filters, made_up(5)]
    problem = problem_of(filters, short)
    options = InversionOptions(folder=tmp_path / "state", save_every=3, progress=False)
    whole = invert_fast(models, problem, QUIET, recipe)
    with pytest.raises(KeyboardInterrupt):
        invert_fast([models[0], replace(models[1], breaks_at=9)], problem, options, recipe)
    kept = sorted(path.name for path in options.folder.iterdir())
    assert [name.rsplit("-", 1)[0] for name in kept] == ["fast-0-0", "fast-0-15", "fast-1-0"]
    filters.calls.clear()
    np.testing.assert_allclose(invert_fast(models, problem, options, recipe), whole, atol=1e-3)
    assert len(filters.calls) == 2  # a finished stretch is only asked whether it is of the same model
    assert not list(options.folder.iterdir())


def test_a_network_that_answers_by_windows_is_given_tiles(movies):
    torch.manual_seed(3)
    config = DwiseNeuroConfig(
        readout_outputs=(6,),
        core_features=(4, 6),
        spatial_strides=(4, 4),
        expansion_ratio=1,
        se_reduce_ratio=4,
        cortex_features=(8,),
    )
    network = DwiseNeuro(config)
    initialise(network)
    encoder = DwiseNeuroEncoder(network.eval().requires_grad_(False), 4, 2, (64, 64), 0.0, ("",))
    trial = trial_of(encoder, movies[0][:30])
    found = invert_fast([encoder], problem_of(encoder, trial), QUIET, FastRecipe(iterations=4))
    assert found.shape == (30, 36, 64)
    assert np.isfinite(found).all()
    mean = np.broadcast_to(MoviePrior.natural().mean, found.shape)
    assert np.abs(found - mean).max(axis=(1, 2)).min() > 0.1, "every frame was looked for"


@pytest.mark.parametrize("value", [3e38, 1e25])
def test_a_loss_that_is_not_finite_is_said(light, movies, value):
    trial = trial_of(light, movies[0][:40])
    with pytest.raises(DataError, match=r"the loss became (inf|nan) at iteration 0; check responses"):
        invert(
            light,
            np.full_like(trial.responses, value),
            trial.behavior,
            trial.pupil_center,
            mouse=0,
            progress=False,
        )
