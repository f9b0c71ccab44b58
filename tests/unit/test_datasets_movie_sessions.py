"""Our two-photon sessions as movies and responses: one clock, nothing later than its time."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.datasets.movie_sessions import _tested, response_source
from decoders.datasets.movies import open_movies
from decoders.traces.live import RoiActivity
from rig.acquisition.states import FinishReason
from rig.errors import DataError
from rig.messages import Frame, Prediction, PredictionStream
from rig.recording.reader import SessionReader
from rig.recording.recorder import Recorder
from rig.simulation.sessions import _World, simulate_session
from tests.unit.movie_session import CLIP_FRAMES, NEURONS, SECONDS, small_rig


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    path = tmp_path_factory.mktemp("sessions") / "tuesday.nwb"
    simulate_session(path, small_rig(), SECONDS, lambda count: None)
    return path


@pytest.fixture(scope="module")
def mouse(session):
    (mouse,) = open_movies(session, "sessions")
    return mouse


def test_every_presentation_is_a_trial(mouse):
    assert (mouse.name, mouse.neurons, mouse.rate_hz) == ("tuesday", NEURONS, 30.0)
    assert [trial.name for trial in mouse.trials] == ["0", "1", "2", "3"]  # three clips, then the first again
    clips = [trial.clip for trial in mouse.trials]
    assert len(set(clips)) == 3
    assert clips[3] == clips[0]
    tested = {trial.clip for trial in mouse.trials if trial.tier == "oracle"}
    assert len(tested) == 1
    assert {trial.clip for trial in mouse.of_tier("train")} == set(clips) - tested


def test_a_trial_is_what_was_shown_and_recorded(mouse, session):
    trial = mouse.trials[1].load()
    frames = trial.video.shape[-1]
    assert CLIP_FRAMES - 2 <= frames <= CLIP_FRAMES
    assert trial.responses.shape == (NEURONS, frames)
    assert trial.behavior.shape == trial.pupil_center.shape == (2, frames)
    with SessionReader(session) as reader:
        stimulus, treadmill, pupil = (reader.samples(name) for name in ("stimulus", "treadmill", "pupil"))
        movie = reader.stimulus_movies()[1]
    start = np.flatnonzero(stimulus.values[:, 0] == 1)[0]
    for k in range(frames):  # the last sample at or before each instant
        at_ns = stimulus.session_ns[start] + round(k / 30 * 1e9)
        shown = int(stimulus.values[stimulus.session_ns <= at_ns, 1][-1])
        np.testing.assert_array_equal(trial.video[..., k], movie[shown])
        speed_mm_s = treadmill.values[treadmill.session_ns <= at_ns, 1][-1]
        assert trial.behavior[1, k] == pytest.approx(speed_mm_s / 10, rel=1e-5)
        at_eye = pupil.values[pupil.session_ns <= at_ns][-1]
        np.testing.assert_allclose([trial.behavior[0, k], *trial.pupil_center[:, k]], at_eye, rtol=1e-5)


def test_responses_do_not_know_what_comes_later(mouse, session, tmp_path):
    shorter = tmp_path / "shorter.nwb"
    simulate_session(shorter, small_rig(), 6.0, lambda count: None)
    before = open_movies(shorter, "sessions")[0].trials[1].load()
    np.testing.assert_array_equal(before.responses, mouse.trials[1].load().responses)
    assert before.responses.min() >= 0
    assert (before.responses.std(axis=1) > 0).all()


@given(st.sets(st.integers(0, 16**12 - 1), min_size=2, max_size=40), st.data())
def test_a_clip_is_tested_or_not_whichever_others_are_there(numbers, data):
    clips = {f"{number:012x}" for number in numbers}
    some = data.draw(st.sets(st.sampled_from(sorted(clips)), min_size=2))
    told = {clip for clip in clips if int(clip, 16) < 0.2 * 16**12}
    for shown in (clips, some):
        tested = _tested(shown)
        assert 0 < len(tested) < len(shown)
        if 0 < len(told & shown) < len(shown):
            assert tested == told & shown


def test_files_of_one_name_are_refused(session, tmp_path):
    for folder in ("sub-1", "sub-2"):
        (tmp_path / folder).mkdir()
        shutil.copy(session, tmp_path / folder / "session.nwb")
    with pytest.raises(DataError, match=r"the same session name 'session'; valid is one file each"):
        open_movies(tmp_path, "sessions")


def recorded_live(path, labels, answered, seconds=3.0):
    """A session with two decoders of traces, dF/F and spikes, that answered some of the frames: value k at frame k."""
    np.save(labels, np.arange(1600).reshape(40, 40) % 3)
    decoders = {
        signal: RoiActivity.Config(decoder="traces", camera="two_photon", rois=str(labels), signal=signal)
        for signal in ("dff", "spikes")
    }
    world = _World(small_rig(), seconds)
    streams = tuple(PredictionStream(n, "two_photon", (2,), "", "", per_roi=True) for n in decoders)
    config = world.config.model_copy(update={"decoders": decoders})
    recorder = Recorder(path, replace(world.description, config=config, predictions=streams), pytest.fail)
    count = 0
    for message in world.messages(seconds):
        recorder.put(message)
        if isinstance(message, Frame) and message.index in answered:
            at_ns, values = message.session_ns, np.full(2, message.index, np.float32)
            for name in decoders:
                recorder.put(Prediction(name, count, 0, message.index, 0, values, at_ns, *[at_ns + 1] * 4))
            count += 1
    recorder.finish(FinishReason.COMPLETED, [])


def test_the_preview_is_told_the_settings_of_the_decoder_whose_responses_are_taken(tmp_path):
    recorded_live(tmp_path / "live.nwb", tmp_path / "labels.npy", range(90))
    settings, labels = response_source(tmp_path / "live.nwb", None)
    assert labels is None
    assert settings["signal"] == "spikes"


def test_presentations_without_responses_are_left_out(tmp_path):
    whole, late, holed = (tmp_path / f"{name}.nwb" for name in ("whole", "late", "holed"))
    recorded_live(whole, tmp_path / "labels.npy", range(270), 9.0)
    recorded_live(late, tmp_path / "labels.npy", range(40, 270), 9.0)  # the first clip begins with frame 15
    recorded_live(holed, tmp_path / "labels.npy", {*range(40), *range(55, 270)}, 9.0)
    clips = {
        path.stem: [t.clip for t in open_movies(path, "sessions")[0].trials] for path in (whole, late, holed)
    }
    assert len(clips["whole"]) > 1
    assert clips["late"] == clips["holed"] == clips["whole"][1:]


def test_spikes_that_were_recorded_live_are_taken(tmp_path):
    np.save(tmp_path / "labels.npy", np.arange(1600).reshape(40, 40) % 3)
    live = RoiActivity.Config(decoder="traces", camera="two_photon", rois=str(tmp_path / "labels.npy"))
    world = _World(small_rig(), 3.0)
    described = replace(
        world.description,
        config=world.config.model_copy(update={"decoders": {"neurons": live}}),
        predictions=(PredictionStream("neurons", "two_photon", (2,), "dF/F per frame", "", per_roi=True),),
    )
    path, failures = tmp_path / "live.nwb", []
    recorder = Recorder(path, described, failures.append)
    for message in world.messages(3.0):
        recorder.put(message)
        if isinstance(message, Frame) and message.index >= 2:
            k, at_ns = message.index, message.session_ns
            values = np.array([k, np.nan if k == 30 else 2 * k], np.float32)
            recorder.put(Prediction("neurons", k - 2, 0, k, 0, values, at_ns, *[at_ns + 1] * 4))
    recorder.finish(FinishReason.COMPLETED, [])
    assert failures == []
    (mouse,) = open_movies(path, "sessions")
    responses = (
        mouse.trials[0].load().responses
    )  # the first clip begins with frame 15, and frame 30 was not answered
    expected = np.where(
        np.arange(15, 15 + responses.shape[1]) == 30, 29, np.arange(15, 15 + responses.shape[1])
    )
    np.testing.assert_array_equal(responses, [expected, 2 * expected])


@pytest.mark.parametrize(
    ("missing", "columns"), [("pupil", "diameter, x, y"), ("treadmill", "running_speed")]
)
def test_missing_behaviour_is_said(tmp_path, missing, columns):
    path = tmp_path / "some.nwb"
    simulate_session(path, small_rig(left_out=(missing,)), 3.0, lambda count: None)
    with pytest.raises(DataError) as caught:
        open_movies(path, "sessions")
    assert f"{path}: no serial stream with columns {columns};" in str(caught.value)
