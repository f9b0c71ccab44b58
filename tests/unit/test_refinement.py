"""The refinement of a preview: its steps are those of the inversion, in pieces, on a window that moves."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from decoders.checkpoint import Checkpoint
from decoders.reconstruction import refinement
from decoders.reconstruction.amortized import KIND
from decoders.reconstruction.fast_inversion import FastRecipe
from decoders.reconstruction.light_encoder import LightConfig, LightEncoder, LightNetwork
from decoders.reconstruction.movie_prior import MoviePrior
from decoders.reconstruction.refinement import Refinement, load_refinement
from decoders.reconstruction.response_noise import ResponseNoise
from rig.errors import CheckpointError
from rig.simulation.movies import natural_movie

NEURONS, LAG = 120, 6
FRAMES, LATER = refinement._FRAMES, refinement._SETTLING_FRAMES


def made_encoder(seed: int = 0) -> LightEncoder:
    """An encoder whose neurons look at places spread over the screen, with the weights it begins with."""
    torch.manual_seed(seed)
    network = LightNetwork(LightConfig(neurons=(3, NEURONS)))
    readout = network.readout(1)
    with torch.no_grad():
        readout.place.copy_(torch.rand(NEURONS, 2) * torch.tensor([11.0, 21.0]))
        readout.weight.copy_(torch.randn_like(readout.weight))
        readout.gain.copy_(0.1 * torch.randn_like(readout.gain))
        readout.log_width.fill_(-0.5)
    return LightEncoder(network.eval().requires_grad_(False), ("other", "mine"))


@pytest.fixture(scope="module")
def encoder() -> LightEncoder:
    return made_encoder()


def made_preview(neurons: int = NEURONS, **arrays: np.ndarray) -> Checkpoint:
    """What a preview of the second mouse's neurons tells of its errors: half of what movies vary by."""
    natural = MoviePrior.natural()
    told = arrays or {"error_power": 0.5 * natural.power, "error_lag1": natural.lag1}
    settings = {"neurons": neurons, "lag_frames": LAG}
    return Checkpoint(KIND, 36, 64, 30.0, told, settings, {"mouse": "mine"})


def made(encoder: LightEncoder) -> Refinement:
    return Refinement(encoder, 1, made_preview())


@pytest.fixture(scope="module")
def clip(encoder: LightEncoder) -> tuple[np.ndarray, np.ndarray]:
    """A movie (T, 36, 64), and the responses (T, N) of the encoder's neurons to it with a little noise."""
    movie = natural_movie(0, FRAMES + 40, 5).astype(np.float32)
    behaviour = np.zeros((2, len(movie)), np.float32)
    responses = encoder.predict(np.moveaxis(movie, 0, -1), behaviour, behaviour, 1)
    noise = np.random.default_rng(0).normal(0, 0.1 * responses.std(), responses.shape)
    return movie, (responses + noise).T.astype(np.float32)


def shown(movie: np.ndarray, moment: int) -> np.ndarray:
    """What a poor preview shows at a moment: the movie of a lag ago, blurred by half."""
    seen = movie[max(moment - LAG, 0)]
    return (0.5 * seen + 0.5 * seen.mean()).astype(np.float32)


def follow(refined: Refinement, clip: tuple[np.ndarray, np.ndarray], moments: range) -> None:
    for k in moments:
        refined.follow(clip[1][k], shown(clip[0], k))


def step(refined: Refinement) -> np.ndarray | None:
    """A whole step at once."""
    while (picture := refined.work()) is None and refined._pieces is not None:
        pass
    return picture


def test_the_gradient_in_pieces_is_that_of_the_whole(encoder, clip):
    refined = made(encoder)
    movie = torch.from_numpy(clip[0][:FRAMES])
    noise = ResponseNoise.of(encoder, 1, clip[1][:FRAMES].T, movie.device, 0.03)
    by_pieces = torch.zeros_like(movie)
    pieces = sum(1 for _ in refined._differentiate(movie, noise, by_pieces))
    assert pieces > 30
    whole = movie.clone().requires_grad_()
    usual = encoder.network.readout(1).signal_mean[None, :, None].expand(1, -1, FRAMES)
    answers = encoder.respond(encoder.assemble(whole[None], usual[:, :2], usual[:, 2:]), 1)
    noise.misfit(answers[0]).backward()
    torch.testing.assert_close(by_pieces, whole.grad, rtol=1e-3, atol=1e-5 * float(whole.grad.abs().max()))


def test_coefficients_and_movie_are_the_same_thing(encoder, clip):
    refined = made(encoder)
    movie = torch.from_numpy(clip[0][:FRAMES])
    again = refined._space.movie(refined._space.coefficients(movie))
    torch.testing.assert_close(again, movie, rtol=0, atol=0.05)  # grey levels
    assert MoviePrior.of(encoder).mean.shape == (36, 64)


