"""How far responses stray from what an encoder says, beyond what the movie can explain: the noise of an inversion.

Responses of deconvolved calcium stray for several frames together, and a part of it is common to all neurons. Taken
for independent, they would be believed several times over, and the movie would follow the noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve_toeplitz
from torch import Tensor

from decoders.reconstruction.encoder import Encoder
from decoders.reconstruction.movie_prior import known_of

_NUGGET = (
    0.03  # of the variance is taken as independent from frame to frame, so that a smooth response is no proof
)
_FAINTEST = 0.01  # of the mean variance over neurons: no neuron is believed more


@dataclass(frozen=True, slots=True)
class ResponseNoise:
    """Gaussian noise around the responses of N neurons, and the responses.

    `known` (N, T) is 0 where nothing was measured; `spread` (N, 1) are standard deviations; the causal filter
    `whitener` makes the noise independent over time; `common` is the share of its variance that all neurons have in
    common.
    """

    responses: Tensor
    known: Tensor
    spread: Tensor
    whitener: Tensor
    common: float

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        mouse: int,
        responses: NDArray[np.float32],
        device: torch.device,
        common: float,
        order: int = 6,
    ) -> Self:
        """Measure the noise of a clip's responses (N, T), NaN where unknown.

        A neuron's variance is that around the encoder's own predictions of clips it was not trained on, where its file
        tells it; otherwise that of the responses here, of which single trials hold little else than noise. How long
        deviations last is taken from the responses, `order` frames back.
        """
        known = np.isfinite(responses)
        count = np.maximum(known.sum(axis=1, keepdims=True), 1)
        values = np.where(known, responses, 0.0).astype(np.float64)
        deviations = np.where(known, values - values.sum(axis=1, keepdims=True) / count, 0.0)
        here = (deviations**2).sum(axis=1) / count[:, 0]
        variance = np.asarray(known_of(encoder).get(f"noise_{encoder.mice[mouse]}", here), np.float64)
        usable = variance[known.any(axis=1)]  # empty where nothing is known of a whole stretch of a clip
        faintest = max(_FAINTEST * float(usable.mean()), 1e-12) if usable.size else 1.0
        spread = np.sqrt(np.maximum(variance, faintest))[:, None]
        whitener = prediction_error_filter(_correlations(deviations / spread, order))

        def moved(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(array.astype(np.float32)).to(device)

        return cls(moved(values), moved(known), moved(spread), moved(whitener), common)

    def misfit(self, answers: Tensor, frames: slice = slice(None)) -> Tensor:
        """Minus the log likelihood of these frames' responses, given the encoder's answers (N, frames).

        The first frames, and those just after a gap, only tell how the next ones deviate.
        """
        known = self.known[:, frames]
        deviations = known * (self.responses[:, frames] - answers) / self.spread
        white = filtered(deviations, self.whitener) * settled(known, len(self.whitener))
        neurons = known.amax(dim=1).sum()
        share = self.common * neurons / (1 - self.common + self.common * neurons)
        together = white.sum(dim=0).square().sum() / neurons.clamp(min=1)
        return 0.5 * (white.square().sum() - share * together)


def prediction_error_filter(correlations: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """The causal filter that makes noise of these correlations, by lag from 0, white and of unit variance.

    Its last weight is that of the present frame.
    """
    kept = np.array(correlations, np.float64)
    kept[0] += _NUGGET
    order = len(kept) - 1
    past = solve_toeplitz(kept[:order], kept[1:]) if order else np.zeros(0)
    left = max(float(kept[0] - past @ kept[1:]), _NUGGET)
    weights: NDArray[np.float64] = np.append(-past[::-1], 1.0) / np.sqrt(left)
    return weights


def filtered(deviations: Tensor, weights: Tensor) -> Tensor:
    """Filter deviations (N, T) over time, without those that need frames before the first: (N, T - weights + 1)."""
    frames = deviations.shape[-1] - len(weights) + 1
    white = torch.zeros_like(deviations[:, :frames])
    for at, weight in enumerate(weights.tolist()):
        white = white + weight * deviations[:, at : at + frames]
    return white


def settled(known: Tensor, length: int) -> Tensor:
    """Where a response and the `length` - 1 before it are known, (N, T - length + 1)."""
    return known.unfold(1, length, 1).amin(dim=2)


def _correlations(deviations: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """Autocorrelation over all neurons, lags 0 to `order`; where noise is smoothed it is not negative."""
    lags = range(min(order + 1, deviations.shape[1]))
    products = [
        float((deviations[:, lag:] * deviations[:, : deviations.shape[1] - lag]).sum()) for lag in lags
    ]
    if products[0] <= 0:
        products = [1.0, *(0.0 for _ in products[1:])]
    correlations: NDArray[np.float64] = np.maximum(np.array(products) / products[0], 0.0)
    return correlations
