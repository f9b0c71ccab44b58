"""Causal deconvolution: how much dF/F of each neuron rose in this frame beyond what its decaying calcium explains.

The model is that of Vogelstein et al. 2010 (doi 10.1152/jn.01073.2009) and of OASIS (Friedrich et al. 2017, doi
10.1371/journal.pcbi.1005423): calcium is an AR(1) process, c[t] = g c[t-1] + s[t] with s >= 0, seen with white
noise. OASIS revises earlier frames when later ones come; a live answer cannot be taken back. So this is the model's
steady Kalman filter, and the answer is its rectified correction, max(0, c[t] - g c[t-1]) with c the filtered calcium.
Spikes are rare and large where noise is frequent and small, so a correction that noise does not explain is taken
almost whole. ``docs/traces.md`` has it beside dF/F and OASIS.
"""

import math

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]

_MEMORY_S = 60.0  # over which noise and activity of each neuron are measured
_LEARN_S = 2.0  # before so much was seen, the gain stands at...
_FIRST_GAIN = np.float32(0.3)  # ...that of a noise of half a spike's dF/F
_SURE = np.float32(3.0)  # standard deviations beyond which a rise is taken for a spike, and...
_SURE_GAIN = np.float32(0.8)  # ...how much of it: both chosen on simulated calcium (docs/traces.md)
_LEAST_NOISE = np.float32(0.01)  # share of the variance that is noise at least
_TINY = np.float32(1e-12)


class CausalDeconvolution:
    """Spikes of N neurons from their dF/F, frame by frame, in units of dF/F.

    The gain of each neuron's filter follows from its own noise and activity, both read from the last minute: what two
    neighbouring frames share is calcium, the rest is noise. No later frame takes part in a frame's answer.

    Parameters
    ----------
    tau_s
        Decay time of the indicator: 0.7 for GCaMP6f, 1.0 for GCaMP6m, 1.25 to 1.5 for GCaMP6s (suite2p's advice).
    rate_hz
        Frame rate.
    """

    def __init__(self, tau_s: float, rate_hz: float) -> None:
        self._decay = math.exp(-1.0 / (tau_s * rate_hz))
        self._memory = _MEMORY_S * rate_hz  # frames
        self._learn = max(round(_LEARN_S * rate_hz), 3)
        self._seen = 0
        self._calcium: Values | None = None

    def step(self, responses: Values, missed: int = 0) -> Values:
        """Take one frame's dF/F (N,) and return its spikes (N,); `missed` frames lie before it."""
        if self._calcium is None:
            self._begin(responses)
            return np.zeros_like(responses)
        self._measure(responses, missed)
        expected = np.float32(self._decay ** (1 + missed)) * self._calcium
        surprise = responses - expected
        correction = self._gain(surprise) * surprise
        self._calcium = expected + correction
        return np.maximum(correction, np.float32(0.0))

    def recording(self, responses: Values) -> Values:
        """Spikes of a whole recording (T, N), by the live rule."""
        return np.stack([self.step(frame) for frame in responses])

    def _begin(self, responses: Values) -> None:
        self._calcium = np.maximum(responses, np.float32(0.0))
        self._mean, self._last = responses.copy(), np.zeros_like(responses)
        self._variance, self._covariance = np.zeros_like(responses), np.zeros_like(responses)

    def _measure(self, responses: Values, missed: int) -> None:
        """Follow mean, variance and the covariance of neighbouring frames."""
        self._seen += 1
        share = np.float32(max(1.0 / self._memory, 1.0 / self._seen))
        self._mean += share * (responses - self._mean)
        deviation = responses - self._mean
        self._variance += share * (deviation * deviation - self._variance)
        if not missed:  # else the one before is no neighbour
            self._covariance += share * (deviation * self._last - self._covariance)
        self._last = deviation

    def _gain(self, surprise: Values) -> Values | np.float32:
        """Gain of each neuron (N,): the steady Kalman gain, or nearly 1 where noise does not explain the rise."""
        if self._seen < self._learn:
            return _FIRST_GAIN
        square = np.float32(self._decay**2)
        calcium = np.clip(self._covariance / np.float32(self._decay), np.float32(0.0), self._variance)
        noise = np.maximum(self._variance - calcium, _LEAST_NOISE * self._variance) + _TINY
        ratio = (1 - square) * calcium / noise
        slope = 1 - square - ratio
        spread = (
            np.sqrt(slope * slope + 4 * ratio) - slope
        ) / 2  # positive root of the scalar Riccati equation
        gain: Values = spread / (1 + spread)
        is_sure = surprise > _SURE * np.sqrt(noise * (1 + spread))
        return np.where(is_sure, np.maximum(gain, _SURE_GAIN), gain)
