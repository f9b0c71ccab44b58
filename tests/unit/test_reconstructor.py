"""Ways to reconstruct with something left out, and the folder in which finished movies are kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from decoders.datasets.movies import MovieMouse, MovieTrial, Trial
from decoders.reconstruction import invert
from decoders.reconstruction.ablations import ABLATIONS, MAIN, Variant, variants
from decoders.reconstruction.evaluate import Evaluation, others, summary
from decoders.reconstruction.linear_movies import TrainingTier
from decoders.reconstruction.mask import selected
from decoders.reconstruction.reconstructor import Reconstructor, _thinned
from decoders.reconstruction.scored_clips import ScoredClip, ScoredMouse, scored_clips, scored_mice
from decoders.reconstruction.similarity import compare, smooth
from decoders.reconstruction.stimuli import Grid
from rig.errors import CheckpointError, ConfigError, DataError
from rig.simulation.movies import natural_movies
from tests.unit.few_filters import FewFilters, made_up

pytestmark = pytest.mark.usefixtures("one_thread")

FRAMES, STEPS = 40, 20
PATHS = [Path("first.npz"), Path("second.npz")]


@pytest.fixture(scope="module")
def models():
    return [made_up(0), made_up(5)]


@pytest.fixture(scope="module")
def mouse(models):
    """Six trials of four movies: two to train on, one of these shown in the oracle tier too, two more there."""
    movies = [np.moveaxis(movie, 0, -1).astype(np.float32) for movie in natural_movies(4, FRAMES, 1)]
    draw = np.random.default_rng(0)
    behavior, pupil_center = 0.3 * draw.normal(size=(2, 2, FRAMES)).astype(np.float32)

    def trial(name, tier, clip):
        answers = models[0].predict(movies[clip], behavior, pupil_center)
        noise = draw.normal(0, 0.2, answers.shape).astype(np.float32)
        whole = Trial(movies[clip], answers + noise, behavior + clip, pupil_center)
        return MovieTrial("mouse", name, tier, f"movie {clip}", lambda: whole)

    shown = [("train", 0), ("train", 1), ("oracle", 1), ("oracle", 2), ("oracle", 3), ("oracle", 2)]
    trials = tuple(trial(str(at), tier, clip) for at, (tier, clip) in enumerate(shown))
    return MovieMouse(
        "mouse", "mouse", Path("data/mouse"), 48, 30.0, trials, np.ones(48, np.float32), "simulated"
    )


@pytest.fixture(scope="module")
def mask():
    mask = np.zeros((36, 64), np.float32)
    mask[4:30, 4:40] = 0.7
    mask[8:26, 8:36] = 1.2
    return mask


def clip_of(mouse, at=3, mask=None):
    return ScoredClip(ScoredMouse(mouse, 0, mask), mouse.trials[at])


def maker(models, folder, recipe="published", iterations=STEPS):
    return Reconstructor(tuple(models), recipe, iterations, folder)


def made(make, clip, variant, tier=None):
    return [one.movie for one in make(clip, clip.load(), variant, tier)]


# --- which ablations ---


def test_all_ablations_are_those_that_are_possible():
    everything = variants(["all"], 3, masked=True, recipe="published")
    names = [variant.name for variant in everything]
    assert names == [
        MAIN,
        "ensemble 1",
        "ensemble 2",
        "population 50 %",
        "population 25 %",
        "population 12.5 %",
        "no mask",
        "strict mask",
        "gradient ensembling",
        "noise-free responses",
        "without behaviour",
    ]
    few = variants(["all"], 1, masked=False, recipe="fast")
    assert [variant.name for variant in few[1:]] == [
        "population 50 %",
        "population 25 %",
        "population 12.5 %",
        "noise-free responses",
        "without behaviour",
        "not along the motion",
    ]
    assert variants([], 1, masked=False, recipe="fast") == [Variant()]
    assert variants(["behavior", "behavior"], 1, masked=False, recipe="fast") == [
        Variant(),
        Variant("without behaviour", behavior="mean"),
    ]


def test_the_published_figures_stand_beside_what_they_are_of():
    published = {v.name: v.published for v in variants(["all"], 7, masked=True, recipe="published")}
    assert published["all"] == 0.569
    assert published["noise-free responses"] == 0.766
    assert published["population 50 %"] == 0.512
    assert published["population 12.5 %"] == 0.344
    assert published["without behaviour"] is None
    assert published["ensemble 3"] is None
    assert published["no mask"] < published["strict mask"] < published["gradient ensembling"] < 0.569


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("noise", f"--ablation noise: unknown; valid: {', '.join(ABLATIONS)}, all"),
        ("ensemble", "--ablation ensemble: needs two encoders or more"),
        ("mask", "--ablation mask: needs a mask; give --mask"),
        ("gradient-ensembling", "--ablation gradient-ensembling: needs two encoders or more"),
    ],
)
def test_an_ablation_that_cannot_be_made_is_refused(name, told):
    with pytest.raises(ConfigError) as refused:
        variants([name], 1, masked=False, recipe="published")
    assert str(refused.value) == told


def test_gradients_are_averaged_by_the_published_recipe_alone():
    with pytest.raises(
        ConfigError, match="is of the published recipe, not of 'fast'; give --recipe published"
    ):
        variants(["gradient-ensembling"], 2, masked=False, recipe="fast")


def test_the_average_along_the_motion_is_left_out_only_where_it_is():
    with pytest.raises(ConfigError, match=r"--ablation motion: compares .*; leave out --no-motion"):
        variants(["motion"], 2, masked=False, recipe="fast", motion=False)
    names = [way.name for way in variants(["all"], 2, masked=False, recipe="fast", motion=False)]
    assert "not along the motion" not in names


# --- what each of them is ---


def test_everything_is_what_invert_gives(models, mouse, mask, tmp_path):
    clip = clip_of(mouse, mask=mask)
    trial = clip.load()
    (movie,) = made(maker(models, tmp_path), clip, Variant())
    expected = invert(
        models,
        trial.responses,
        trial.behavior,
        trial.pupil_center,
        mouse=0,
        mask=mask,
        recipe="published",
        iterations=STEPS,
        progress=False,
    )
    np.testing.assert_allclose(movie, expected, atol=0.1)  # kept in half precision
    assert np.ptp(movie) > 2


def test_a_part_of_the_population_is_known_and_the_same_part_every_time(mouse):
    clip = clip_of(mouse)
    responses = clip.load().responses
    kept = [np.isfinite(_thinned(clip, responses, share)).all(axis=1) for share in (0.5, 0.25, 0.125)]
    assert [int(neurons.sum()) for neurons in kept] == [24, 12, 6]
    assert (kept[0] >= kept[1]).all()
    assert (kept[1] >= kept[2]).all()
    np.testing.assert_array_equal(np.isfinite(_thinned(clip, responses, 0.25)).all(axis=1), kept[1])
    assert np.isfinite(responses).all()


def test_the_dropped_neurons_are_left_out_and_not_asked_to_be_silent(models, mouse, tmp_path):
    clip = clip_of(mouse)
    trial = clip.load()
    half = Variant("population 50 %", population=0.5)
    (movie,) = made(maker(models[:1], tmp_path), clip, half)
    known = np.isfinite(_thinned(clip, trial.responses, 0.5)).all(axis=1)
    fewer = FewFilters(models[0].filters[torch.from_numpy(known)])
    alone = invert(
        fewer,
        trial.responses[known],
        trial.behavior,
        trial.pupil_center,
        mouse=0,
        recipe="published",
        iterations=STEPS,
        progress=False,
    )
    np.testing.assert_allclose(movie, alone, atol=0.2)


def test_an_ensemble_of_movies_is_their_mean_and_costs_nothing_more(models, mouse, tmp_path):
    make, clip = maker(models, tmp_path), clip_of(mouse)
    (both,) = made(make, clip, Variant())
    for model in models:
        model.calls.clear()
    alone = made(make, clip, Variant("ensemble 1", models=1))
    assert len(alone) == 2
    assert not any(model.calls for model in models), "they were made for the whole ensemble"
    np.testing.assert_allclose(both, np.mean(alone, axis=0), atol=1e-3)
    by_gradients = made(make, clip, Variant("gradient ensembling", gradients=True))[0]
    assert np.abs(by_gradients - both).max() > 0.1


def test_masks_of_the_ablations(models, mouse, mask, tmp_path):
    make, clip = maker(models[:1], tmp_path), clip_of(mouse, mask=mask)
    changed = {}
    for variant in (Variant(), Variant("no mask", mask="none"), Variant("strict mask", mask="strict")):
        changed[variant.name] = (made(make, clip, variant)[0] != 127.5).any(axis=0)
    assert changed["all"].sum() <= (mask >= 0.5).sum()
    assert not changed["all"][mask < 0.5].any()
    assert not changed["strict mask"][mask < 1].any()
    assert changed["strict mask"][10:20, 10:20].all()
    assert changed["no mask"][mask < 0.5].any()
    np.testing.assert_array_equal(clip.of.scored, selected(mask, (36, 64), 1.0))


def test_noise_free_responses_are_what_the_encoders_predict(models, mouse, tmp_path):
    clip = clip_of(mouse)
    trial = clip.load()
    movie, recorded = (
        made(maker(models[:1], tmp_path), clip, variant)[0]
        for variant in (Variant("noise-free responses", responses="predicted"), Variant())
    )
    known = trial.behavior, trial.pupil_center
    answers = models[0].predict(trial.video, *known)
    expected = invert(
        models[0], answers, *known, mouse=0, recipe="published", iterations=STEPS, progress=False
    )
    np.testing.assert_allclose(movie, expected, atol=0.1)
    assert np.abs(movie - recorded).max() > 1


def test_without_behaviour_it_is_the_mean_of_the_training_tier(models, mouse, tmp_path):
    make, clip = maker(models[:1], tmp_path), clip_of(mouse)
    trial = clip.load()
    tier = TrainingTier.of(source.load() for source in mouse.trials[:2])
    np.testing.assert_allclose(tier.behavior, trial.behavior.mean(axis=1) - 2 + 0.5, atol=1e-5)
    np.testing.assert_allclose(
        tier.mean_frame, np.mean([t.load().video.mean(axis=-1) for t in mouse.trials[:2]], axis=0), rtol=1e-5
    )
    (movie,) = made(make, clip, Variant("without behaviour", behavior="mean"), tier)
    constant = np.repeat(tier.behavior[:, None], FRAMES, 1), np.repeat(tier.pupil_center[:, None], FRAMES, 1)
    expected = invert(
        models[0], trial.responses, *constant, mouse=0, recipe="published", iterations=STEPS, progress=False
    )
    np.testing.assert_allclose(movie, expected, atol=0.1)


# --- what is kept ---


def test_a_finished_movie_is_not_made_again(models, mouse, tmp_path):
    make, clip = maker(models[:1], tmp_path), clip_of(mouse)
    first = make(clip, clip.load(), Variant())[0]
    models[0].calls.clear()
    again = make(clip, clip.load(), Variant())[0]
    assert not models[0].calls
    np.testing.assert_array_equal(again.movie, first.movie)
    assert again.seconds == first.seconds > 0
    assert not list((tmp_path / "unfinished").iterdir())


def test_a_kept_movie_that_is_damaged_is_named(models, mouse, tmp_path):
    make, clip = maker(models[:1], tmp_path), clip_of(mouse)
    make(clip, clip.load(), Variant())
    (kept,) = (tmp_path / "movies" / MAIN).iterdir()
    kept.write_bytes(kept.read_bytes()[:900])
    with pytest.raises(
        DataError, match=r"mouse-3\.npz: damaged or cut short; delete it to have it made anew"
    ):
        make(clip, clip.load(), Variant())
    np.savez(kept, movie=np.zeros((7, 36, 64)), seconds=1.0)
    with pytest.raises(DataError, match=r"\(7, 36, 64\) is no movie of 40 frames"):
        make(clip, clip.load(), Variant())


def test_the_trial_that_cannot_be_inverted_is_named(models, mouse, tmp_path):
    clip = clip_of(mouse)
    unknown = replace(clip.load(), responses=np.full((48, FRAMES), np.nan, np.float32))
    with pytest.raises(DataError, match=r"data/mouse: trial '3': responses are all NaN"):
        maker(models, tmp_path)(clip, unknown, Variant())


# --- which presentations ---


def test_the_first_presentation_of_each_movie_or_all(mouse):
    mice = [ScoredMouse(mouse, 0, None)]
    first, every, some, named = (
        [clip.name for clip in scored_clips(mice, "oracle", most, repeats=repeats, names=names)]
        for most, repeats, names in (
            (None, False, ()),
            (None, True, ()),
            (1, False, ()),
            (None, True, ["0", "4"]),
        )
    )
    assert first == ["mouse/2", "mouse/3", "mouse/4"]
    assert every == ["mouse/2", "mouse/3", "mouse/4", "mouse/5"]
    assert some == ["mouse/2"]
    assert named == ["mouse/0", "mouse/4"]
    with pytest.raises(DataError, match="no trial '9'; valid: 0, 1, 2"):
        scored_clips(mice, "oracle", None, repeats=True, names=["9"])
    with pytest.raises(DataError, match="data/mouse: no trial of tier 'none'; it has oracle, train"):
        scored_clips(mice, "none", None, repeats=True)


def test_what_is_compared_with_is_another_movie_of_the_same_mouse(mouse):
    clips = scored_clips([ScoredMouse(mouse, 0, None)], "oracle", None, repeats=True)
    assert [one.trial.clip for one in clips] == ["movie 1", "movie 2", "movie 3", "movie 2"]
    assert [one.trial.clip for one in others(clips)] == ["movie 2", "movie 3", "movie 2", "movie 1"]
    assert others(clips[:1]) == [None]


def test_nothing_scored_is_trained_on(mouse):
    assert [trial.name for trial in clip_of(mouse, 3).training()] == ["0"], (
        "trial 1 shows a movie of the oracle tier"
    )
    assert [trial.name for trial in clip_of(mouse, 0).training()] == []
    assert clip_of(mouse, 3).trained_without == clip_of(mouse, 4).trained_without
    assert clip_of(mouse, 0).trained_without != clip_of(mouse, 1).trained_without


def test_a_clip_too_short_to_be_scored_is_named(mouse):
    whole = mouse.trials[3].load()
    short = Trial(
        *(array[..., :31] for array in (whole.video, whole.responses, whole.behavior, whole.pupil_center))
    )
    clip = ScoredClip(ScoredMouse(mouse, 0, None), replace(mouse.trials[3], read=lambda: short))
    with pytest.raises(
        DataError, match=r"data/mouse: trial '3' has 31 frames, of which the first 30 are not scored"
    ):
        clip.load()


def test_encoders_have_to_know_the_mice_and_number_them_alike(models, mouse):
    class Named(FewFilters):
        mice = ("other", "mouse")
        neurons = (48, 48)

    (found,) = scored_mice([mouse], models, PATHS, None)
    assert found.index == 0, "a file without names, of one mouse with as many neurons"
    named = Named(models[0].filters)
    assert scored_mice([mouse], [named], PATHS[:1], None)[0].index == 1
    with pytest.raises(
        CheckpointError, match=r"another number in each encoder \(first.npz: 0, second.npz: 1\)"
    ):
        scored_mice([mouse], [models[0], named], PATHS, None)
    with pytest.raises(
        CheckpointError,
        match=r"first.npz: does not know mouse 'mouse' with 48 neurons; it knows a mouse \(7\)",
    ):
        scored_mice([mouse], [FewFilters(models[0].filters[:7])], PATHS[:1], None)


def test_a_mask_that_scores_nothing_is_refused(models, mouse, tmp_path):
    np.save(tmp_path / "mouse.npy", np.full((36, 64), 0.7, np.float32))
    with pytest.raises(DataError, match=r"mouse\.npy: no pixel of 1 or more, so none would be scored"):
        scored_mice([mouse], models[:1], PATHS[:1], tmp_path)


# --- the scores of a clip ---


@pytest.fixture(scope="module")
def score(models, mouse, mask, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores")
    ways = [Variant(), Variant("ensemble 1", models=1)]
    clips = scored_clips([ScoredMouse(mouse, 0, mask)], "oracle", 2, repeats=False)
    evaluation = Evaluation(maker(models, folder), ways, 0.5, folder / "maps")
    steps = []
    scores = [
        evaluation.score(clip, other, steps.append) for clip, other in zip(clips, others(clips), strict=True)
    ]
    assert steps == [1] * 4
    return clips, evaluation, scores, summary(scores, ways)


def test_the_figures_of_a_clip_are_of_its_smoothed_movie_in_the_mask(score, mouse, mask):
    clips, evaluation, scores, _ = score
    shown = np.moveaxis(clips[0].load().video, -1, 0)
    found = evaluation.make(clips[0], clips[0].load(), Variant())[0].movie
    assert scores[0].figures["correlation"] == compare(shown, smooth(found), mask >= 1).correlation
    assert scores[0].figures["correlation_unsmoothed"] == compare(shown, found, mask >= 1).correlation
    other = np.moveaxis(clips[1].load().video, -1, 0)
    assert scores[0].baselines["mismatched"] == compare(other, smooth(found), mask >= 1).correlation
    mean = np.broadcast_to(mouse.trials[0].load().video.mean(axis=-1), shown.shape)
    assert scores[0].baselines["mean_frame"] == pytest.approx(
        compare(shown, mean, mask >= 1).correlation, abs=1e-4
    )
    assert "linear" not in scores[0].baselines, "there is one training movie alone"


def test_the_reconstruction_explains_the_responses_better_than_chance(score):
    for clip in score[2]:
        assert 0.05 < clip.figures["fit_from_reconstruction"] < 1
        assert 0.5 < clip.figures["fit_from_true"] < 1


def test_a_summary_is_the_mean_of_its_clips(score):
    _, _, scores, told = score
    values = [one.figures["correlation"] for one in scores]
    assert told["correlation"]["mean"] == pytest.approx(np.mean(values))
    assert told["correlation"]["mice"] == {"mouse": told["correlation"]["mean"]}
    assert told["correlation"]["clips"] == dict(zip(("mouse/2", "mouse/3"), values, strict=True))
    alone = [one.ablations["ensemble 1"] for one in scores]
    ablation = told["ablations"]["ensemble 1"]
    assert ablation["difference"]["mean"] == pytest.approx(np.mean(np.subtract(alone, values)))
    assert ablation["published_difference"] == pytest.approx(0.44 - 0.569)
    assert told["seconds_per_clip"] == pytest.approx(np.mean([one.seconds for one in scores]))
    assert set(told["departures"]) == {"mouse/2", "mouse/3"}


def test_stimuli_are_kept_for_their_blur(models, mouse, tmp_path):
    grid = Grid("gratings", (0.125,), (3.75, 0.0))
    clip, steps = clip_of(mouse), []

    def correlations(smoothing):
        evaluation = Evaluation(maker(models[:1], tmp_path), [Variant()], smoothing, None)
        return evaluation.surface(grid, clip, 2, steps.append).correlation

    first = correlations(0.5)
    assert first.shape == (1, 2)
    assert (first > 0).all()
    models[0].calls.clear()
    np.testing.assert_array_equal(correlations(0.5), first)
    assert not models[0].calls
    assert (correlations(3.0) != first).all()
    assert steps == [1] * 6
