import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoders.checkpoint import Checkpoint
from decoders.commands.movie_options import _check_preview
from decoders.datasets.movies import open_movies, split_by_clip
from decoders.protocols import LiveDecoder
from decoders.reconstruction import amortized_training as training
from decoders.reconstruction.amortized import PreviewReader, preview_movie
from decoders.reconstruction.amortized_network import PreviewStep
from decoders.reconstruction.encoder_training import EncoderOptions, digest
from decoders.reconstruction.movie_prior import MoviePrior, load_preview
from decoders.reconstruction.preview_live import Preview
from decoders.reconstruction.scored_clips import ScoredMouse
from rig.errors import CheckpointError, ConfigError, DataError
from rig.messages import Frame, FrameStream
from rig.simulation.movies import natural_movies
from tests.unit.movie_phantom import write_phantom
from tests.unit.sensorium_layout import save

NEURONS, SIDE_PX, RATE_HZ = 60, 32, 30.0
RECIPE = {"generated": 3, "epochs": 1, "lags": [3, 8], "components": 24, "hidden": 16, "sums": 40}


class Mimic:
    """An encoder that answers every movie with its brightness, and keeps what it was asked."""

    kind, neurons, mice, input_size, shortest = "light", (NEURONS,), ("",), (36, 64), 1

    def __init__(self) -> None:
        self.asked = 0

    def predict(self, video, behavior, pupil_center, mouse=0):
        self.asked += 1
        assert video.shape[2] == behavior.shape[1] == pupil_center.shape[1]
        return np.repeat(video.mean((0, 1))[None], NEURONS, axis=0) / 255


def write_watchers(folder, clips=12, length=120):
    """Write one mouse whose neurons follow the light of a small place each, 5 frames late, with noise."""
    rng = np.random.default_rng(0)
    places = rng.integers((0, 0), (30, 58), (NEURONS, 2))
    for trial, movie in enumerate(natural_movies(clips, length, 0).astype(np.float32)):
        light = np.stack([movie[:, y : y + 6, x : x + 6].mean((1, 2)) for y, x in places])
        late = np.concatenate([np.repeat(light[:, :1], 5, axis=1), light[:, :-5]], axis=1)
        arrays = {
            "videos": np.moveaxis(movie, 0, -1),
            "responses": late / 255 + rng.exponential(0.1, light.shape),
            "behavior": rng.random((2, length)),
            "pupil_center": rng.normal(size=(2, length)),
        }
        for kind, array in arrays.items():
            save(folder / "data" / kind / f"{trial}.npy", array.astype(np.float32))
    save(folder / "meta" / "trials" / "tiers.npy", np.array(["train"] * clips))
    return folder


@pytest.fixture(scope="module")
def mouse(tmp_path_factory):
    return open_movies(write_watchers(tmp_path_factory.mktemp("data") / "phantom"), "sensorium")[0]


@pytest.fixture(scope="module")
def trained(mouse, tmp_path_factory):
    options = training.PreviewOptions(tmp_path_factory.mktemp("cache"), settings=RECIPE)
    encoder = Mimic()
    return (*training.fit_preview(mouse, encoder, 0, options), encoder)


def packed(trained, labels=None, **traces):
    network, beside = trained[:2]
    source = training.ResponseSource({"tau_s": 1.0, **traces}, labels)
    return training.make_checkpoint(network, beside, source, {"data": "simulated"})


@pytest.fixture(scope="module")
def checkpoint(trained):
    return packed(trained)


@pytest.fixture(scope="module")
def path(checkpoint, tmp_path_factory):
    file = tmp_path_factory.mktemp("preview") / "preview.npz"
    checkpoint.save(file)
    return file


def reader(checkpoint):
    return PreviewReader(checkpoint, Path("preview.npz"))


def test_movies_that_took_no_part_are_shown(trained):
    network, _, score, encoder = trained
    assert score.correlation > 0.4
    assert (
        score.correlation >= score.regression - 1e-4
    )  # training can only better it: the start is one choice
    assert score.lag_frames == network.config.lag_frames
    assert score.generated_clips == 3
    assert 4 <= encoder.asked <= 6  # three movies, and each trial that was drawn
    assert score.training_clips + score.held_out_clips == 12