def loss(refined: Refinement, movie: np.ndarray, responses: np.ndarray) -> float:
    """Misfit and prior of the window, as the inversion that begins at a preview has them."""
    measured = responses.T.copy()
    measured[:, : refined._encoder.shortest - 1] = np.nan
    noise = ResponseNoise.of(refined._encoder, 1, measured, torch.device("cpu"), 0.03)
    video = torch.from_numpy(movie)
    usual = refined._encoder.network.readout(1).signal_mean[None, :, None].expand(1, -1, FRAMES)
    answers = refined._encoder.respond(refined._encoder.assemble(video[None], usual[:, :2], usual[:, 2:]), 1)
    correction = video - torch.from_numpy(refined._shown())
    trust = FastRecipe().trust_again
    return float(
        trust * noise.misfit(answers[0]) + 0.5 * refined._space.coefficients(correction).square().sum()
    )


def test_steps_make_the_movie_more_probable(encoder, clip):
    refined = made(encoder)
    follow(refined, clip, range(FRAMES))
    losses = [loss(refined, refined._shown(), clip[1][:FRAMES])]
    for _ in range(4):
        step(refined)
        losses.append(loss(refined, refined._found, clip[1][:FRAMES]))
    assert all(after < before for before, after in itertools.pairwise(losses))


def test_a_picture_is_of_its_own_moment(encoder, clip):
    refined = made(encoder)
    assert refined.lag_frames == LAG + LATER
    follow(refined, clip, range(FRAMES))
    for newest in range(FRAMES - 1, FRAMES + 7):
        picture = step(refined)
        assert picture.shape == (36, 64)
        movie = clip[0][FRAMES - 1 - LATER - LAG - 10 :][:30].reshape(30, -1)
        alike = [np.corrcoef(picture.ravel(), seen)[0, 1] for seen in movie]
        assert abs(int(np.argmax(alike)) - 10 - (newest - FRAMES + 1)) <= 2
        follow(refined, clip, range(newest + 1, newest + 2))


def test_there_is_no_work_before_the_window_is_full_nor_twice_for_one_moment(encoder, clip):
    refined = made(encoder)
    follow(refined, clip, range(FRAMES - 1))
    assert not refined.has_work
    follow(refined, clip, range(FRAMES - 1, FRAMES))
    assert step(refined) is not None
    assert not refined.has_work
    refined.forget()
    follow(refined, clip, range(10))
    assert not refined.has_work


def test_a_step_that_takes_too_long_shows_nothing(encoder, clip):
    refined = made(encoder)
    follow(refined, clip, range(FRAMES))
    refined.work()
    follow(refined, clip, range(FRAMES, FRAMES + LATER + 1))
    assert step(refined) is None
    assert step(refined) is not None  # the next one is in time


def test_a_piece_leaves_the_moments_that_came_meanwhile_alone(encoder, clip):
    """A step looks at the window as it was when the step began, however many moments come before it ends."""
    whole, interrupted = made(encoder), made(encoder)
    for refined in (whole, interrupted):
        follow(refined, clip, range(FRAMES))
    expected = step(whole)
    follow(interrupted, clip, range(0))
    interrupted.work()
    interrupted.work()
    follow(interrupted, clip, range(FRAMES, FRAMES + 3))
    step(interrupted)
    np.testing.assert_array_equal(interrupted._found, whole._found)
    assert expected is not None


def test_missed_moments_are_unknown(encoder, clip):
    refined = made(encoder)
    follow(refined, clip, range(FRAMES - 5))
    refined.follow(clip[1][FRAMES - 1], shown(clip[0], FRAMES - 1), missed=4)
    assert np.isnan(refined._window[-5:-1]).all()
    assert np.isfinite(step(refined)).all()


def test_an_encoder_of_other_neurons_or_another_kind(encoder, tmp_path):
    path = tmp_path / "encoder.npz"
    encoder.checkpoint({}).save(path)
    name = Path("preview.npz")
    assert load_refinement(path, made_preview(), name, 1).lag_frames == LAG + LATER
    with pytest.raises(
        CheckpointError, match=r"does not know mouse 'mine' with 7 neurons; it knows other \(3\)"
    ):
        load_refinement(path, made_preview(neurons=7), name, 1)
    with pytest.raises(CheckpointError, match="no such encoder"):
        load_refinement(Path("nowhere.npz"), made_preview(), name, 1)
    older = made_preview(usual_responses=np.zeros(NEURONS, np.float32))
    with pytest.raises(CheckpointError, match=r"preview.npz: does not tell how far it errs; train it anew"):
        load_refinement(path, older, name, 1)
