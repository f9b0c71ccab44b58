"""The light encoder: causal, differentiable, trained on a phantom, saved and read."""

import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from decoders.datasets.movies import open_movies
from decoders.reconstruction import light_encoder, load_encoder
from decoders.reconstruction.averaging import MovingAverage
from decoders.reconstruction.encoder_clips import MouseClips
from decoders.reconstruction.encoder_training import Deadline, EncoderOptions, Loop, run
from decoders.reconstruction.knowledge import movies as movie_statistics
from decoders.reconstruction.light_encoder import LightConfig, LightEncoder, LightNetwork
from decoders.reconstruction.light_training import fit_light
from decoders.reconstruction.train import train_encoder
from decoders.training import TrainingConfig
from rig.errors import CheckpointError, ConfigError, DataError
from tests.unit.movie_phantom import write_phantom

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"stride_px": 6, "features": 4, "hidden": 2}
QUICK = {**SMALL, "frames": 60, "held_out_share": 0.2, "epochs": 4}


@pytest.fixture(scope="module")
def encoder():
    """Untrained, with weights by chance."""
    torch.manual_seed(1)
    network = LightNetwork(LightConfig((3, 2), **SMALL))
    for mouse in (0, 1):
        readout = network.readout(mouse)
        for weights in (readout.weight, readout.gain, readout.shift):
            torch.nn.init.normal_(weights, 0.0, 0.3)
        torch.nn.init.uniform_(readout.place, 1.0, 5.0)
    return LightEncoder(network.eval().requires_grad_(False), ("a", "b"))


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """One mouse."""
    return open_movies(write_phantom(tmp_path_factory.mktemp("phantom") / "mouse", clips=20), "sensorium")


@pytest.fixture(scope="module")
def few(phantom):
    """The same mouse with a few trials."""
    return [replace(phantom[0], trials=phantom[0].trials[:5])]


@pytest.fixture(scope="module")
def trained(phantom, tmp_path_factory):
    """Report of a training and the file it wrote."""
    folder = tmp_path_factory.mktemp("trained")
    path = folder / "light.npz"
    options = EncoderOptions(folder / "cache", threads=1, settings=QUICK)
    return train_encoder(phantom, "light", options, path, {"data": "phantom"}), path


def clip(frames, seed=0):
    rng = np.random.default_rng(seed)
    video = rng.uniform(0, 255, (36, 64, frames)).astype(np.float32)
    return video, rng.normal(size=(2, frames)).astype(np.float32), np.zeros((2, frames), np.float32)


def options(folder, **changes):
    return EncoderOptions(folder, threads=1, settings={**QUICK, **changes})


@settings(max_examples=8)
@given(at=st.integers(1, 39), mouse=st.integers(0, 1))
def test_no_response_depends_on_a_later_frame(encoder, at, mouse):
    video, behavior, pupil = clip(40)
    changed = [array.copy() for array in (video, behavior, pupil)]
    for array in changed:
        array[..., at:] = array[..., at:] * 0.5 + 3
    before, after = encoder.predict(video, behavior, pupil, mouse), encoder.predict(*changed, mouse)
    np.testing.assert_allclose(after[:, :at], before[:, :at], rtol=1e-5, atol=1e-6)
    assert np.abs(after[:, at:] - before[:, at:]).max() > 1e-4


def test_a_response_depends_on_as_many_frames_as_it_says(encoder):
    video, behavior, pupil = clip(40)
    other = video.copy()
    other[..., 0] = 0
    difference = np.abs(
        encoder.predict(video, behavior, pupil) - encoder.predict(other, behavior, pupil)
    ).max(axis=0)
    assert np.flatnonzero(difference > 1e-5).max() < encoder.shortest
    assert difference[0] >= 0