def test_an_exported_preview_answers_as_its_network(trained, checkpoint):
    import torch

    rng = np.random.default_rng(0)
    window = rng.exponential(size=(trained[0].config.window_frames, NEURONS)).astype(np.float32)
    live = reader(checkpoint)
    for responses in window:
        shown = live.step(responses)
    with torch.no_grad():
        expected = PreviewStep(trained[0])(torch.from_numpy(window)).numpy()
    np.testing.assert_allclose(shown, expected, atol=0.05)  # grey levels


@settings(max_examples=15)
@given(at=st.integers(0, 59), seed=st.integers(0, 99))
def test_no_later_response_takes_part(checkpoint, at, seed):
    rng = np.random.default_rng(seed)
    responses = rng.exponential(size=(60, NEURONS)).astype(np.float32)
    changed = responses.copy()
    changed[at:] = rng.exponential(size=(60 - at, NEURONS))
    live, other = reader(checkpoint), reader(checkpoint)
    for k in range(at):
        assert live.step(responses[k]).tobytes() == other.step(changed[k]).tobytes()
    assert not np.array_equal(live.step(responses[at]), other.step(changed[at]))


def test_missed_moments_keep_the_window_in_time(checkpoint):
    responses = np.random.default_rng(1).exponential(size=(40, NEURONS)).astype(np.float32)
    responses[30:33] = responses[29]  # held
    whole, thinned = reader(checkpoint), reader(checkpoint)
    answers = [whole.step(moment) for moment in responses]
    for k in range(30):
        thinned.step(responses[k])
    for k in range(33, 40):
        shown = thinned.step(responses[k], 3 if k == 33 else 0)
    np.testing.assert_array_equal(shown, answers[-1])


def test_moments_that_are_not_known_do_not_fill_the_window(checkpoint, trained):
    live, window = reader(checkpoint), trained[0].config.window_frames
    moment = np.ones(NEURONS, np.float32)
    for _ in range(3 * window):
        live.hold()
    for k in range(window):
        assert not live.full, k
        live.step(moment)
    assert live.full
    live.step(moment, 3)
    assert live.full
    for _ in range(window):
        live.hold()
    live.step(moment)
    assert not live.full


def test_a_clip_is_shown_frame_for_frame_without_the_lag(checkpoint, path, mouse):
    trial = mouse.trials[0].load()
    movie = preview_movie(path, trial.responses, trial.behavior, trial.pupil_center)
    assert movie.shape == (120, 36, 64)
    assert movie.dtype == np.float32
    live = reader(checkpoint)
    answers = [live.step(moment) for moment in trial.responses.T]
    np.testing.assert_array_equal(movie[: 120 - live.lag_frames], answers[live.lag_frames :])
    unknown = trial.responses.copy()
    unknown[3] = np.nan
    assert np.isfinite(preview_movie(path, unknown)).all()


def test_a_preview_tells_how_far_it_errs_on_movies_that_took_no_part(trained, mouse, path):
    trials = mouse.of_tier("train")
    prior = MoviePrior.read(path, trials[0].load().responses)
    np.testing.assert_array_equal(prior.mean, preview_movie(path, trials[0].load().responses))
    _, held_out = split_by_clip(mouse, 0.1, 0)
    errors = [
        np.moveaxis(one.video, -1, 0)[30:-10] - preview_movie(path, one.responses)[30:-10]
        for one in (trial.load() for trial in held_out)
    ]
    assert prior.power.sum() == pytest.approx(np.var(errors, axis=(0, 1)).sum(), rel=0.05)
    assert ((prior.lag1 <= 1) & (prior.lag1 >= -1)).all()
    assert (prior.power > 0).all()


@pytest.mark.parametrize(
    ("without", "size", "told"),
    [
        ("error_lag1", (36, 64), "preview.npz: does not tell how far it errs; train it anew"),
        ("", (18, 32), r"preview.npz: shows movies of \(18, 32\) pixels; valid is \(36, 64\)"),
    ],
)
def test_a_preview_that_no_inversion_can_begin_at(checkpoint, tmp_path, without, size, told):
    arrays = {name: array for name, array in checkpoint.arrays.items() if name != without}
    other = replace(checkpoint, arrays=arrays | {"error_power": np.ones(size, np.float32)})
    other.save(tmp_path / "preview.npz")
    with pytest.raises(CheckpointError, match=told):
        MoviePrior.read(tmp_path / "preview.npz", np.ones((NEURONS, 40), np.float32))


