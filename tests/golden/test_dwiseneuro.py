"""The published encoder and inversion, against numbers that the published implementations computed."""

from pathlib import Path

import numpy as np
import pytest

from decoders.reconstruction import invert, load_encoder
from decoders.reconstruction.problem import InversionProblem
from decoders.reconstruction.published_inversion import PublishedRecipe, reconstruct

GOLDEN = Path(__file__).parents[3] / "shared/golden/dwiseneuro"

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="../shared/golden/dwiseneuro is not here")


@pytest.fixture(scope="module")
def encoder():
    return load_encoder(GOLDEN / "checkpoint.pth")


@pytest.fixture(scope="module")
def trial():
    return dict(np.load(GOLDEN / "trial.npz"))


@pytest.fixture(scope="module")
def inversion():
    return dict(np.load(GOLDEN / "inversion.npz"))


@pytest.fixture(scope="module")
def problem(encoder, trial, inversion):
    mouse = int(inversion["mouse_index"])
    behavior, pupil_center = trial["behavior"], trial["pupil_center"]
    responses, mask = inversion["responses"], inversion["mask"]
    return InversionProblem.of([encoder], responses, behavior, pupil_center, mouse=mouse, mask=mask)


def test_the_checkpoint_says_what_it_is(encoder):
    assert (encoder.kind, encoder.neurons, encoder.mice) == ("dwiseneuro", (13, 20), ("", ""))
    assert (encoder.input_size, encoder.shortest) == ((64, 64), 31)


@pytest.mark.parametrize("mouse", [0, 1])
def test_responses_are_the_published_ones(encoder, trial, mouse):
    responses = encoder.predict(trial["video"], trial["behavior"], trial["pupil_center"], mouse)
    np.testing.assert_allclose(responses, trial[f"responses_{mouse}"], rtol=1e-4)


@pytest.mark.parametrize("batched", [True, False])
def test_the_movie_is_the_published_one_after_two_iterations(encoder, problem, inversion, batched):
    movie = reconstruct([encoder], problem, PublishedRecipe(iterations=2, batched=batched, windows_at_once=3))
    np.testing.assert_allclose(movie, inversion["video_after_2"], rtol=0, atol=0.01)
    assert np.ptp(movie) > 0.1


@pytest.mark.timeout(400)  # five seconds of a free core
def test_the_movie_is_the_published_one_after_ten_iterations(encoder, trial, inversion):
    movie = invert(
        encoder,
        inversion["responses"],
        trial["behavior"],
        trial["pupil_center"],
        mouse=int(inversion["mouse_index"]),
        mask=inversion["mask"],
        recipe="published",
        iterations=10,
        progress=False,
    )
    np.testing.assert_allclose(movie, inversion["video_after_10"][:, 14:50], rtol=0, atol=0.01)


@pytest.mark.slow
def test_the_movie_is_the_published_one_after_forty_iterations(encoder, problem, inversion):
    movie = reconstruct([encoder], problem, PublishedRecipe(iterations=int(inversion["iterations"])))
    np.testing.assert_allclose(movie, inversion["video_after_40"], rtol=0, atol=0.05)
