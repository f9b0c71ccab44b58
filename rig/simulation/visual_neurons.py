"""Neurons of the simulated visual cortex: what movies alone would drive them to.

Owns receptive fields, temporal kernels and contrast gain, drawn once from published distributions. Knows nothing of
behaviour, spikes or microscopes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from rig.simulation.visual_parameters import VisualParameters

GREY = 127.5
_BLOCK = 1000  # neurons whose fields are drawn at a time: each takes ten arrays of the movie's size
_NOTHING = 1e-20  # far tails of a Gaussian; subnormal numbers would make every product slow
_LARGEST_CONTRAST = 0.7  # rms of the best grating


@dataclass(frozen=True, slots=True)
class ReceptiveFields:
    """Gabor fields of N neurons; centres are (row, column), (N, 2); sd_px across, along, (2, N)."""

    shape: tuple[int, int]
    centre: NDArray[np.float64]
    cycles_per_px: NDArray[np.float64]
    sd_px: NDArray[np.float64]
    orientation: NDArray[np.float64]
    phase: NDArray[np.float64]
    surround: float

    def filters(self) -> NDArray[np.float32]:
        """Even field, odd field and normalisation pool of each neuron, (3, N, H x W).

        An even or odd response is 1 for the neuron's best grating at full contrast, filling the screen.
        """
        filters = np.empty((3, len(self.centre), self.shape[0] * self.shape[1]), np.float32)
        for first in range(0, len(self.centre), _BLOCK):
            self._draw(slice(first, first + _BLOCK), filters)
        return filters

    def _draw(self, chosen: slice, filters: NDArray[np.float32]) -> None:
        """Draw some neurons' filters into their place."""
        row, column = np.indices(self.shape).reshape(2, 1, -1) - self.centre[chosen].T[:, :, None]
        turn = self.orientation[chosen, None]
        across = column * np.cos(turn) + row * np.sin(turn)
        along = row * np.cos(turn) - column * np.sin(turn)
        sd_across, sd_along = self.sd_px[:, chosen, None]
        squared = (across / sd_across) ** 2 + (along / sd_along) ** 2
        carrier = 2 * np.pi * self.cycles_per_px[chosen, None] * across + self.phase[chosen, None]
        window = np.exp(-squared / 2)
        scale = (window * np.cos(carrier) ** 2).sum(axis=1, keepdims=True)
        pool = np.exp(-squared / (2 * self.surround**2))
        for place, wave in enumerate((np.cos, np.sin)):
            filters[place, chosen] = window * wave(carrier) / scale
        filters[2, chosen] = pool / pool.sum(axis=1, keepdims=True)
        drawn = filters[:, chosen]
        drawn[abs(drawn) < _NOTHING] = 0.0


