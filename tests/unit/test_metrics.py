"""Figures of run/rest models, on answers whose figures are known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from decoders.behavior import metrics
from decoders.behavior.chance import block_samples, compare, delay_interval, holm, shifted_null
from decoders.behavior.metrics import (
    Answers,
    area_under_curve,
    best_threshold,
    calibration_error,
    score_frames,
)
from decoders.behavior.onsets import (
    OnsetRule,
    OnsetScore,
    at_threshold,
    decide,
    lowest_threshold,
    score_onsets,
    trade_off,
)

RATE_HZ = 10.0
labels = arrays(np.bool_, 60)
probabilities = arrays(np.float64, 60, elements=st.floats(0, 1))


def bits(text):
    """`.` rest or off, `#` running or on, ten to a second."""
    return np.array([letter == "#" for letter in text])


def answers(probability, running, threshold=0.5, rate_hz=RATE_HZ):
    probability, running = np.asarray(probability, np.float32), np.asarray(running, np.bool_)
    each = np.full(len(running), threshold)
    return Answers("mouse", "session", rate_hz, probability, running, each, each)


def onsets(decision, running, known=None):
    known = np.ones(len(running), np.bool_) if known is None else known
    return score_onsets(bits(decision), known, bits(running), RATE_HZ)


def test_area_under_curve_counts_pairs():
    values, positive = np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, True, False, True])
    assert area_under_curve(values, positive) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert np.isnan(area_under_curve(values, np.ones(4, np.bool_)))


@given(probabilities, labels)
def test_area_under_curve_knows_only_the_order(values, positive):
    auc = area_under_curve(values, positive)
    levels = np.unique(values, return_inverse=True)[1].astype(float)
    assert area_under_curve(np.exp(levels / 10) - 3, positive) == pytest.approx(auc, nan_ok=True)
    assert area_under_curve(-values, positive) == pytest.approx(1 - auc, nan_ok=True)


@given(probabilities, labels)
def test_area_under_curve_is_the_area_of_the_roc_curve(values, positive):
    if positive.any() and not positive.all():
        false, true = metrics.roc_curve(values, positive)
        assert np.trapezoid(true, false) == pytest.approx(area_under_curve(values, positive))


@given(probabilities, labels)
def test_no_threshold_is_better_than_the_best(values, positive):
    def accuracy(threshold):
        return np.mean((values >= threshold) == positive)

    best = accuracy(best_threshold(values, positive))
    assert best >= max(accuracy(threshold) for threshold in [*values, np.inf]) - 1e-12


@given(probabilities, labels)
def test_youden_threshold_has_the_largest_sum(values, positive):
    threshold = metrics.youden_threshold(values, positive)
    if not positive.any() or positive.all():
        assert np.isnan(threshold)
        return

    def total(at):
        return np.mean(values[positive] >= at) + np.mean(values[~positive] < at)

    assert total(threshold) >= max(total(at) for at in [*values, np.inf]) - 1e-12


def test_calibration_error_by_hand():
    probability = np.array([0.9, 0.9, 0.9, 0.9, 0.1, 0.1])
    running = np.array([True, True, True, False, False, False])
    assert calibration_error(probability, running) == pytest.approx((4 * 0.15 + 2 * 0.1) / 6)
    assert calibration_error(np.ones(3), np.ones(3, np.bool_)) == 0


def test_scores_by_hand_leave_unknown_frames_out():
    score = metrics.score_frames(
        [answers([0.9, 0.2, np.nan, 0.6], [True, False, True, False], threshold=0.7)]
    )
    assert (score.frames, score.accuracy, score.accuracy_calibrated) == (3, pytest.approx(2 / 3), 1.0)
    assert score.brier == pytest.approx((0.01 + 0.04 + 0.36) / 3)
    assert (score.auc, score.accuracy_own_majority) == (1.0, pytest.approx(2 / 3))


def test_scores_without_running_or_without_answers_have_no_auc():
    score = metrics.score_frames([answers([0.9, 0.2], [False, False])])
    assert np.isnan(score.auc)
    assert (score.accuracy, score.run_fraction) == (0.5, 0.0)
    nothing = metrics.score_frames([answers([np.nan, np.nan], [True, False])])
    assert nothing.frames == 0
    assert np.isnan(nothing.accuracy)


# --- onsets and false alarms: 10 frames a second, an onset needs 10 frames of rest, 5 are anticipation ---

REST, RUN = "." * 20, "#" * 30


def test_delay_is_counted_from_the_onset():
    score = onsets(REST + "..." + "#" * 27 + REST, REST + RUN + REST)
    assert score.delays_ms.tolist() == [300.0]
    assert (score.missed, score.false_alarms) == (0, 0)
    assert score.rest_min == pytest.approx((15 + 15) / 10 / 60)


def test_a_decision_shortly_before_the_onset_is_anticipation():
    score = onsets("." * 15 + "#" * 35 + REST, REST + RUN + REST)
    assert (score.delays_ms.tolist(), score.false_alarms, score.already_on) == ([0.0], 0, 0)


def test_a_decision_long_before_the_onset_is_a_false_alarm_and_a_miss():
    score = onsets("." * 14 + "#" * 36 + REST, REST + RUN + REST)
    assert (score.missed, score.false_alarms, score.already_on) == (1, 1, 1)
    assert score.median_ms == np.inf


def test_always_deciding_for_running_is_no_good_at_all():
    score = onsets("#" * 100, REST + RUN + REST + RUN)
    assert (score.missed, score.false_alarms) == (2, 2)


def test_too_late_is_missed():
    assert onsets("." * 40 + "#" * 30, REST + RUN + REST).missed == 1
    assert onsets("." * 39 + "#" * 31, REST + RUN + REST).delays_ms.tolist() == [1900.0]
    assert onsets("." * 28 + "##" + "." * 20, REST + "#" * 8 + REST + "..").missed == 1, (
        "after the bout's end"
    )


def test_an_onset_after_too_little_rest_is_none():
    assert len(onsets("#" * 65, "##" + "." * 9 + RUN + "." * 24).delays_ms) == 0
    assert len(onsets("#" * 66, "##" + "." * 10 + RUN + "." * 24).delays_ms) == 1


def test_an_onset_cut_off_by_the_end_or_by_unknown_frames_is_left_out():
    assert len(onsets("." * 39, REST + "#" * 19).delays_ms) == 0
    known = np.ones(70, np.bool_)
    known[25] = False
    assert len(onsets("." * 70, REST + RUN + REST, known).delays_ms) == 0


def test_flicker_after_a_bout_is_no_false_alarm_but_later_is():
    decision = REST + RUN + "...#." + "..#......#" + "....."
    assert onsets(decision, REST + RUN + REST).false_alarms == 2


def test_decisions_may_have_to_hold():
    assert (
        decide(np.array([0.9, 0.9, 0.1, 0.9, 0.9, 0.9, np.nan]), 0.5, 3).tolist() == bits(".....#.").tolist()
    )
    assert decide(np.array([0.2, 0.6]), np.array([0.1, 0.7])).tolist() == [True, False]


def test_a_decision_stays_until_it_is_well_below_its_threshold():
    probability = np.array([0.4, 0.55, 0.7, 0.55, 0.45, 0.55, 0.7, np.nan, 0.6, 0.9])
    assert decide(probability, 0.7, 1, 0.2).tolist() == bits("..##..#..#").tolist()
    assert decide(probability, 0.7, 1, 0.0).tolist() == bits("..#...#..#").tolist()
    assert decide(probability, np.full(10, 0.7), 2, 0.2).tolist() == bits("..........").tolist()


@given(labels, labels, labels)
def test_delays_are_never_negative_nor_longer_than_two_seconds(decision, running, known):
    score = score_onsets(decision & known, known, running, RATE_HZ)
    finite = score.delays_ms[np.isfinite(score.delays_ms)]
    assert ((finite >= 0) & (finite < 2000)).all()
    assert score.missed + len(finite) == len(score.delays_ms)
    assert 0 <= score.false_alarms <= (decision & known).sum() + score.already_on
    assert 0 <= score.rest_min <= len(running) / RATE_HZ / 60


@given(labels, labels)
def test_deciding_for_running_when_it_runs_has_no_delay_and_no_false_alarm(running, noise):
    score = score_onsets(running, np.ones(60, np.bool_), running, RATE_HZ)
    assert score.delays_ms.tolist() == [0.0] * len(score.delays_ms)
    assert score.false_alarms == 0


def test_the_lowest_threshold_stops_at_the_first_that_alarms_too_often():
    running = bits(("." * 100 + "#" * 50) * 4)
    probability = np.where(running, 0.9, 0.1)
    probability[[30, 60, 180, 200, 330, 360, 480, 510]] = 0.5  # eight in two thirds of a minute of rest
    curve = trade_off([answers(probability, running)], OnsetRule())
    lowest = lowest_threshold(curve)
    assert 0.5 < lowest <= 0.9
    assert at_threshold([answers(probability, running)], lowest, OnsetRule()).median_ms == 0.0
    assert at_threshold([answers(probability, running)], 0.5, OnsetRule()).false_alarms == 8
    assert lowest_threshold([]) is None


def test_blocks_with_models_of_their_own_are_ranked_apart():
    running = bits("#..#" + "####" + "##..")
    block = np.repeat([0, 1, 2], 4)
    constant = np.repeat(np.float32([0.2, 0.1, 0.9]), 4)  # pooled, a constant answer would tell them apart
    told = replace(answers(constant, running), block=block)
    assert score_frames([told]).auc == 0.5
    assert score_frames([answers(constant, running)]).auc != 0.5
    right = replace(answers(np.where(running, 0.02, 0.01) + block / 3, running), block=block)
    assert score_frames([right]).auc == 1.0
    only_running = replace(answers(constant[4:8], running[4:8]), block=block[4:8])
    assert np.isnan(score_frames([only_running]).auc)
    long = replace(answers(np.tile(constant, 30), np.tile(running, 30)), block=np.tile(block, 30))
    assert set(block_samples([long])) == set(block_samples([replace(long, block=None)])) - {"auc"}


# --- intervals, null, tests ---


def noisy(seed, frames=2400, noise=1.0):
    rng = np.random.default_rng(seed)
    running = np.repeat(rng.random(frames // 40) < 0.5, 40)
    return 1 / (1 + np.exp(-(running - 0.5) * 2 - noise * rng.normal(size=frames))), running


def test_intervals_hold_the_estimate_and_use_every_session():
    probability, running = noisy(0)
    sessions = [answers(probability[:1200], running[:1200]), answers(probability[1200:], running[1200:])]
    samples = block_samples(sessions, replicates=300)
    score = metrics.score_frames(sessions)
    for name, found in samples.items():
        assert found[0] == pytest.approx(getattr(score, name)), name
        low, high = np.quantile(found[1:], [0.025, 0.975])
        assert low < high
        assert low - 0.01 <= found[0] <= high + 0.05, name
    assert block_samples([answers(probability[:90], running[:90])]) == {}


def test_the_null_is_chance_and_the_truth_is_far_from_it():
    probability, running = noisy(1)
    null = shifted_null([answers(probability, running)])
    assert null.mean == pytest.approx(0.5, abs=0.05)
    assert null.low < 0.5 < null.high
    assert null.p == pytest.approx(1 / 1001)
    unrelated = shifted_null([answers(np.random.default_rng(5).random(2400), running)])
    assert unrelated.p > 0.01
    assert shifted_null([answers(probability[:600], running[:600])]) is None, (
        "60 s leave hardly any shift to choose"
    )
    assert shifted_null([answers(probability, np.ones(2400))]) is None


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_only_ever_makes_p_larger(p_values):
    corrected = holm(p_values)
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
    assert np.argsort(p_values, kind="stable").tolist() == np.lexsort((p_values, corrected)).tolist()


def test_models_are_compared_over_the_runs_that_both_have():
    own = [0.9, 0.91, 0.95, np.nan, 0.97, 0.99]
    worse, same = [0.8, 0.8, 0.8, 0.9, 0.8, 0.8], own
    found = {row.other: row for row in compare(own, {"worse": worse, "same": same, "lost": [np.nan] * 6})}
    assert list(found) == ["worse", "same"]
    assert found["worse"].runs == 5
    assert found["worse"].difference == pytest.approx(0.144)
    assert found["worse"].signed_rank_p == pytest.approx(0.0625)
    assert found["worse"].signed_rank_holm == pytest.approx(0.125)
    assert (found["same"].difference, found["same"].signed_rank_p) == (0.0, 1.0)


def test_the_interval_of_delays_reaches_missed_onsets():
    score = OnsetScore(np.array([100.0, 200.0, np.inf, np.inf]), 0, 0, 1.0)
    assert (score.missed, score.median_ms) == (2, np.inf)
    assert delay_interval(score) == (100.0, np.inf)
    assert np.isnan(delay_interval(OnsetScore(np.array([100.0]), 0, 0, 1.0))).all()
