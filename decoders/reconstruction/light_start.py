"""Where the light encoder's training begins: each neuron's place on the screen and its weights, by correlation.

The untrained core is a bank of Gabor filters and energies, so what a neuron reads can be found without gradients:
its place is where the maps correlate with its responses best, its weights are those of a ridge regression there.
Gradient descent would take most of a training to find the places.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional as F

from decoders.reconstruction.light_encoder import LightNetwork

_LAGS = (0, 1, 2, 3, 4)  # frames by which the core's first filters may be too quick
_LAG_CLIPS = 4
_STRENGTH, _PRIOR_FRAMES = (
    0.03,
    200,
)  # of the ridge, relative to the maps' variance: a share of the frames, and more
_STEEP = 4.0  # the softplus is nearly straight above zero when what it takes is this much larger than what it gives
_WIDTH = 0.7  # of a window beyond the narrowest, cells

Clip = tuple[Tensor, Tensor]
Clips = Callable[[], Iterable[Clip]]


@torch.no_grad()
def begin(network: LightNetwork, mouse: int, clips: Clips) -> None:
    """Set the places, weights and biases of one mouse's neurons, and the delay of the core if `mouse` is the first.

    Parameters
    ----------
    clips
        Gives every clip anew: movie (T, H, W) and responses (N, T), divided by each neuron's standard deviation.
    """
    readout = network.readout(mouse)
    if mouse == 0:
        few = list(islice(clips(), _LAG_CLIPS))
        lag = max(_LAGS, key=lambda lag: _peak(network, few, lag))
        network.core.delay(lag)
    correlation = _correlation(network, clips)
    cells = network.config.cells
    energy = torch.unflatten(correlation.square().sum(0).T, 1, cells)  # (N, rows, columns)
    best = F.avg_pool2d(energy[:, None], 3, 1, 1, count_include_pad=False).flatten(1).argmax(1)
    readout.place.copy_(torch.stack([best // cells[1], best % cells[1]], 1).float())
    readout.log_width.fill_(torch.tensor(_WIDTH).log())
    weight, bias = _ridge(network, mouse, clips)
    readout.weight.copy_(weight * _STEEP)
    readout.bias.copy_(bias * _STEEP)
    readout.log_scale.fill_(-torch.tensor(_STEEP).log())


def _peak(network: LightNetwork, clips: Sequence[Clip], lag: int) -> float:
    """How well the maps at their best place correlate with responses `lag` frames later."""
    late = [(movie[: len(movie) - lag], responses[:, lag:]) for movie, responses in clips]
    return float(_correlation(network, lambda: late).square().sum(0).amax(0).mean())


def _correlation(network: LightNetwork, clips: Clips) -> Tensor:
    """Correlation of every map at every cell with every neuron's responses, (maps, cells, N)."""
    sums: list[Tensor] = []
    count = 0
    for movie, responses in clips():
        x = _settled(network, _maps(network, movie)).flatten(1)
        y = _settled(network, responses.T).to(x)
        parts = [x.T @ y, x.sum(0), x.square().sum(0), y.sum(0), y.square().sum(0)]
        sums = [a + b for a, b in zip(sums, parts, strict=True)] if sums else parts
        count += len(x)
    both, x_sum, x_square, y_sum, y_square = (s / count for s in sums)
    covariance = both - x_sum[:, None] * y_sum
    variance = (x_square - x_sum**2)[:, None] * (y_square - y_sum**2)
    return torch.unflatten(covariance / variance.clamp(min=1e-12).sqrt(), 0, (network.core.maps, -1))


def _ridge(network: LightNetwork, mouse: int, clips: Clips) -> tuple[Tensor, Tensor]:
    """Weights (N, maps) and offset (N,) of the regression of responses on the maps in each neuron's window."""
    width = network.core.maps + 1
    neurons, count = network.config.neurons[mouse], 0
    device = network.readout(mouse).weight.device
    gram, cross = (torch.zeros(neurons, width, n, device=device) for n in (width, 1))
    for movie, responses in clips():
        seen = _settled(network, network.readout(mouse).seen(_maps(network, movie)))
        x = F.pad(seen, (0, 0, 0, 1), value=1.0).permute(2, 1, 0)  # (N, maps + 1, T)
        gram += x @ x.mT
        cross += x @ _settled(network, responses.T).to(x).T.unsqueeze(2)
        count += x.shape[2]
    mean = gram[:, -1, :-1] / count
    variance = gram.diagonal(dim1=1, dim2=2)[:, :-1] / count - mean**2
    penalty = F.pad((count * _STRENGTH + _PRIOR_FRAMES) * variance + 1e-3, (0, 1), value=1e-6)
    solved = torch.linalg.solve(gram + torch.diag_embed(penalty), cross)[..., 0]
    return solved[:, :-1], solved[:, -1]


def _maps(network: LightNetwork, movie: Tensor) -> Tensor:
    """Maps (T, maps, cells) of one movie, where the network is."""
    device = next(network.parameters()).device
    return network.see(movie.to(device, torch.float32)[None])[0]


def _settled(network: LightNetwork, values: Tensor) -> Tensor:
    """Leave out the first frames, (T, ...), whose past is not known."""
    return values[network.config.memory :]