@dataclass(frozen=True, slots=True)
class VisualNeurons:
    """N neurons that watch movies of one size and rate; from simple to complex, direction-blind to selective."""

    parameters: VisualParameters
    rate_hz: float
    fields: ReceptiveFields
    filters: NDArray[np.float32]  # (3, N, H x W)
    direction: NDArray[np.float64]  # -1 to 1, (N,)
    complexity: NDArray[np.float64]  # share of energy in the drive, (N,)
    early: NDArray[np.float32]  # temporal kernels, (taps, N)
    late: NDArray[np.float32]  # their partners, a quarter cycle behind
    peak_hz: NDArray[np.float64]
    rest_hz: NDArray[np.float64]

    def look(
        self, contrast: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Look at frames (T, H x W): even, odd responses and contrast energy around, each (T, N)."""
        even, odd, pool = self.filters
        return contrast @ even.T, contrast @ odd.T, contrast**2 @ pool.T

    def rates_hz(
        self, even: NDArray[np.float32], odd: NDArray[np.float32], energy: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Rates in Hz, (T, N), from what `look` gave, in order; a mouse at rest, and nothing before."""
        p = self.parameters
        pool = np.sqrt(np.maximum(self._smooth_in_time(energy), 0.0))
        # The last factor makes it 1 for the best grating.
        gain = (p.half_contrast + _LARGEST_CONTRAST) / (p.half_contrast + pool)
        normalised = self._drive(even, odd) * gain
        rates_hz = self.rest_hz + self.peak_hz * np.maximum(normalised, 0.0) ** p.exponent
        return np.asarray(rates_hz / (1 + rates_hz / p.ceiling_hz), np.float32)

    def _drive(self, even: NDArray[np.float32], odd: NDArray[np.float32]) -> NDArray[np.float32]:
        """Drive, (T, N): a linear and an energy part (Adelson & Bergen 1985)."""
        a = _filter_each(even, self.early) - self.direction * _filter_each(odd, self.late)
        b = _filter_each(odd, self.early) + self.direction * _filter_each(even, self.late)
        strongest = 1 + np.abs(self.direction)
        drive = ((1 - self.complexity) * a + self.complexity * np.hypot(a, b)) / strongest
        return np.asarray(drive, np.float32)

    def _smooth_in_time(self, energy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Contrast energy over the last 100 ms or so, as gain control is quick but not instant."""
        keep = np.float32(np.exp(-1 / (0.1 * self.rate_hz)))  # chosen
        smoothed: NDArray[np.float32] = signal.lfilter(
            np.array([1 - keep]), np.array([1, -keep]), energy, axis=0
        )
        return smoothed


def draw_neurons(
    rng: np.random.Generator,
    places: NDArray[np.float64],
    screen_px: tuple[int, int],
    rate_hz: float,
    kernel_frames: int,
    parameters: VisualParameters,
) -> VisualNeurons:
    """Draw neurons whose fields lie at `places` on the screen, scattered.

    Parameters
    ----------
    places
        (row, column) in movie pixels where the retinotopic map puts each neuron, (N, 2).
    screen_px
        Height and width of the movies.
    kernel_frames
        Length of the temporal kernels.
    """
    p, n = parameters, len(places)
    fields = _draw_fields(rng, places, screen_px, p)
    direction = rng.beta(*p.direction_shape, n) * rng.choice([-1, 1], n)
    complexity = rng.beta(*p.complex_shape, n)
    early, late = _draw_kernels(rng, n, rate_hz, kernel_frames, p)
    peak_hz = p.peak_median_hz * rng.lognormal(0, p.peak_log_sd, n)
    rest_hz = p.rest_median_hz * rng.lognormal(0, p.rest_log_sd, n)
    return VisualNeurons(
        p, rate_hz, fields, fields.filters(), direction, complexity, early, late, peak_hz, rest_hz
    )


def _draw_fields(
    rng: np.random.Generator, places: NDArray[np.float64], screen_px: tuple[int, int], p: VisualParameters
) -> ReceptiveFields:
    n = len(places)
    cycles_per_px = np.clip(rng.lognormal(np.log(p.frequency_median_cpd), p.frequency_log_sd, n), 0.008, 0.2)
    cycles_per_px *= p.deg_per_px
    cycles = np.array(p.cycles_median)[:, None] * rng.lognormal(0, p.cycles_log_sd, (2, n))
    return ReceptiveFields(
        shape=screen_px,
        centre=places + rng.normal(0, p.scatter_deg / p.deg_per_px, (n, 2)),
        cycles_per_px=cycles_per_px,
        sd_px=cycles / cycles_per_px,
        orientation=rng.uniform(0, np.pi, n),
        phase=rng.uniform(0, 2 * np.pi, n),
        surround=p.surround,
    )


def _draw_kernels(
    rng: np.random.Generator, n: int, rate_hz: float, frames: int, p: VisualParameters
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Temporal kernels and their delayed partners, both (taps, N), sum of magnitudes 1.

    Differences of gamma functions, from sustained to transient; partners lag a quarter cycle.
    """
    tau_s = p.kernel_s[0] * rng.lognormal(0, p.kernel_s[1], n)
    latency_s = np.maximum(rng.normal(*p.latency_s, n), 0.0)
    second = rng.uniform(*p.biphasic, n)
    t_s = (np.arange(frames)[:, None] + 0.5) / rate_hz

    def kernel(delay_s: NDArray[np.float64]) -> NDArray[np.float32]:
        x = np.maximum(t_s - delay_s, 0.0) / tau_s
        both = x**2 * np.exp(-x) / 2 - second * x**4 * np.exp(-x) / 24
        scaled: NDArray[np.float32] = (both / np.abs(both).sum(axis=0)).astype(np.float32)
        return scaled

    return kernel(latency_s), kernel(latency_s + 2 * tau_s)


def _filter_each(signals: NDArray[np.float32], kernels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convolve each column of (T, N) with its own causal kernel of (taps, N)."""
    filtered: NDArray[np.float32] = signal.oaconvolve(signals, kernels, axes=0)[: len(signals)]
    return filtered