def test_the_gradient_of_the_movie_is_that_of_small_changes(encoder):
    video, behavior, pupil = (torch.from_numpy(a)[None] for a in clip(24))
    inputs = encoder.assemble(video.permute(0, 3, 1, 2), behavior, pupil).double().requires_grad_()
    double = LightEncoder(encoder.network.double(), encoder.mice)
    direction = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0)).double()
    (gradient,) = torch.autograd.grad(double.respond(inputs, 0).sum(), inputs)
    with torch.no_grad():
        change = (
            double.respond(inputs + 1e-3 * direction, 0) - double.respond(inputs - 1e-3 * direction, 0)
        ).sum() / 2e-3
    encoder.network.float()
    assert float(change) == pytest.approx(float((gradient * direction).sum()), rel=1e-4)


def test_a_long_clip_in_pieces_is_the_whole(encoder, monkeypatch):
    video, behavior, pupil = (torch.from_numpy(a)[None] for a in clip(70))
    inputs = encoder.assemble(video.permute(0, 3, 1, 2), behavior, pupil).requires_grad_()
    answers = []
    for piece in (300, 25):
        monkeypatch.setattr(light_encoder, "_PIECE", piece)
        responses = encoder.respond(inputs, 1)
        answers.append((responses, *torch.autograd.grad(responses.square().sum(), inputs)))
    for whole, pieces in zip(*answers, strict=True):
        torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-5)


def test_a_trained_encoder_predicts_movies_it_never_saw(trained, phantom):
    score, path = trained
    assert score.held_out_clips >= 1
    assert score.training_clips + score.held_out_clips == 20
    encoder = load_encoder(path)
    assert (encoder.kind, encoder.neurons, encoder.mice) == ("light", (4,), (phantom[0].name,))
    held_out = MouseClips(phantom[0], 0.2, 0, 60).held_out
    assert len(held_out) == score.held_out_clips
    assert score.correlation > 0.25


def test_what_an_inversion_needs_is_in_the_file(trained, phantom):
    known, name = load_encoder(trained[1]).knowledge, phantom[0].name
    assert known[f"reliability_{name}"].mean() == pytest.approx(trained[0].correlation, abs=1e-3)
    assert (known[f"noise_{name}"] > 0).all()
    videos = [np.moveaxis(trial.load().video, -1, 0) for trial in MouseClips(phantom[0], 0.2, 0, 60).training]
    pixels = np.concatenate(videos)
    np.testing.assert_allclose(known["movie_mean"], pixels.mean(axis=0), atol=1e-2)
    assert known["movie_power"].sum() == pytest.approx(pixels.var(axis=0).sum(), rel=1e-4)
    assert known["movie_autocorrelation"][0] == pytest.approx(1.0)


def test_statistics_of_movies_of_noise_that_is_filtered_in_time():
    rng = np.random.default_rng(0)
    movie = np.zeros((4000, 4, 6), np.float32)
    for now in range(1, len(movie)):
        movie[now] = 0.7 * movie[now - 1] + rng.normal(size=(4, 6))
    known = movie_statistics([movie[:2000], movie[2000:]])
    np.testing.assert_allclose(known["movie_lag1"], 0.7, atol=0.06)
    np.testing.assert_allclose(known["movie_autocorrelation"][:3], [1.0, 0.7, 0.49], atol=0.04)


def test_a_training_that_was_broken_off_ends_the_same(few, tmp_path, monkeypatch):
    weights = []
    for folder in (tmp_path / "whole", tmp_path / "broken"):
        asked = options(folder, epochs=2)
        if folder.name == "broken":
            with monkeypatch.context() as patch:
                patch.setattr(MovingAverage, "restore", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
                with pytest.raises(KeyboardInterrupt):
                    fit_light(few, asked)
            assert list(folder.glob("*.resume"))
        weights.append(fit_light(few, asked)[0].network.readout(0).weight)
        assert not list(folder.iterdir())
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=0)


def counted(seconds):
    """A loop whose steps are counted and take so long."""
    network, made = torch.nn.Linear(2, 1), []

    def losses(model, epoch):
        for step in range(5):
            time.sleep(seconds)
            made.append((epoch, step))
            yield model(torch.ones(1, 2)).square().sum()

    return Loop(network, losses, 5), MovingAverage(network, 0.9, lambda _: 0.0), made


