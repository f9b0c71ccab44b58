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
_LAG_CLIPS, _LAG_NEURONS = 4, 1000  # that tell
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
        few = [_of_some_neurons(clip) for clip in islice(clips(), _LAG_CLIPS)]
        lag = max(_LAGS, key=lambda lag: _peak(network, few, lag))
        network.core.delay(lag)
    cells = network.config.cells
    explained = torch.unflatten(_explained(network, clips).T, 1, cells)  # (N, rows, columns)
    best = F.avg_pool2d(explained[:, None], 3, 1, 1, count_include_pad=False).flatten(1).argmax(1)
    readout.place.copy_(torch.stack([best // cells[1], best % cells[1]], 1).float())
    readout.log_width.fill_(torch.tensor(_WIDTH).log())
    weight, bias = _ridge(network, mouse, clips)
    readout.weight.copy_(weight * _STEEP)
    readout.bias.copy_(bias * _STEEP)
    readout.log_scale.fill_(-torch.tensor(_STEEP).log())


def _of_some_neurons(clip: Clip) -> Clip:
    movie, responses = clip
    return movie, responses[:: -(-len(responses) // _LAG_NEURONS)]


def _peak(network: LightNetwork, clips: Sequence[Clip], lag: int) -> float:
    """How well the maps at their best place correlate with responses `lag` frames later."""
    late = [(movie[: len(movie) - lag], responses[:, lag:]) for movie, responses in clips]
    return float(_explained(network, lambda: late).amax(0).mean())


def _explained(network: LightNetwork, clips: Clips) -> Tensor:
    """Squared correlation of a cell's maps with every neuron's responses, summed over the maps: (cells, N)."""
    both = torch.zeros(0)  # products, (maps x cells, N): GB of a large mouse, so it is added to in place
    sums: list[Tensor] = []
    count = 0
    for movie, responses in clips():
        x = _settled(network, _maps(network, movie)).flatten(1)
        y = _settled(network, responses.T).to(x)
        parts = [x.sum(0), x.square().sum(0), y.sum(0), y.square().sum(0)]
        if not sums:
            both = x.new_zeros(x.shape[1], y.shape[1])
        both.addmm_(x.T, y)
        sums = [a + b for a, b in zip(sums, parts, strict=True)] if sums else parts
        count += len(x)
    x_mean, x_square, y_mean, y_square = (total / count for total in sums)
    x_variance, y_variance = x_square - x_mean**2, y_square - y_mean**2
    explained = both.new_zeros(both.shape[0] // network.core.maps, both.shape[1])
    for first in range(0, len(both), len(explained)):
        one = slice(first, first + len(explained))  # map
        covariance = both[one] / count - x_mean[one, None] * y_mean
        explained += covariance.square() / (x_variance[one, None] * y_variance).clamp(min=1e-12)
    return explained


def _ridge(network: LightNetwork, mouse: int, clips: Clips) -> tuple[Tensor, Tensor]:
    """Weights (N, maps) and offset (N,) of the regression of responses on the maps in each neuron's window."""
    readout, maps, count = network.readout(mouse), network.core.maps, 0
    cross, x_sum, y_sum = (torch.zeros_like(like) for like in (readout.weight, readout.weight, readout.bias))
    gram = cross.new_zeros(len(cross), maps, maps)
    for movie, responses in clips():
        y = _settled(network, responses.T).T.to(gram)
        for some, x in readout.seen(_settled(network, _maps(network, movie))):
            gram[some].baddbmm_(x, x.mT)
            cross[some] += (x @ y[some, :, None])[..., 0]
            x_sum[some] += x.sum(2)
        y_sum += y.sum(1)
        count += y.shape[1]
    gram.baddbmm_(x_sum[:, :, None], x_sum[:, None], alpha=-1 / count)  # of deviations from the mean
    cross -= x_sum * y_sum[:, None] / count
    variance = gram.diagonal(dim1=1, dim2=2) / count
    gram += torch.diag_embed((count * _STRENGTH + _PRIOR_FRAMES) * variance + 1e-3)
    weight = torch.linalg.solve(gram, cross)
    return weight, (y_sum - (weight * x_sum).sum(1)) / count


def _maps(network: LightNetwork, movie: Tensor) -> Tensor:
    """Maps (T, maps, cells) of one movie, where the network is."""
    device = next(network.parameters()).device
    return network.see(movie.to(device, torch.float32)[None])[0]


def _settled(network: LightNetwork, values: Tensor) -> Tensor:
    """Leave out the first frames, (T, ...), whose past is not known."""
    return values[network.config.memory :]
