"""Where the light encoder's training begins: neurons that read one place of the untrained maps are found there."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from decoders.reconstruction import light_encoder, light_start
from decoders.reconstruction.light_encoder import LightConfig, LightNetwork
from rig.simulation.movies import natural_movie

pytestmark = pytest.mark.usefixtures("one_thread")

NEURONS, LATE = 7, 2
SIZES = {"stride_px": 6, "features": 4, "hidden": 2}


def made_network() -> LightNetwork:
    torch.manual_seed(0)
    return LightNetwork(LightConfig((NEURONS,), **SIZES))


@pytest.fixture(scope="module")
def places() -> torch.Tensor:
    """Row and column of the cell that each neuron reads."""
    rows, columns = made_network().config.cells
    rng = np.random.default_rng(1)
    return torch.from_numpy(
        np.stack([rng.integers(1, rows - 1, NEURONS), rng.integers(1, columns - 1, NEURONS)], 1)
    )


@pytest.fixture(scope="module")
def clips(places) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Movies (T, 36, 64), and responses (N, T) that follow the untrained maps some frames late, with noise."""
    network, found = made_network(), []
    weights = torch.randn(NEURONS, network.core.maps)
    cell = places[:, 0] * network.config.cells[1] + places[:, 1]
    for k in range(6):
        movie = torch.from_numpy(natural_movie(k, 150, 7).astype(np.float32))
        with torch.no_grad():
            maps = network.see(movie[None])[0][:, :, cell]  # (T, maps, N)
        followed = torch.einsum("tmn,nm->nt", maps, weights).roll(LATE, 1)
        found.append((movie, followed + 0.3 * followed.std() * torch.randn_like(followed)))
    return found


@pytest.fixture
def begun(clips, monkeypatch) -> LightNetwork:
    """A network that looked at the clips, three neurons at a time."""
    monkeypatch.setattr(light_encoder, "_TOGETHER", 3)
    network = made_network()
    light_start.begin(network, 0, lambda: iter(clips))
    return network


def test_neurons_are_found_where_they_look_and_when_they_answer(begun, places):
    away = (begun.readout(0).place - places).abs().amax(1)
    assert (away <= 1).all()
    untrained = made_network().core.time.weight
    taps = untrained.shape[2]
    delays = [
        k for k in range(taps) if torch.equal(begun.core.time.weight[:, :, : taps - k], untrained[:, :, k:])
    ]
    assert delays[0] in (LATE - 1, LATE, LATE + 1)  # maps of one kind are later than those of another


def test_the_weights_are_those_of_a_ridge_regression(begun, clips):
    """Of standardised maps, each seen through the neuron's window; as scikit-learn finds them."""
    readout, settled = begun.readout(0), begun.config.memory
    with torch.no_grad():
        seen = [(begun.see(movie[None])[0] @ readout.windows())[settled:] for movie, _ in clips]
    x = torch.cat(seen).numpy()  # (frames, maps, N)
    y = np.concatenate([responses[:, settled:].numpy() for _, responses in clips], 1)
    strength = light_start._STRENGTH * len(x) + light_start._PRIOR_FRAMES
    for neuron in range(NEURONS):
        scaler = StandardScaler().fit(x[:, :, neuron])
        ridge = Ridge(strength).fit(scaler.transform(x[:, :, neuron]), y[neuron])
        weight = light_start._STEEP * ridge.coef_ / scaler.scale_
        found = readout.weight[neuron].detach().numpy()
        # a thousandth of the Gram matrix is added beside the strength, which matters for faint maps alone
        scaled = scaler.scale_ * np.abs(found - weight)
        assert scaled.max() < 0.02 * (scaler.scale_ * np.abs(weight)).max()
        answer = light_start._STEEP * (
            y[neuron].mean() - (ridge.coef_ / scaler.scale_) @ x[:, :, neuron].mean(0)
        )
        assert readout.bias[neuron].item() == pytest.approx(answer, abs=0.05 * float(y[neuron].std()))


def test_what_neurons_see_does_not_depend_on_how_many_are_worked_out_together(begun, clips, monkeypatch):
    movie = clips[0][0][None]
    signals = torch.zeros(1, 4, movie.shape[1])
    with torch.no_grad():
        few = begun(movie, signals, 0)
        monkeypatch.setattr(light_encoder, "_TOGETHER", 100)
        torch.testing.assert_close(begun(movie, signals, 0), few)