def test_the_schedule_is_scaled_to_the_time_and_no_step_is_begun_after_it(tmp_path):
    loop, average, made = counted(0.02)
    deadline = Deadline(0.02)  # 1.2 s
    epochs = run(loop, TrainingConfig(1000, threads=1), average, tmp_path / "x", deadline)
    assert 1 <= epochs < 20
    assert epochs == made[-1][0] + 1 or deadline.passed
    assert len(made) <= 60
    assert not list(tmp_path.iterdir())


def test_without_a_limit_every_step_is_made(tmp_path):
    loop, average, made = counted(0.0)
    assert run(loop, TrainingConfig(3, threads=1), average, tmp_path / "x", Deadline(None)) == 3
    assert made == [(epoch, step) for epoch in range(3) for step in range(5)]


def test_a_loss_that_is_not_finite_names_the_trial(few, tmp_path):
    with pytest.raises(DataError, match=r"loss became .* at trials mouse"):
        fit_light(few, options(tmp_path, learning_rate=1e30, epochs=1))


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"frames": 200}, DataError, "150 frames; valid for training is 216 or more"),
        ({"epoch": 3}, ConfigError, "did you mean epochs"),
        ({"held_out_share": 2}, ConfigError, "below 1"),
    ],
)
def test_what_cannot_be_trained_is_said(few, tmp_path, changes, error, says):
    with pytest.raises(error, match=says):
        fit_light(few, options(tmp_path, **changes))


def test_negative_responses_cannot_be_trained_on(few, tmp_path):
    def shifted(trial):
        data = trial.load()
        return replace(data, responses=data.responses - 0.5)

    z_scored = [replace(trial, read=partial(shifted, trial)) for trial in few[0].trials]
    with pytest.raises(DataError, match=r"responses down to -\S+; valid are 0 or more, as deconvolution"):
        fit_light([replace(few[0], trials=z_scored)], options(tmp_path))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("preset", ["light", "published"])
def test_a_gpu_that_is_not_there(few, tmp_path, preset):
    with pytest.raises(ConfigError, match="valid here is 'cpu'"):
        train_encoder(few, preset, EncoderOptions(tmp_path, device="cuda"), tmp_path / "x", {})


def test_trials_that_memory_has_no_room_for_are_read_anew(few):
    kept, anew = (MouseClips(few[0], 0.2, 0, 60, gb) for gb in (1.0, 0.0))
    draws = [clips.draw(np.random.default_rng(3), 70) for clips in (kept, anew, anew)]
    for stretch in draws[1:]:
        torch.testing.assert_close(stretch.video, draws[0].video)
    assert draws[0].responses.shape == (4, 70)


def test_weights_that_do_not_fit_are_refused(encoder, tmp_path):
    checkpoint = encoder.checkpoint({})
    wrong = dict(checkpoint.arrays)
    wrong["network.core.mix.bias"] = np.zeros(7, np.float32)
    with pytest.raises(CheckpointError, match=r"x\.npz: its weights do not fit"):
        light_encoder.load(
            type(checkpoint)(
                checkpoint.kind, 36, 64, 30.0, wrong, checkpoint.settings, checkpoint.provenance
            ),
            tmp_path / "x.npz",
        )


def test_the_published_preset_writes_what_load_encoder_reads(few, tmp_path):
    sizes = {"core_features": (8, 8), "spatial_strides": (4, 4), "expansion_ratio": 1, "se_reduce_ratio": 4}
    asked = EncoderOptions(
        tmp_path / "cache",
        threads=1,
        settings={
            **sizes,
            "cortex_features": (16,),
            "epochs": 1,
            "samples": 4,
            "batch": 2,
            "warm_up_epochs": 0,
        },
    )
    path = tmp_path / "published.pth"
    report = train_encoder(few, "published", asked, path, {})
    encoder = load_encoder(path)
    trial = few[0].trials[0].load()
    predicted = encoder.predict(trial.video, trial.behavior, trial.pupil_center)
    assert predicted.shape == trial.responses.shape
    assert (encoder.kind, encoder.mice, report.epochs) == ("dwiseneuro", (few[0].name,), 1)
