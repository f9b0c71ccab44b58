"""The layout of Sensorium 2023: what is read, which movies are one, and what is refused."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from decoders.datasets.clips import same_movies, thumbnail
from decoders.datasets.movies import open_movies, split_by_clip
from rig.errors import DataError
from rig.simulation.movies import natural_movies
from tests.unit.sensorium_layout import LONGEST, NEURONS, save, sensorium_mouse, write_trial

TIERS = ["train", "oracle", "train", "train", "oracle", "train"]


@pytest.fixture
def mouse(tmp_path):
    return sensorium_mouse(tmp_path / "mouse-a", TIERS)


@pytest.fixture(scope="module")
def movies():
    """Twelve movies, (36, 64, 120) each."""
    return [np.moveaxis(movie, 0, -1).astype(np.float32) for movie in natural_movies(12, 120, seed=11)]


def refused(folder):
    with pytest.raises(DataError) as caught:
        [trial.load() for trial in open_movies(folder, "sensorium")[0].trials]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def brighter(video):
    return np.clip(1.3 * video + 20, 0, 255)


def shifted(video):
    return np.concatenate([video[..., 1:], video[..., -1:]], axis=2)


def cropped(video):
    return ndimage.zoom(video[2:-2, 3:-3], (36 / 32, 64 / 58, 1), order=1)


# --- reading ---


def test_a_mouse(mouse):
    (found,) = open_movies(mouse.parent, "sensorium")
    assert (found.name, found.path, found.neurons, found.rate_hz) == ("mouse-a", mouse, NEURONS, 30.0)
    assert [(trial.mouse, trial.name, trial.tier) for trial in found.trials] == [
        ("mouse-a", str(k), tier) for k, tier in enumerate(TIERS)
    ]
    assert [trial.name for trial in found.of_tier("oracle")] == ["1", "4"]
    assert len({trial.clip for trial in found.trials}) == len(TIERS)
    with pytest.raises(DataError, match=r"no trial of tier 'none'; it has oracle, train"):
        found.of_tier("none")


def test_padding_is_cut_off(mouse):
    trial = open_movies(mouse, "sensorium")[0].trials[2].load()
    for kind, array, shape in (
        ("videos", trial.video, (36, 64, 60)),
        ("responses", trial.responses, (NEURONS, 60)),
        ("behavior", trial.behavior, (2, 60)),
        ("pupil_center", trial.pupil_center, (2, 60)),
    ):
        assert (array.shape, array.dtype) == (shape, np.float32)
        stored = np.load(mouse / "data" / kind / "2.npy")
        assert stored.shape[-1] == LONGEST
        np.testing.assert_array_equal(array, stored[..., :60])


def test_std_is_the_publishers_or_computed_over_training_trials(mouse):
    trained = [np.load(mouse / "data" / "responses" / f"{k}.npy")[:, :60] for k in (0, 2, 3, 5)]
    expected = np.concatenate(trained, axis=1).std(axis=1)
    np.testing.assert_allclose(open_movies(mouse, "sensorium")[0].response_std, expected, rtol=1e-5)
    save(mouse / "meta" / "statistics" / "responses" / "all" / "std.npy", np.arange(1.0, 6.0))
    np.testing.assert_array_equal(open_movies(mouse, "sensorium")[0].response_std, np.arange(1.0, 6.0))


def test_trials_without_responses_are_left_out(mouse):
    (mouse / "data" / "responses" / "4.npy").unlink()
    assert [trial.name for trial in open_movies(mouse, "sensorium")[0].trials] == ["0", "1", "2", "3", "5"]


def test_reliability(mouse):
    assert open_movies(mouse, "sensorium")[0].reliability() is None  # nothing is repeated
    video = np.load(mouse / "data" / "videos" / "1.npy")[..., :60]
    write_trial(mouse, 4, video, seed=1)  # the same responses again
    for trial in (1, 4):
        file = mouse / "data" / "responses" / f"{trial}.npy"
        responses = np.load(file)
        responses[0, :60] = 3.0  # a neuron that stands still
        responses[1] *= 1 if trial == 1 else -1
        np.save(file, responses)
    reliability = open_movies(mouse, "sensorium")[0].reliability()
    np.testing.assert_allclose(reliability[2:], 1.0, atol=1e-5)
    assert reliability[0] == pytest.approx(0.0, abs=1e-5)
    assert reliability[1] < 0


# --- which movie ---


def test_near_duplicates_are_one_movie_and_others_are_not(movies):
    copies = [change(movies[k]) for k, change in enumerate((brighter, shifted, cropped))]
    groups = same_movies(thumbnail(video) for video in [*movies, *copies, movies[3][..., :90]])
    assert groups.tolist() == [*range(12), 0, 1, 2, 3]


def test_what_is_the_same_as_a_third_is_the_same():
    first, last = np.linalg.qr(np.random.default_rng(2).normal(size=(400, 3)))[0].T[1:].reshape(2, 2, 200)
    turns = np.linspace(0, np.pi / 2, 6)  # steps of 18 degrees: neighbours correlate by 0.95
    chain = [np.float32(np.cos(turn) * first + np.sin(turn) * last) * 100 for turn in turns]
    assert same_movies([chain[0], chain[-1]]).tolist() == [0, 1]
    assert same_movies([chain[0], chain[-1], *chain[1:-1]]).tolist() == [0] * 6


@given(gain=st.floats(0.2, 3.0), offset=st.floats(-50.0, 50.0), short=st.integers(0, 40))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_light_contrast_and_length_do_not_matter(movies, gain, offset, short):
    changed = gain * movies[5][..., : 120 - short] + offset
    assert same_movies([thumbnail(movies[4]), thumbnail(movies[5]), thumbnail(changed)]).tolist() == [0, 1, 1]


def test_a_split_leaks_no_near_duplicate(movies, tmp_path):
    shown = [
        *movies,
        *(change(movies[k]) for k, change in enumerate((brighter, shifted, cropped, brighter, shifted))),
    ]
    for trial, video in enumerate(shown):
        write_trial(tmp_path / "m", trial, video)
    tiers = ["train"] * len(shown)
    tiers[11], tiers[16] = "oracle", "oracle"  # trial 16 is a shifted copy of training trial 4
    save(tmp_path / "m" / "meta" / "trials" / "tiers.npy", np.array(tiers))
    (mouse,) = open_movies(tmp_path, "sensorium")
    same = [{k, 12 + k} for k in range(4)]
    held_out_counts = []
    for seed in range(20):
        fit, held_out = split_by_clip(mouse, 0.3, seed)
        names = {int(trial.name) for trial in fit}, {int(trial.name) for trial in held_out}
        assert names[0] | names[1] == set(range(16)) - {4, 11}
        assert not names[0] & names[1]
        assert all(pair <= names[0] or pair <= names[1] for pair in same)
        assert held_out == split_by_clip(mouse, 0.3, seed)[1]
        held_out_counts.append(len({trial.clip for trial in held_out}))
    assert 2 < np.mean(held_out_counts) < 4  # of ten
    assert len(set(held_out_counts)) > 1


def test_two_mice_that_saw_the_same_movies_are_split_alike(tmp_path):
    for name in ("a", "b"):
        sensorium_mouse(tmp_path / name, ["train"] * 9)
    held_out = [split_by_clip(mouse, 0.4, 3)[1] for mouse in open_movies(tmp_path, "sensorium")]
    assert [trial.clip for trial in held_out[0]] == [trial.clip for trial in held_out[1]]


@pytest.mark.parametrize(("share", "says"), [(0.0, "held-out share 0.0"), (1.0, "held-out share 1.0")])
def test_a_share_that_leaves_nothing(mouse, share, says):
    with pytest.raises(DataError, match=says):
        split_by_clip(open_movies(mouse, "sensorium")[0], share, 0)


def test_a_single_movie_cannot_be_split(tmp_path):
    sensorium_mouse(tmp_path / "m", ["train", "oracle"])
    with pytest.raises(DataError, match="1 different movies to train on; valid is 2 or more"):
        split_by_clip(open_movies(tmp_path, "sensorium")[0], 0.5, 0)


# --- what is refused ---


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=st.floats(0.0, 0.999), kind=st.sampled_from(["videos", "responses", "behavior", "pupil_center"]))
def test_a_file_cut_short_is_named(mouse, kind, kept):
    file = mouse / "data" / kind / "0.npy"
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[: int(kept * len(whole))])
        assert f"{file}: cut short" in refused(mouse)
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize(
    ("place", "change", "says"),
    [
        (
            "meta/trials/tiers.npy",
            lambda a: np.array([*TIERS[:-1], "test"]),
            "trial 5 has tier 'test'; valid are",
        ),
        ("meta/trials/tiers.npy", lambda a: a.astype(object), "cut short, or no array of numbers or strings"),
        ("meta/trials/tiers.npy", lambda a: np.arange(6), "int64 (6,); valid are strings"),
        ("data/behavior/0.npy", lambda a: np.full_like(a, np.nan), "all NaN"),
        ("data/responses/0.npy", lambda a: np.full_like(a, np.nan), "all NaN"),
        ("data/videos/0.npy", lambda a: np.full_like(a, np.nan), "all NaN"),
        ("data/behavior/0.npy", lambda a: a[:1], "is (1, 70); valid is (2, T)"),
        ("data/videos/0.npy", lambda a: a[:20], "is (20, 64, 70); valid is (36, 64, T)"),
        ("data/videos/0.npy", lambda a: a * 2, "valid are grey levels, 0 to 255"),
        (
            "data/responses/6.npy",
            lambda a: np.ones((5, 70)),
            "a trial without a tier; valid is one of the 6 in",
        ),
        ("data/pupil_center/3.npy", lambda a: a[:, :65], "65 frames, its video has 70"),
        ("data/responses/3.npy", lambda a: a[:, :40], "40 frames, its video has 70"),
        ("data/responses/3.npy", lambda a: a[:4], "4 neurons, the mouse's first trial has 5"),
        ("data/responses/0.npy", lambda a: a[None], "float32 (1, 5, 70); valid are numbers in 2 dimensions"),
        ("data/videos/2.npy", lambda a: a[0], "valid are numbers (36, 64, T)"),
        ("data/pupil_center/1.npy", lambda a: np.where(np.arange(70) == 7, np.inf, a), "first at (0, 7)"),
        (
            "data/responses/1.npy",
            lambda a: np.where(np.arange(5)[:, None] == 2, np.nan, a),
            "first at (2, 0)",
        ),
        ("meta/statistics/responses/all/std.npy", lambda a: np.ones(4), "(4,); valid are 5 numbers"),
    ],
)
def test_a_wrong_array_is_named(mouse, place, change, says):
    file = mouse / place
    old = np.load(file) if file.exists() else None
    save(file, change(old))
    message = refused(mouse)
    assert str(file) in message
    assert says in message


@pytest.mark.parametrize("kind", ["videos", "behavior", "pupil_center"])
def test_missing_files_are_named(mouse, kind):
    (mouse / "data" / kind / "3.npy").unlink()
    assert f"{mouse / 'data' / kind / '3.npy'}: missing, as {kind} of 1 trials" in refused(mouse)
    for file in (mouse / "data" / kind).iterdir():
        file.unlink()
    (mouse / "data" / kind).rmdir()
    assert f"{mouse / 'data' / kind}: missing" in refused(mouse)


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(DataError, match="no mouse in it"):
        open_movies(tmp_path, "sensorium")
    with pytest.raises(DataError, match="no such folder"):
        open_movies(tmp_path / "nowhere", "sensorium")
