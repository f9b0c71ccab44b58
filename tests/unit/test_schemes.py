"""Who is trained on and who is scored; where answers and thresholds come from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.behavior import predictor
from decoders.behavior.evaluate import evaluate
from decoders.behavior.onsets import OnsetRule
from decoders.behavior.predictor import FitOptions
from decoders.behavior.runs import Request, variants
from decoders.behavior.schemes import Blocks, check_recordings, folds, same_rate
from decoders.behavior.scoring import summary
from decoders.datasets.behavior import BehaviorRecording
from rig.errors import DataError

RATE_HZ = 10.0
FRAMES = 1200


def recording(mouse, session, frames=FRAMES, seed=0, size=(32, 32), rate_hz=RATE_HZ):
    rng = np.random.default_rng(seed)
    running = np.repeat(rng.random(frames // 40 + 1) < 0.5, 40)[:frames]
    movie = rng.integers(0, 60, (frames, *size)) + 1000 + 40 * running[:, None, None]
    speed = np.where(running, 50.0, 0.0)
    return BehaviorRecording(
        mouse, session, Path(f"{session}.nwb"), rate_hz, movie.astype(np.uint16), running, speed
    )


@pytest.fixture(scope="module")
def mice():
    names = [("a", "a1"), ("a", "a2"), ("b", "b1"), ("c", "c1")]
    return [recording(mouse, session, seed=seed) for seed, (mouse, session) in enumerate(names)]


def sessions(excerpts):
    return sorted({excerpt.recording.session for excerpt in excerpts})


def test_published_is_all_ordered_pairs(mice):
    found = folds(mice, "published", "causal", Blocks())
    assert len(found) == 6
    assert len({fold.name for fold in found}) == 6
    first = next(fold for fold in found if fold.name == "b_valid-a")
    assert (sessions(first.training), sessions(first.validation), sessions(first.test)) == (
        ["c1"],
        ["a1", "a2"],
        ["b1"],
    )
    five = [recording(mouse, mouse, frames=40) for mouse in "abcde"]
    assert len(folds(five, "published", "cnn-gru", Blocks())) == 20, "as published"


def test_leave_one_animal_out_trains_on_all_others(mice):
    found = {fold.test_mouse: fold for fold in folds(mice, "leave-one-animal-out", "causal", Blocks())}
    assert sessions(found["b"].training) == ["a1", "a2", "c1"]
    assert found["b"].validation == ()
    assert sessions(found["a"].test) == ["a1", "a2"]


def test_models_that_choose_an_epoch_get_the_next_mouse_for_it(mice):
    found = {fold.test_mouse: fold for fold in folds(mice, "leave-one-animal-out", "roi-gru", Blocks())}
    assert (sessions(found["c"].training), sessions(found["c"].validation)) == (["b1"], ["a1", "a2"])
    two = [r for r in mice if r.mouse != "c"]
    assert all(not fold.validation for fold in folds(two, "leave-one-animal-out", "roi-gru", Blocks()))


@given(
    st.integers(2, 9),
    st.floats(0, 3),
    st.integers(400, 1200),
    st.sampled_from(["causal", "cnn-gru"]),
)
def test_blocks_cover_a_session_and_keep_their_distance(count, guard_s, frames, model):
    whole = recording("a", "a1", frames=frames, size=(4, 4))
    guard = round(guard_s * RATE_HZ)
    try:
        found = folds([whole], "within-session", model, Blocks(count, guard_s))
    except DataError:
        assert frames // count <= 2 * guard
        return
    tested = np.zeros(frames, int)
    for fold in found:
        (test,) = fold.test
        tested[test.frames] += 1
        held = np.zeros(frames, bool)
        held[max(0, test.start - guard) : test.stop + guard] = True
        for excerpt in (*fold.training, *fold.validation):
            assert len(excerpt) > 0
            assert not held[excerpt.frames].any()
        for valid in fold.validation:
            for excerpt in fold.training:
                assert excerpt.stop + guard <= valid.start or valid.stop + guard <= excerpt.start
        assert bool(fold.validation) == (model == "cnn-gru" and count >= 3)
    assert (tested == 1).all()


def test_too_few_mice_or_too_short_sessions(mice):
    with pytest.raises(DataError, match=r"leave-one-animal-out with mice b only; valid are 2 or more"):
        folds([mice[2]], "leave-one-animal-out", "causal", Blocks())
    with pytest.raises(DataError, match=r"published with mice a, b only; valid are 3 or more"):
        folds(mice[:3], "published", "causal", Blocks())
    with pytest.raises(DataError, match=r"b1\.nwb: 120 s in 5 blocks with guards of 20 s"):
        folds(mice[2:3], "within-session", "causal", Blocks(5, 20.0))


def test_recordings_that_cannot_be_scored_together(mice):
    with pytest.raises(
        DataError, match=r"x\.nwb: frames of 48x32 px at 10 Hz, but a1\.nwb has 32x32 px at 10 Hz"
    ):
        check_recordings([mice[0], recording("x", "x", size=(48, 32))])
    with pytest.raises(DataError, match=r"32x32 px at 20 Hz"):
        check_recordings([mice[0], recording("x", "x", rate_hz=20.0)])
    for value, word in ((False, "running"), (True, "rest")):
        constant = [replace(r, running=np.full(FRAMES, value)) for r in mice]
        with pytest.raises(DataError, match=f"4 recordings, 4800 frames without any {word}"):
            check_recordings(constant)
        check_recordings([*constant[:3], mice[3]])


def test_rates_that_were_measured_count_as_one(mice):
    rates_hz = (30.0052, 29.9997, 29.9986, 30.0)
    check_recordings([replace(one, rate_hz=hz) for one, hz in zip(mice, rates_hz, strict=True)])
    far_apart = [replace(one, rate_hz=hz) for one, hz in zip(mice, (30.0, 30.25, 29.75), strict=False)]
    with pytest.raises(DataError, match=r"b1\.nwb: .* at 29\.75 Hz, but a2\.nwb has 32x32 px at 30\.25 Hz"):
        check_recordings(far_apart)  # each is near the first; a fold may begin with either


@given(st.floats(1, 200), st.floats(0.98, 1.02))
def test_a_rate_is_the_same_in_both_directions(rate_hz, share):
    assert same_rate(rate_hz, share * rate_hz) == same_rate(share * rate_hz, rate_hz)
    if abs(share - 1) < 0.0099:
        assert same_rate(rate_hz, share * rate_hz)
    if abs(share - 1) > 0.0102:
        assert not same_rate(rate_hz, share * rate_hz)


@pytest.mark.parametrize("scheme", ["published", "leave-one-animal-out"])
def test_mice_whose_folds_would_have_one_name_are_refused(scheme):
    mice = [recording(mouse, f"session{k}", frames=40) for k, mouse in enumerate(("m_1", "m-1", "m2"))]
    with pytest.raises(
        DataError, match=r"mice 'm-1' and 'm_1' are both 'm-1' in the names of files; valid are"
    ):
        folds(mice, scheme, "causal", Blocks())
    assert len(folds([mice[0], mice[2], recording("m_3", "s", frames=40)], scheme, "causal", Blocks())) >= 3


def test_sessions_whose_folds_would_have_one_name_are_refused():
    sessions = [recording("a", "monday 1"), recording("b", "monday_1")]
    with pytest.raises(
        DataError, match=r"sessions 'monday 1' and 'monday_1' are both 'monday-1' in the names"
    ):
        folds(sessions, "within-session", "causal", Blocks())
    assert len(folds(sessions, "leave-one-animal-out", "causal", Blocks())) == 2, (
        "their names are in no file's"
    )


# --- answers put together, with a model that is known ---


class Known:
    """Says the truth with a bias; what it was fitted to is written into the bias."""

    def __init__(self, bias):
        self.bias = bias

    def predict(self, recording, occluded=None):
        probability = np.where(recording.running, 0.8, 0.2).astype(np.float32) + np.float32(self.bias)
        probability[:5] = np.nan
        return probability

    def save(self, path):
        path.write_text(str(self.bias))


FITTED = []


def fit_known(training, validation, options):
    FITTED.append([sessions(training), sessions(validation), options.seed])
    return Known(0.01 * options.seed)


@pytest.fixture
def known_model(monkeypatch):
    FITTED.clear()
    monkeypatch.setitem(predictor.MODELS, "known", f"{__name__}:fit_known")
    for kind in ("brightness", "logistic", "svm"):  # fast ones: what they are is tested elsewhere
        monkeypatch.setitem(predictor.MODELS, kind, predictor.MODELS["majority"])


def request(tmp_path, **changes):
    return Request("known", "leave-one-animal-out", FitOptions(tmp_path / "cache"), **changes)


def test_folds_are_kept_and_not_fitted_again(mice, known_model, tmp_path):
    asked = request(tmp_path, seeds=2)
    first = evaluate(mice, asked, tmp_path / "folds", tmp_path / "checkpoints")
    assert len(FITTED) == 6
    assert [seed for *_, seed in FITTED] == [0, 1] * 3
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [f"{mouse}_seed{seed}.npz" for mouse in "abc" for seed in (0, 1)]
    again = evaluate(mice, asked, tmp_path / "folds")
    assert len(FITTED) == 6
    for one, other in zip(first.runs["known"], again.runs["known"], strict=True):
        for a, b in zip(one.answers, other.answers, strict=True):
            np.testing.assert_array_equal(a.probability, b.probability)
    (tmp_path / "folds" / "a__known.npz").write_bytes(b"PK broken")
    with pytest.raises(DataError, match=r"a__known\.npz: a fold's result that cannot be read"):
        evaluate(mice, asked, tmp_path / "folds")


def test_seeds_are_averaged_and_told_one_by_one(mice, known_model, tmp_path):
    found = evaluate(mice, request(tmp_path, seeds=3), tmp_path / "folds")
    run = found.runs["known"][1]
    at_rest = ~run.answers[0].running & run.answers[0].known
    assert run.answers[0].probability[at_rest] == pytest.approx(0.21)
    assert [one[0].probability[at_rest][0] for one in run.seeds] == pytest.approx([0.2, 0.21, 0.22])
    assert [row["seed"] for row in summary(found, OnsetRule())["seeds"]] == [0, 1, 2]


def test_thresholds_come_from_other_animals(mice, known_model, tmp_path):
    found = evaluate(mice, request(tmp_path), tmp_path / "folds")
    for run in found.runs["known"]:
        for a in run.answers:
            assert np.unique(a.threshold) == pytest.approx([0.8])
            assert np.unique(a.alarm_threshold) == pytest.approx([0.8])


def test_all_models_are_scored_on_the_same_frames(mice, known_model, tmp_path):
    found = evaluate(mice, request(tmp_path), tmp_path / "folds")
    for label, runs in found.runs.items():
        assert [a.known.sum() for run in runs for a in run.answers] == [FRAMES - 30] * 4, label


def test_blocks_of_a_session_are_laid_end_to_end(mice, known_model, tmp_path):
    asked = replace(request(tmp_path), scheme="within-session", blocks=Blocks(4, 2.0))
    found = evaluate(mice, asked, tmp_path / "folds")
    assert [run.mouse for run in found.runs["known"]] == ["a", "b", "c"]
    assert [a.session for a in found.runs["known"][0].answers] == ["a1", "a2"]
    assert found.runs["known"][1].answers[0].known.sum() == FRAMES - 30
    report = summary(found, OnsetRule())
    assert report["mice"]["a"]["auc"] == 1.0
    assert set(report["mice"]["a"]["sessions"]) == {"a1", "a2"}
    assert len(report["mice"]["a"]["sessions"]["a1"]["blocks"]) == 4


def test_a_block_that_cannot_be_trained_around_is_skipped_and_the_rest_kept(known_model, tmp_path):
    whole = recording("a", "a1")
    running = np.zeros(FRAMES, np.bool_)
    running[310:350] = running[400:460] = True  # all of it in the second block of four
    found = evaluate(
        [replace(whole, running=running)],
        replace(request(tmp_path), scheme="within-session", blocks=Blocks(4, 2.0)),
        tmp_path / "folds",
    )
    report = summary(found, OnsetRule())
    assert report["skipped"] == {"a1_block2": "no running in what is trained on"}
    assert report["mice"]["a"]["auc"] is None
    assert report["mice"]["a"]["reasons"]["auc"] == "no running in the scored frames"
    assert report["mice"]["a"]["accuracy"] == 1.0
    assert report["mean"]["without_auc"] == ["a"]
    blocks = report["mice"]["a"]["sessions"]["a1"]["blocks"]
    assert {block["reason"] for block in blocks} == {"no running in the scored frames"}
    assert [block["auc"] for block in blocks] == [None] * len(blocks)


def test_a_session_without_running_keeps_the_others(mice, known_model, tmp_path):
    still = replace(mice[1], running=np.zeros(FRAMES, np.bool_))
    report = summary(
        evaluate([mice[0], still, *mice[2:]], request(tmp_path), tmp_path / "folds"), OnsetRule()
    )
    told = report["mice"]["a"]["sessions"]
    assert told["a2"]["auc"] is None
    assert told["a2"]["reasons"]["auc"] == "no running in the scored frames"
    assert told["a2"]["onsets"]["reasons"]["median_ms"] == "no onset after a second of rest"
    assert told["a1"]["auc"] == report["mice"]["a"]["auc"] == 1.0


def test_published_figures_are_means_over_a_mouses_models(mice, known_model, tmp_path):
    found = evaluate(mice, replace(request(tmp_path), scheme="published"), tmp_path / "folds")
    report = summary(found, OnsetRule())
    assert [row["run"] for row in report["mice"]["a"]["runs"]] == ["a_valid-b", "a_valid-c"]
    assert report["mice"]["a"]["auc"] == 1.0
    assert report["tests"]["runs"] == 6
    assert report["mean"]["onsets"]["median_ms"] == 0.0
    assert report["mean"]["onsets"]["at_own_threshold"]["false_alarms_per_min"] == 0.0


def test_what_is_fitted_for_a_sweep_and_for_another_window(tmp_path):
    options = FitOptions(tmp_path, window_s=1.0, epochs=2)
    found = variants(Request("causal", "published", options, seeds=2, sweep=True, all_baselines=True))
    assert list(found)[:5] == ["causal", "majority", "brightness", "logistic", "svm"]
    assert found["causal"].window_s == 1.0
    assert found["svm"].window_s == 0.17
    assert found["svm@1s"].window_s == 1.0
    assert found["causal@0.03s"].seeds == 2
    assert "roi-gru" in found