def test_responses_of_other_neurons(path):
    with pytest.raises(DataError, match=r"responses are \(3, 9\); valid for .* is \(60, frames\)"):
        preview_movie(path, np.zeros((3, 9), np.float32))


def test_an_unknown_setting_and_short_trials(mouse, tmp_path):
    with pytest.raises(ConfigError, match="setting depth=3: no such name; valid: generated, epochs"):
        training.fit_preview(mouse, None, 0, training.PreviewOptions(tmp_path, settings={"depth": 3}))
    short = open_movies(write_phantom(tmp_path / "short", 4, clips=4, frames=30), "sensorium")[0]
    with pytest.raises(DataError, match="short: trials of 30 frames; valid for a preview is"):
        training.fit_preview(short, None, 0, training.PreviewOptions(tmp_path))


def test_a_training_goes_on_with_the_same_encoder_alone(mouse, tmp_path):
    (tmp_path / "enc0.npz").write_bytes(b"weights")
    (tmp_path / "enc1.npz").write_bytes(b"others")
    files = (tmp_path / "enc0.npz", tmp_path / "enc0.npz", tmp_path / "enc1.npz", None)
    names = [
        training._digest(mouse, training.Recipe(), Mimic(), training.PreviewOptions(tmp_path, encoder=file))
        for file in files
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 3
    minutes = [digest([mouse], "", EncoderOptions(tmp_path, minutes=limit)) for limit in (None, 2.0)]
    assert minutes[0] != minutes[1]


def test_a_preview_of_another_animal_is_refused(mouse, path, tmp_path):
    known = load_preview(path)
    replace(known, provenance={**known.provenance, "animal": "stranger"}).save(tmp_path / "preview.npz")
    _check_preview(path, [ScoredMouse(mouse, 0, None)])
    with pytest.raises(CheckpointError, match="a preview of 'stranger'; the data are of 'phantom'"):
        _check_preview(tmp_path / "preview.npz", [ScoredMouse(mouse, 0, None)])


def test_two_fields_are_not_one_preview(mouse, tmp_path):
    other = open_movies(write_phantom(tmp_path / "other", 4, clips=3), "sensorium")[0]
    assert training.one_field([mouse, other], "other").neurons == 4
    assert len(training.one_field([mouse, mouse], None).trials) == 24
    for name in (None, "third"):
        with pytest.raises(DataError, match=r"valid is one of phantom \(60 neurons\), other \(4 neurons\)"):
            training.one_field([mouse, other], name)


def test_as_many_neurons_of_another_brain_are_not_the_same(mouse):
    friday = replace(mouse, name="friday")
    stranger = replace(mouse, name="saturday", animal="stranger")
    assert len(training.one_field([mouse, friday], None).trials) == 24
    assert len(training.one_field([mouse, friday, stranger], "phantom").trials) == 24
    assert len(training.one_field([mouse, friday, stranger], "friday").trials) == 12
    with pytest.raises(DataError, match=r"friday \(phantom, 60 neurons\), saturday \(stranger, 60 neurons\)"):
        training.one_field([mouse, friday, stranger], None)


def field_labels():
    labels = np.zeros((SIDE_PX, SIDE_PX), np.int64)
    for k in range(NEURONS):
        row, column = 3 * (k // 10), 3 * (k % 10)
        labels[row : row + 2, column : column + 2] = k + 1
    return labels


def live(path, **config):
    decoder = Preview(
        "movie", Preview.Config(decoder="preview", camera="cam", checkpoint=str(path), **config)
    )
    assert isinstance(decoder, LiveDecoder)
    return decoder


def camera(rate_hz=RATE_HZ, side_px=SIDE_PX):
    return FrameStream("cam", side_px, side_px, "uint16", rate_hz, 0.0)


@pytest.fixture(scope="module")
def with_labels(trained, tmp_path_factory):
    file = tmp_path_factory.mktemp("labelled") / "preview.npz"
    packed(trained, field_labels()).save(file)
    return file


def frames(count):
    rng = np.random.default_rng(2)
    return rng.poisson(200, (count, SIDE_PX, SIDE_PX)).astype(np.uint16)


def played(decoder, pixels, indices=None):
    indices = range(len(pixels)) if indices is None else indices
    return np.stack([decoder.step(Frame("cam", k, -1, 0, pixels[k])) for k in indices])


def test_frames_of_a_camera_become_a_movie(with_labels, trained):
    decoder = live(with_labels)
    described = decoder.load(camera())
    assert described.shape == (36, 64)
    assert described.unit == "grey level"
    assert described.provenance["lag_frames"] == str(trained[2].lag_frames)
    window = trained[0].config.window_frames
    answers = played(decoder, frames(60))
    assert np.isnan(answers[: window - 1]).all()
    assert np.isfinite(answers[window - 1 :]).all()
    decoder.forget()
    assert np.isnan(decoder.step(Frame("cam", 60, -1, 0, frames(1)[0]))).all()


def test_after_a_gap_the_window_fills_anew(with_labels, trained):
    decoder = live(with_labels)
    decoder.load(camera())
    window, pixels = trained[0].config.window_frames, frames(300)
    played(decoder, pixels, range(60))
    decoder.forget()
    answers = played(decoder, pixels, range(150, 150 + window))
    assert np.isnan(answers[:-1]).all()
    assert np.isfinite(answers[-1]).all()


def test_the_same_frames_give_the_same_bits(with_labels):
    first, second = live(with_labels), live(with_labels)
    for decoder in (first, second):
        decoder.load(camera())
    assert played(first, frames(40)).tobytes() == played(second, frames(40)).tobytes()


def test_a_faster_camera_is_answered_at_30_hz(with_labels, trained):
    decoder = live(with_labels)
    described = decoder.load(camera(60.0))
    assert described.provenance["lag_frames"] == str(2 * trained[2].lag_frames)
    answers = played(decoder, frames(80))
    np.testing.assert_array_equal(answers[70], answers[71])
    assert not np.array_equal(answers[70], answers[72])
    with pytest.raises(CheckpointError, match="camera 'cam' runs at 15 Hz; valid is 30 Hz"):
        live(with_labels).load(camera(15.0))


def test_a_checkpoint_of_responses_alone_asks_for_regions(path, tmp_path):
    with pytest.raises(CheckpointError, match="the decoder needs rois"):
        live(path).load(camera())
    np.save(tmp_path / "rois.npy", field_labels())
    given = live(path, rois=str(tmp_path / "rois.npy"))
    given.load(camera())
    np.save(tmp_path / "few.npy", np.minimum(field_labels(), 59))
    with pytest.raises(CheckpointError, match=r"made for 60 neurons; .*few\.npy has 59"):
        live(path, rois=str(tmp_path / "few.npy")).load(camera())


@pytest.mark.parametrize("side_px", [2 * SIDE_PX, SIDE_PX + 1])
def test_a_camera_of_another_size_than_the_label_image_is_refused(with_labels, tmp_path, side_px):
    with pytest.raises(
        CheckpointError, match=f"camera 'cam' has {side_px}x{side_px} pixels; valid are 32x32, as"
    ):
        live(with_labels).load(camera(side_px=side_px))
    labels = np.zeros((side_px, side_px), np.int64)
    labels[:SIDE_PX, :SIDE_PX] = field_labels()
    np.save(tmp_path / "rois.npy", labels)
    decoder = live(with_labels, rois=str(tmp_path / "rois.npy"))
    decoder.load(camera(side_px=side_px))
    decoder.step(Frame("cam", 0, -1, 0, np.ones((side_px, side_px), np.uint16)))


def test_another_decoders_checkpoint(tmp_path):
    file = tmp_path / "other.npz"
    Checkpoint("encoder-light", 36, 64, 30.0, {"a": np.zeros(1)}).save(file)
    with pytest.raises(CheckpointError, match="holds a 'encoder-light' decoder; valid here is"):
        live(file).load(camera())


def test_the_noise_of_made_responses_is_that_of_recorded_ones():
    rng = np.random.default_rng(3)
    predicted = np.full((5, 4000), 4.0, np.float32)
    measured = rng.normal(4.0, 0.5, predicted.shape).astype(np.float32)
    noisy = training._with_noise(predicted / 2, predicted, measured)
    assert noisy.mean() == pytest.approx(2.0, abs=0.05)
    assert noisy.std() == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_importing_the_live_decoder_is_light():
    import subprocess
    import sys

    code = "import sys, json, decoders.reconstruction.preview_live; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"torch", "onnxruntime", "sklearn", "matplotlib", "scipy"}
