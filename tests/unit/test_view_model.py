"""The window's state and decisions, without Qt."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gui.contrast import Contrast, bin_frame
from gui.reconstruction_match import VideoCorrelation
from gui.run_status import Severity, alerts, duration_text, minutes_text
from gui.running_decision import truth_steps
from gui.traces import Trace, steady_range, thin
from gui.view_model import HoldToConfirm, ViewModel
from rig.acquisition.states import COMMANDS
from rig.bouts import Bout
from rig.config import MovieConfig
from rig.errors import ConfigError
from rig.messages import Gap, PredictionStream, Samples
from rig.stimulus import load_movies
from tests.unit.window_session import (
    CLOCK,
    MS,
    PREDICTIONS,
    S,
    describe,
    frame,
    prediction,
    rig_config,
    samples,
    status_event,
)

MOVIES = np.random.default_rng(0).integers(0, 256, (2, 40, 36, 64), np.uint8)
LAG_NS = 100 * MS  # 3 camera frames at 30 Hz


def model(**parts: Any) -> ViewModel:
    return ViewModel(describe(**parts), MOVIES)


def running_for(seconds: float, speed: float, start_ns: int = 0) -> Samples:
    times = [start_ns + k * 10 * MS for k in range(round(seconds * 100))]
    return samples("treadmill", times, [(0.0, speed)] * len(times))


def test_model_loads_no_qt() -> None:
    check = "any(m.startswith(('PySide6', 'pyqtgraph')) for m in sys.modules)"
    code = f"import sys, gui.view_model; sys.exit({check})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- traces -------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30), st.integers(1, 3000))
def test_trace_is_exactly_the_last_window(batches: list[int], window: int) -> None:
    trace, sent = Trace(window), 0
    for count in batches:
        times = np.arange(sent, sent + count, dtype=np.int64)
        trace.append(times, times.astype(float))
        sent += count
    expected = np.arange(max(0, sent - 1 - window), sent)
    assert trace.session_ns.tolist() == trace.values.tolist() == expected.tolist()
    assert trace.latest == sent - 1


def test_long_trace_is_bounded() -> None:
    trace = Trace(1000)
    for k in range(2000):
        trace.append(np.arange(k * 100, k * 100 + 100), np.zeros(100))
    assert len(trace.session_ns) == 1001
    assert trace.session_ns.base is not None
    assert trace.session_ns.base.nbytes < 8 * 10_000


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=2000), st.integers(1, 500))
def test_thinning_hides_no_extreme(values: list[float], bin_ns: int) -> None:
    times = np.arange(len(values), dtype=np.int64)
    kept_times, kept = thin(times, np.array(values), bin_ns)
    assert (kept.min(), kept.max()) == (min(values), max(values))
    assert (np.diff(kept_times) >= 0).all()
    assert len(kept) <= max(2 * (len(values) // bin_ns + 2), 2)


def test_thinning_keeps_gaps_visible() -> None:
    values = np.zeros(1000)
    values[500] = math.nan
    _, kept = thin(np.arange(1000), values, 100)
    assert np.isnan(kept).sum() == 2


def test_gap_breaks_the_line() -> None:
    m = model()
    m.take([running_for(0.1, 5.0), Gap("treadmill", 10, 19, S, "lost", 100 * MS)], 0.0)
    assert math.isnan(m.signals[0][1].trace.latest)


@example(low=-5e-324, span=0.0, least=5.0)
@given(st.floats(-1e5, 1e5), st.floats(0, 1e5), st.floats(0, 50))
def test_axis_holds_the_data_and_rests(low: float, span: float, least: float) -> None:
    first = steady_range(low, low + span, None, least)
    assert first[0] <= low + 1e-6 * abs(low)
    assert first[1] >= low + span - 1e-6 * abs(low + span)
    assert steady_range(low, low + span, first, least) == first


# --- images -------------------------------------------------------------------------------------------


def test_large_frames_are_averaged_in_blocks() -> None:
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 4
    binned = bin_frame(pixels, 4)
    assert binned.dtype == np.uint16
    assert np.array_equal(binned, pixels.reshape(4, 2, 4, 2).mean(axis=(1, 3)).astype(np.uint16))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40))
def test_binned_frames_fit(dtype: str, height: int, width: int, largest: int) -> None:
    if -(-max(height, width) // largest) > min(height, width):
        return  # a block larger than the frame's short edge: no camera is like this
    full = np.full((height, width), 200, dtype)
    binned = bin_frame(full, largest)
    assert max(binned.shape) <= largest
    assert binned.dtype == full.dtype
    assert (binned == 200).all()


def test_contrast_ignores_hot_pixels() -> None:
    image = np.random.default_rng(0).integers(100, 200, (128, 128)).astype(np.uint16)
    image[5, 5] = 65535
    contrast = Contrast()
    contrast.update(image)
    low, high = contrast.levels
    assert 100 <= low < high <= 200


def test_contrast_follows_slowly_and_stays_where_it_is_put() -> None:
    contrast = Contrast()
    contrast.update(np.full((8, 8), 100.0))
    contrast.update(np.full((8, 8), 200.0))
    assert 100 < contrast.levels[0] < 110
    contrast.fix(10.0, 5.0)
    contrast.update(np.full((8, 8), 900.0))
    assert contrast.levels[0] == 10.0 < contrast.levels[1] < 10.1
    contrast.follow()
    contrast.update(np.full((8, 8), 900.0))
    assert contrast.levels[0] == 900.0


# --- running ------------------------------------------------------------------------------------------


def test_truth_follows_the_rule_of_the_recording() -> None:
    m = model()
    m.take([running_for(2, 0.0), running_for(2, 50.0, 2 * S), running_for(2, 0.0, 4 * S)], 0.0)
    assert m.truth is not None
    (bout,) = m.truth.bouts
    assert 2 * S <= bout.start_ns <= 2.2 * S
    assert 4 * S <= bout.stop_ns <= 4.3 * S
    assert not m.truth.running


def test_bout_going_on_reaches_now_and_a_short_one_is_taken_back() -> None:
    m = model()
    assert m.truth is not None
    m.take([running_for(1, 0.0), running_for(0.3, 50.0, S)], 0.0)
    assert m.truth.running
    assert m.truth.bouts[-1].stop_ns == S + 290 * MS
    m.take([running_for(1, 0.0, S + 300 * MS)], 0.0)
    assert m.truth.bouts == []


def test_old_bouts_leave() -> None:
    m = model(config=rig_config(trace_s=2.0))
    assert m.truth is not None
    m.take([running_for(1, 50.0), running_for(4, 0.0, S)], 0.0)
    assert m.truth.bouts == []


def test_agreement_counts_both_kinds_of_error() -> None:
    m = model()
    m.take([running_for(2, 0.0), running_for(2, 50.0, 2 * S)], 0.0)
    answers = [(1.0, 0.1), (1.5, 0.9), (3.0, 0.9), (3.5, 0.2), (3.9, math.nan), (9.0, 0.1)]
    m.take([prediction("behavior", k, p, round(t * S)) for k, (t, p) in enumerate(answers)], 0.0)
    assert m.decisions["behavior"].decision.agreement() == 0.5


def test_no_agreement_without_answers_or_truth() -> None:
    assert math.isnan(model().decisions["behavior"].decision.agreement())
    scalar = replace(PREDICTIONS[0], unit="mm/s")
    assert model(predictions=(scalar,)).decisions["behavior"].decision.truth is None


def test_restarted_decoder_starts_a_new_line() -> None:
    m = model()
    m.take([prediction("behavior", 0, 0.5, S), prediction("behavior", 0, 0.6, 2 * S, generation=1)], 0.0)
    values = m.decisions["behavior"].decision.trace.values
    assert len(values) == 3
    assert math.isnan(values[1])


def test_bouts_are_boxes_relative_to_now() -> None:
    seconds, height = truth_steps([Bout(S, 2 * S), Bout(3 * S, 4 * S)], 4 * S)
    assert seconds.tolist() == [-3, -3, -2, -2, -1, -1, 0, 0]
    assert height.tolist() == [0, 1, 1, 0] * 2
    assert len(truth_steps([], 0)[0]) == 0


def test_thresholds_and_outputs_come_from_the_closed_loop() -> None:
    view = model().decisions["behavior"]
    assert view.thresholds == [("on", 0.7), ("off", 0.4)]
    assert view.outputs == ["laser"]


# --- reconstruction -----------------------------------------------------------------------------------


def stimulus(count: int) -> Samples:
    times = [k * 33 * MS for k in range(count)]
    return samples("stimulus", times, [(1.0, float(k)) for k in range(count)])


def test_reconstruction_is_paired_with_the_frame_shown_one_lag_ago() -> None:
    m = model()
    m.take([stimulus(30), prediction("reconstruction", 0, MOVIES[1, 10], 335 * MS + LAG_NS)], 0.0)
    pair = m.reconstructions["reconstruction"].pair
    assert pair.shown is not None
    assert np.array_equal(pair.shown, MOVIES[1, 10])
    assert m.reconstructions["reconstruction"].correlation.value == pytest.approx(1.0)


def test_refined_reconstructions_are_paired_at_a_lag_of_their_own() -> None:
    lags = {"lag_frames": "3", "refined_lag_frames": "9"}
    stream = PredictionStream("movie", "two_photon", (36, 64), "grey level", "", lags, refined=True)
    m = model(predictions=(stream,))
    assert list(m.reconstructions) == ["movie", "movie.refined"]
    for k in range(12):
        at_ns = (335 + 33 * k) * MS + 3 * LAG_NS
        plain = MOVIES[1, 10 + k + 6]  # shown 6 frames of the camera later
        refined = MOVIES[1, 10 + k]
        m.take([prediction("movie", k, plain, at_ns), prediction("movie.refined", k, refined, at_ns)], 0.0)
    m.take([stimulus(40)], 0.0)
    shown = m.reconstructions["movie.refined"].pair.shown
    assert shown is not None
    assert np.array_equal(shown, MOVIES[1, 21])
    assert all(match.correlation.value == pytest.approx(1.0) for match in m.reconstructions.values())


def test_reconstruction_waits_for_a_late_stimulus() -> None:
    m = model()
    m.take([stimulus(5), prediction("reconstruction", 0, MOVIES[1, 10], 335 * MS + LAG_NS)], 0.0)
    assert m.reconstructions["reconstruction"].pair.shown is None
    m.take([stimulus(30)], 0.0)
    shown = m.reconstructions["reconstruction"].pair.shown
    assert shown is not None
    assert np.array_equal(shown, MOVIES[1, 10])


def test_reconstruction_does_not_wait_for_ever() -> None:
    m = model()
    answers = [prediction("reconstruction", k, MOVIES[0, 0], (100 + k) * S) for k in range(40)]
    m.take([stimulus(5), *answers], 0.0)
    pair = m.reconstructions["reconstruction"].pair
    assert pair.shown is None
    assert pair.reconstructed is not None


def test_nothing_is_shown_between_clips_and_while_warming_up() -> None:
    m = model()
    blank = samples("stimulus", [0, 200 * MS], [(-1.0, 0.0), (-1.0, 0.0)])
    m.take([blank, prediction("reconstruction", 0, np.full((36, 64), np.nan), 50 * MS + LAG_NS)], 0.0)
    pair = m.reconstructions["reconstruction"].pair
    assert (pair.shown, pair.reconstructed) == (None, None)
    assert math.isnan(m.reconstructions["reconstruction"].correlation.value)


def test_correlation_is_pearson_over_all_pixels_of_the_window() -> None:
    rng = np.random.default_rng(1)
    shown, decoded = rng.random((2, 12, 36, 64), np.float32) * 255
    decoded += shown
    decoded[:, :5] = np.nan  # outside the mask
    correlation = VideoCorrelation(10)
    for k in range(12):
        correlation.add(k, shown[k], decoded[k])
    inside = np.isfinite(decoded[1:])
    assert correlation.frames == 11
    assert correlation.value == pytest.approx(np.corrcoef(shown[1:][inside], decoded[1:][inside])[0, 1])


def test_smaller_reconstructions_are_compared_with_the_binned_movie() -> None:
    m = model(predictions=(replace(PREDICTIONS[1], shape=(18, 32)),))
    small = bin_frame(MOVIES[1, 10].astype(np.float32), 32)
    m.take([stimulus(30), prediction("reconstruction", 0, small, 335 * MS + LAG_NS)], 0.0)
    assert m.reconstructions["reconstruction"].correlation.value == pytest.approx(1.0)


# --- movies -------------------------------------------------------------------------------------------


def test_movies_are_made_again_from_their_seed() -> None:
    config = MovieConfig(seed=3, clips=2, frames=5)
    movies = load_movies(config)
    assert movies.dtype == np.uint8
    assert movies.shape[:2] == (2, 5)
    assert load_movies(config) is movies, "the recorder stores what the microscope has made"
    others = load_movies(MovieConfig(seed=4, clips=2, frames=5))  # the last ones alone are kept
    assert not np.array_equal(movies, others)
    assert np.array_equal(movies, load_movies(config))


def test_movies_are_read_from_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "movies.npy", MOVIES)
    assert np.array_equal(load_movies(MovieConfig(file=tmp_path / "movies.npy")), MOVIES)


@pytest.mark.parametrize(
    "kind", ["missing", "empty", "text", "truncated", "float", "three_axes", "npz", "pickle"]
)
def test_bad_movie_files_are_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "movies.npy"
    if kind in ("empty", "text"):
        path.write_text("" if kind == "empty" else "not numpy")
    elif kind == "npz":
        with path.open("wb") as file:
            np.savez(file, movies=MOVIES)
    elif kind != "missing":
        bad = {"float": MOVIES / 255, "three_axes": MOVIES[0], "pickle": np.array([{}], object)}
        np.save(path, bad.get(kind, MOVIES))
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ConfigError, match=r"movies\.npy: .*valid is a \.npy file of uint8"):
        load_movies(MovieConfig(file=path))


# --- status -------------------------------------------------------------------------------------------


def test_frames_and_status_reach_their_camera() -> None:
    m = model()
    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    m.take([frame("widefield", 41, pixels, 5 * S), status_event(lost=3)], 0.0)
    camera = m.cameras["widefield"]
    assert (camera.index, camera.lost, camera.rate_hz) == (41, 3, 30.0)
    assert camera.image is not None
    assert np.array_equal(camera.image, pixels)
    assert m.now_ns == 5 * S


def test_headlines() -> None:
    m = model()
    assert m.headline.text == "waiting for the engine"
    m.take([status_event("idle")], 1.0)
    assert (m.headline.text, m.headline.severity) == ("ready: press Start", Severity.NOTICE)
    m.take([status_event("running")], 2.0)
    assert (m.headline.text, m.headline.severity) == ("running", Severity.GOOD)
    m.take([], 5.5)
    assert (m.headline.text, m.headline.severity) == ("engine silent for 4 s", Severity.WARNING)
    m.take([status_event("finished", finish_reason="failed")], 6.0)
    m.take([], 60.0)
    assert (m.headline.text, m.headline.severity) == ("finished: failed", Severity.ERROR)


def test_engine_that_never_spoke_is_silent() -> None:
    m = model()
    m.take([], 10.0)
    assert m.headline.severity is Severity.WARNING


@pytest.mark.parametrize(
    ("change", "text", "severity"),
    [
        ({"error": "camera vanished"}, "camera vanished", Severity.ERROR),
        ({"lost": 2}, "widefield: 2 lost", Severity.ERROR),
        ({"recorder": {"minutes_left": 4.0}}, "disk full in 4 min", Severity.ERROR),
        ({"recorder": {"queued_mb": 400.0}}, "disk too slow: 400 of 512 MB queued", Severity.ERROR),
        (
            {"decoders": {"behavior": {"decisions": 1, "skipped": 0, "generation": 2, "latency_ms": None}}},
            "behavior: restarted 2x",
            Severity.WARNING,
        ),
        (
            {"outputs": {"laser": {"on": False, "commands": 0, "safe": True}}},
            "laser: held off, no decision",
            Severity.WARNING,
        ),
        (
            {"streams": {"pupil": {"received": 5, "lost": 0, "rate_hz": 0.0, "clock_residual_ms": -1.0}}},
            "pupil: no data",
            Severity.ERROR,
        ),
    ],
)
def test_what_goes_wrong_is_said(change: dict[str, Any], text: str, severity: Severity) -> None:
    m = model()
    m.take([status_event(**change)], 0.0)
    assert m.alerts[0].text == text
    assert m.alerts[0].severity is m.worst is severity


def test_nothing_wrong_says_nothing() -> None:
    m = model()
    m.take([status_event()], 0.0)
    assert m.alerts == []
    assert alerts(None, m.session.config) == []


def test_clock_not_fitted_is_unknown_not_minus_one() -> None:
    m = model()
    entry = {"received": 0, "lost": 0, "rate_hz": 0.0, "clock_residual_ms": -1.0}
    m.take([status_event("idle", streams={"pupil": entry}, recorder=None)], 0.0)
    assert m.status is not None
    assert m.status.streams["pupil"].clock_residual_ms is None
    assert m.status.recorder is None


def test_durations_in_words() -> None:
    assert duration_text(3725.9) == "1:02:05"
    assert [minutes_text(m) for m in (None, 12.4, 410.0)] == ["unknown", "12 min", "7 h"]


# --- commands -----------------------------------------------------------------------------------------


def test_start_and_stop_are_possible_when_they_would_be_obeyed() -> None:
    m = model()
    assert (m.can_start, m.can_stop, m.can_note) == (False, False, False)
    m.take([status_event("idle")], 0.0)
    assert m.can_start
    m.command("start")
    assert not m.can_start
    m.take([status_event("running")], 1.0)
    assert (m.can_start, m.can_stop, m.can_note) == (False, True, True)
    m.take([], 9.0)
    assert not m.can_stop  # nobody would hear it
    m.take([status_event("running")], 9.1)
    m.command("stop")
    assert not m.can_stop
    m.take([status_event("finished", finish_reason="cancelled")], 10.0)
    assert (m.can_start, m.can_stop, m.can_note) == (False, False, False)


def test_commands_carry_the_session_time() -> None:
    before = CLOCK.now_ns()
    note = model().command("note", "licked")
    assert (note.stream, note.kind, note.text) == (COMMANDS, "note", "licked")
    assert before <= note.arrival_ns <= CLOCK.now_ns()


def test_hold_needs_its_time_without_a_break() -> None:
    hold = HoldToConfirm(1.0)
    assert hold.progress(0.0) == 0.0
    hold.press(10.0)
    assert hold.progress(10.4) == pytest.approx(0.4)
    hold.release()
    assert hold.progress(20.0) == 0.0
    hold.press(20.0)
    assert hold.progress(21.5) == 1.0


# --- rigs that have less ------------------------------------------------------------------------------


def test_rig_with_one_camera_only() -> None:
    config = rig_config().model_copy(update={"running": None, "stimulus": None, "closed_loop": []})
    m = ViewModel(describe(config=config, samples=(), predictions=()))
    m.take(
        [frame("widefield", 0, np.zeros((64, 64), np.uint16)), frame("stranger", 0, np.zeros((2, 2)))], 0.0
    )
    assert (m.signals, m.truth, m.decisions, m.reconstructions) == ([], None, {}, {})
    assert m.cameras["widefield"].index == 0


def test_reconstruction_without_movies_is_still_shown() -> None:
    m = ViewModel(describe(), None)
    m.take([prediction("reconstruction", 0, MOVIES[0, 0], S)], 0.0)
    pair = m.reconstructions["reconstruction"].pair
    assert pair.shown is None
    assert pair.reconstructed is not None
