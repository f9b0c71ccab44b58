"""The simulated two-photon microscope: layer 2/3 of primary visual cortex while movies are shown.

Owns the neurons (receptive fields, rates, spikes, calcium) and the images of them; movies and
behaviour are given. The movies are shown in a fixed order, over and over, one movie frame per
image, a grey screen before each clip. The receptive fields are drawn from published distributions
and know nothing of the movies; what a repetition adds is spike noise, shared gain and behaviour, so
that no two repetitions are alike.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, signal, sparse
from scipy.spatial import cKDTree

from rig.errors import ConfigError
from rig.simulation.mouse import Mouse, smooth_noise
from rig.simulation.widefield import (
    CANVAS_MARGIN_PX,
    bounded_motion,
    indicator_response,
    shift_canvas,
)

GAP_S = 0.5  # chosen: grey before each clip; longer than the receptive fields remember


def shown_at(index: int, clips: int, clip_frames: int, rate_hz: float) -> tuple[int, int]:
    """Clip and movie frame on the screen while frame `index` is taken; (-1, -1) for grey.

    The clips are shown in order, over and over, each after `GAP_S` of grey.
    """
    gap_frames = round(GAP_S * rate_hz)
    clip, place = divmod(index % (clips * (gap_frames + clip_frames)), gap_frames + clip_frames)
    shown = place - gap_frames
    return (clip, shown) if shown >= 0 else (-1, -1)


@dataclass(frozen=True, slots=True)
class VisualParameters:
    """Neurons and microscope. "Chosen" marks a value without a source, of the usual size.

    Distributions of receptive fields are of mouse V1, Niell & Stryker 2008, J Neurosci 28:7520
    ("NS08").
    """

    deg_per_px: float = 2.0  # a 55 cm screen at 15 cm spans 123 deg, over 64 px (Sensorium 2023)
    frequency_median_cpd: float = 0.036  # preferred spatial frequency, log-normal (NS08)
    frequency_log_sd: float = 0.6  # most lie between 0.015 and 0.1 cycles/deg (NS08)
    # Gaussian sd in cycles across and along the grating (NS08)
    cycles_median: tuple[float, float] = (0.28, 0.32)
    cycles_log_sd: float = 0.2  # chosen
    scatter_deg: float = 6.0  # local scatter of retinotopy (Bonin 2011, J Neurosci 31:18506)
    latency_s: tuple[float, float] = (0.05, 0.015)  # mean, sd; V1 answers after 50 ms or so (NS08)
    # median, log sd of gamma time constant: peaks 2 Hz or so (NS08)
    kernel_s: tuple[float, float] = (0.035, 0.3)
    # chosen: second lobe relative to the first, sustained to transient
    biphasic: tuple[float, float] = (0.2, 0.9)
    # beta: a minority is direction selective (NS08)
    direction_shape: tuple[float, float] = (0.8, 1.6)
    # beta: share of energy in the drive; simple cells are the majority in layer 2/3 (NS08)
    complex_shape: tuple[float, float] = (0.7, 1.3)
    surround: float = 2.0  # chosen: width of the normalisation pool relative to the field
    # rms contrast that halves the gain of the normalisation (NS08, contrast tuning)
    half_contrast: float = 0.15
    exponent: float = 2.0  # rates grow as a power of the drive (Finn 2007, Neuron 54:137, cat)
    # log-normal, for a drive of 1, which a grating at full contrast comes near, as temporal kernels
    # pass at most 0.6 or so: 15 Hz to the best grating, NS08 report 5 to 30 Hz
    peak_median_hz: float = 40.0
    peak_log_sd: float = 0.6  # chosen
    ceiling_hz: float = 60.0  # chosen: no rate exceeds it
    rest_median_hz: float = 0.3  # spontaneous rate in layer 2/3 (NS08)
    rest_log_sd: float = 0.8  # chosen
    # mean, sd of added gain (Niell & Stryker 2010, Neuron 65:472)
    running_gain: tuple[float, float] = (0.6, 0.4)
    running_gain_s: float = 0.3  # chosen: how quickly it comes and goes
    # log gain shared by neurons (Goris 2014, Nat Neurosci 17:858)
    shared_sd: tuple[float, ...] = (0.25, 0.15, 0.15)
    shared_s: tuple[float, ...] = (0.4, 1.0, 5.0)  # chosen

    # GCaMP6s, one spike, time to peak (Chen 2013, Nature 499:295, supplementary table 3)
    rise_s: float = 0.179
    half_decay_s: float = 0.550  # same
    peak_dff: float = 0.23  # same: largest dF/F after one spike
    ceiling_dff: float = 15.0  # chosen: somata in vivo rarely exceed 10
    peak_log_sd_dff: float = 0.4  # chosen: expression and depth differ between neurons

    # chosen: 0.4 mm field at 128 px; magnification is exaggerated so that it sees the screen
    um_per_px: float = 3.0
    soma_um: float = 14.0  # diameter of a layer 2/3 pyramidal cell and its blur
    nucleus_dim: float = 0.4  # chosen: GCaMP stays out of the nucleus
    soma_photons: float = 60.0  # chosen: per pixel and frame at rest, median
    soma_log_sd: float = 0.4  # chosen
    neuropil_photons: float = 25.0  # chosen: usual contamination
    neuropil_share: float = 0.5  # chosen: part of neuropil light that follows nearby neurons
    neuropil_patches: int = 4  # chosen: per side; neuropil is correlated over 100 um
    counts_per_photon: float = 20.0  # chosen
    read_noise_counts: float = 15.0  # chosen: amplifier
    offset_counts: float = 200.0  # chosen
    motion_px: float = 0.25  # chosen: sd, rigid
    motion_s: float = 0.15  # chosen
    running_motion_px: float = 0.5  # chosen: displacement while running


BLOCK_FRAMES = 60  # spikes are drawn in blocks: small enough that the first frame of one is not late
MEMORY_S = 6.0  # GCaMP6s has decayed to 0.05 % by then, so a spike further back is forgotten
_FIELDS, _CELLS, _STATE, _SPIKES, _FRAME = range(5)  # independent random streams
GREY = 127.5


class VisualCortex:
    """A two-photon field of view in V1: 16-bit images of neurons with GCaMP6s that watch movies.

    Frame k is taken at session time k / `rate_hz`, while the screen shows `stimulus_at(k)`. Frames
    depend on the constructor's arguments and the index only, not on the order they are asked for.

    Parameters
    ----------
    movies
        Grey levels 0 to 255, uint8 (clips, T, movie height, movie width), shown at `rate_hz`.
    mouse
        Whose running changes the responses and shakes the image.
    seed
        Which neurons and which noise.
    """

    def __init__(
        self,
        movies: NDArray[np.uint8],
        mouse: Mouse,
        seed: int,
        neurons: int = 200,
        height_px: int = 128,
        width_px: int = 128,
        rate_hz: float = 30.0,
        parameters: VisualParameters = VisualParameters(),
    ) -> None:
        if movies.ndim != 4 or movies.dtype != np.uint8:
            found = f"{movies.dtype} {movies.shape}"
            raise ConfigError(f"movies are {found}; valid is uint8 (clips, frames, height, width)")
        most = int(0.9 * height_px * width_px * (parameters.um_per_px / parameters.soma_um) ** 2)
        if not 0 < neurons <= most:
            field = f"{width_px} x {height_px} px"
            raise ConfigError(f"{neurons} neurons do not fit {field}; valid is 1 to {most}")
        self.mouse = mouse
        self.neurons = neurons
        self.rate_hz = rate_hz
        self.parameters = parameters
        self._seed = seed
        self._shape = (height_px, width_px)
        self._clips, self._clip_frames = movies.shape[:2]
        self._gap_frames = round(GAP_S * rate_hz)
        self._state_frames = round(mouse.duration_s * rate_hz)
        self._centre_px = self._place_cells()
        self._visual_hz = self._see(movies)
        self._block_spikes = lru_cache(maxsize=16)(self._draw_spikes)
        self._block_dff = lru_cache(maxsize=16)(self._compute_block)

    # --- what is true ---

    @property
    def loop_frames(self) -> int:
        """Frames until the first clip starts again: every clip and the grey before it."""
        return int(self._clips * (self._gap_frames + self._clip_frames))

    def stimulus_at(self, index: int) -> tuple[int, int]:
        """Clip and movie frame on the screen while frame `index` is taken; (-1, -1) for grey."""
        return shown_at(index, self._clips, self._clip_frames, self.rate_hz)

    def rates(self, index: ArrayLike) -> NDArray[np.float32]:
        """Give true rates in Hz, (..., N): stimulus, running, shared gain; no spike noise."""
        at = np.asarray(index)
        rates: NDArray[np.float32] = self._visual_hz[at % self.loop_frames] * self._gain(at)
        return rates

    def dff(self, index: ArrayLike) -> NDArray[np.float32]:
        """Give true dF/F, (..., N): of the spikes that fell, before any light is counted."""
        at = np.asarray(index)
        flat = np.empty((at.size, self.neurons), np.float32)
        block = at.ravel() // BLOCK_FRAMES
        for b in np.unique(block):
            inside = block == b
            flat[inside] = self._block_dff(int(b))[at.ravel()[inside] % BLOCK_FRAMES]
        return flat.reshape(*at.shape, self.neurons)

    @cached_property
    def label_image(self) -> NDArray[np.int32]:
        """Whose each pixel is, (H, W): 0 nobody's, k neuron k - 1 of `rates` and `dff`."""
        labels = np.zeros(self._shape, np.int32)
        inside = self._nearest_px[0] <= self._soma_radius_px
        labels[inside] = self._nearest_px[1][inside] + 1
        return labels

    def frame(self, index: int) -> NDArray[np.uint16]:
        """Image number `index`, (H, W) in detector counts."""
        p = self.parameters
        dff = self._block_dff(index // BLOCK_FRAMES)[index % BLOCK_FRAMES]
        neuropil, weights = self._neuropil
        photons = self._canvas + self._footprints @ dff + neuropil @ (weights @ dff)
        canvas = photons.reshape([side + 2 * CANVAS_MARGIN_PX for side in self._shape])
        light = shift_canvas(canvas, self._motion_px[index % self._state_frames]) * np.float32(
            p.counts_per_photon
        )
        noise = np.random.default_rng((self._seed, _FRAME, index)).standard_normal(self._shape, np.float32)
        variance = light * np.float32(p.counts_per_photon) + np.float32(p.read_noise_counts**2)
        counts = light + np.sqrt(variance) * noise + np.float32(p.offset_counts + 0.5)
        image: NDArray[np.uint16] = np.clip(counts, 0, 65535).astype(np.uint16)
        return image

    # --- receptive fields ---

    def _see(self, movies: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Rates in Hz that the movies alone would drive, mouse at rest, (loop frames, N)."""
        p, rng = self.parameters, np.random.default_rng((self._seed, _FIELDS))
        height, width = movies.shape[2:]
        fields = self._draw_fields(rng, height, width)
        contrast = movies.reshape(-1, height * width).astype(np.float32) / np.float32(GREY) - 1
        even, odd, energy = (self._with_gaps(part) for part in fields.project(contrast))
        drive = self._in_time(rng, even, odd)
        pool = np.sqrt(np.maximum(self._smooth_in_time(energy), 0.0))
        # The last factor makes it 1 for the best grating, whose rms contrast is 0.7.
        normalised = drive / (p.half_contrast + pool) * (p.half_contrast + 0.7)
        peak_hz = p.peak_median_hz * rng.lognormal(0, p.peak_log_sd, self.neurons)
        rest_hz = p.rest_median_hz * rng.lognormal(0, p.rest_log_sd, self.neurons)
        rates_hz = rest_hz + peak_hz * np.maximum(normalised, 0.0) ** p.exponent
        return np.asarray(rates_hz / (1 + rates_hz / p.ceiling_hz), np.float32)

    def _draw_fields(self, rng: np.random.Generator, height: int, width: int) -> "_ReceptiveFields":
        p, n = self.parameters, self.neurons
        cycles_per_px = np.clip(
            rng.lognormal(np.log(p.frequency_median_cpd), p.frequency_log_sd, n), 0.008, 0.2
        )
        cycles_per_px *= p.deg_per_px
        cycles = np.array(p.cycles_median)[:, None] * rng.lognormal(0, p.cycles_log_sd, (2, n))
        # Cortex to screen: place in the field of view stretched over the screen, then scattered.
        screen = self._centre_px / self._shape * (height, width) + rng.normal(
            0, p.scatter_deg / p.deg_per_px, (n, 2)
        )
        return _ReceptiveFields(
            shape=(height, width),
            centre=screen,
            cycles_per_px=cycles_per_px,
            sd_px=cycles / cycles_per_px,
            orientation=rng.uniform(0, np.pi, n),
            phase=rng.uniform(0, 2 * np.pi, n),
            surround=p.surround,
        )

    def _with_gaps(self, shown: NDArray[np.float32]) -> NDArray[np.float32]:
        """Put the grey's zero contrast before each clip, (clips x T, N) to (loop frames, N)."""
        clips = shown.reshape(self._clips, self._clip_frames, -1)
        return np.pad(clips, ((0, 0), (self._gap_frames, 0), (0, 0))).reshape(self.loop_frames, -1)

    def _in_time(
        self, rng: np.random.Generator, even: NDArray[np.float32], odd: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Drive, (loop frames, N): a linear and an energy part (Adelson & Bergen 1985)."""
        p = self.parameters
        direction = rng.beta(*p.direction_shape, self.neurons) * rng.choice([-1, 1], self.neurons)
        complexity = rng.beta(*p.complex_shape, self.neurons)
        early, late = self._kernels(rng)
        a = _filter_each(even, early) - direction * _filter_each(odd, late)
        b = _filter_each(odd, early) + direction * _filter_each(even, late)
        strongest = 1 + np.abs(direction)
        drive = ((1 - complexity) * a + complexity * np.hypot(a, b)) / strongest
        return np.asarray(drive, np.float32)

    def _kernels(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Temporal kernels and their delayed partners, both (taps, N), sum of magnitudes 1.

        Differences of gamma functions, from sustained to transient; partners lag a quarter cycle.
        """
        p, n = self.parameters, self.neurons
        tau_s = p.kernel_s[0] * rng.lognormal(0, p.kernel_s[1], n)
        latency_s = np.maximum(rng.normal(*p.latency_s, n), 0.0)
        second = rng.uniform(*p.biphasic, n)
        t_s = (np.arange(max(self._gap_frames, 8))[:, None] + 0.5) / self.rate_hz

        def kernel(delay_s: NDArray[np.float64]) -> NDArray[np.float32]:
            x = np.maximum(t_s - delay_s, 0.0) / tau_s
            both = x**2 * np.exp(-x) / 2 - second * x**4 * np.exp(-x) / 24
            scaled: NDArray[np.float32] = (both / np.abs(both).sum(axis=0)).astype(np.float32)
            return scaled

        return kernel(latency_s), kernel(latency_s + 2 * tau_s)

    def _smooth_in_time(self, energy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Contrast energy over the last 100 ms or so, as gain control is quick but not instant."""
        keep = np.float32(np.exp(-1 / (0.1 * self.rate_hz)))  # chosen
        smoothed: NDArray[np.float32] = signal.lfilter(
            np.array([1 - keep]), np.array([1, -keep]), energy, axis=0
        )
        return smoothed

    # --- state, spikes, calcium ---

    def _gain(self, index: NDArray[np.integer]) -> NDArray[np.float32]:
        """Factor on each neuron's rate from running and from shared fluctuations, (..., N)."""
        at = index % self._state_frames
        running_gain, loadings = self._gain_of_neurons
        by_running = np.maximum(1 + self._running_smoothed[at, None] * running_gain, 0.2)
        gain: NDArray[np.float32] = by_running * np.exp(self._shared[at] @ loadings)
        return gain

    @cached_property
    def _gain_of_neurons(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Gain that running adds, (N,), and loadings on shared fluctuations, (fluctuations, N)."""
        p, rng = self.parameters, np.random.default_rng((self._seed, _STATE, 0))
        loadings = rng.normal(1.0, 0.5, (len(p.shared_sd), self.neurons))
        return rng.normal(*p.running_gain, self.neurons).astype(np.float32), loadings.astype(np.float32)

    @cached_property
    def _shared(self) -> NDArray[np.float32]:
        """Log gain that neurons share, (state frames, fluctuations)."""
        p, rng = self.parameters, np.random.default_rng((self._seed, _STATE, 1))
        widths = [width_s * self.rate_hz for width_s in p.shared_s]
        noise = np.stack([smooth_noise(rng, self._state_frames, width) for width in widths], axis=1)
        return (np.array(p.shared_sd) * noise).astype(np.float32)

    @cached_property
    def _running_smoothed(self) -> NDArray[np.float32]:
        """Running, 0 to 1, smoothed, (state frames,)."""
        running = self.mouse.running(np.arange(self._state_frames) / self.rate_hz).astype(np.float64)
        width = self.parameters.running_gain_s * self.rate_hz
        return np.asarray(ndimage.gaussian_filter1d(running, width, mode="wrap"), np.float32)

    def _draw_spikes(self, block: int) -> NDArray[np.float32]:
        """Spike counts of one block, (BLOCK_FRAMES, N); none before session time 0."""
        if block < 0:
            return np.zeros((BLOCK_FRAMES, self.neurons), np.float32)
        rng = np.random.default_rng((self._seed, _SPIKES, block))
        expected = self.rates(block * BLOCK_FRAMES + np.arange(BLOCK_FRAMES)) / self.rate_hz
        return rng.poisson(expected).astype(np.float32)

    def _compute_block(self, block: int) -> NDArray[np.float32]:
        """Give dF/F of one block, (BLOCK_FRAMES, N), from its spikes and those still remembered."""
        p = self.parameters
        before = int(np.ceil(MEMORY_S * self.rate_hz / BLOCK_FRAMES))
        spikes = np.concatenate([self._block_spikes(b) for b in range(block - before, block + 1)])
        calcium = indicator_response(spikes.T, p.rise_s, p.half_decay_s, self.rate_hz)
        dff = calcium[:, -BLOCK_FRAMES:].T * self._dff_per_response
        return np.asarray(dff / (1 + dff / p.ceiling_dff), np.float32)

    @cached_property
    def _dff_per_response(self) -> NDArray[np.float32]:
        """Scale that gives the indicator's response its published peak after one spike, (N,)."""
        p, rng = self.parameters, np.random.default_rng((self._seed, _CELLS, 1))
        one = np.zeros(round(MEMORY_S * self.rate_hz))
        one[0] = 1.0
        peak = indicator_response(one, p.rise_s, p.half_decay_s, self.rate_hz).max()
        brightness = rng.lognormal(0, p.peak_log_sd_dff, self.neurons)
        return np.asarray(p.peak_dff / peak * brightness, np.float32)

    # --- the field of view ---

    @property
    def _soma_radius_px(self) -> float:
        return self.parameters.soma_um / self.parameters.um_per_px / 2

    def _place_cells(self) -> NDArray[np.float64]:
        """Centres (row, column) in px, (N, 2), top first: random, but not overlapping."""
        rng = np.random.default_rng((self._seed, _CELLS, 0))
        crowding_px = 0.65 * np.sqrt(
            np.prod(self._shape) / self.neurons
        )  # far from jamming, so the loop ends soon
        apart_px = min(2.2 * self._soma_radius_px, crowding_px)
        placed = np.empty((0, 2))
        while len(placed) < self.neurons:
            candidate = rng.uniform(0, np.array(self._shape) - 1)
            if np.all(np.hypot(*(placed - candidate).T) >= apart_px):
                placed = np.vstack([placed, candidate])
        return placed[np.argsort(placed[:, 0])]

    @cached_property
    def _nearest_px(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Distance in px to the nearest neuron and which it is, both (H, W)."""
        distance, nearest = cKDTree(self._centre_px).query(np.moveaxis(np.indices(self._shape), 0, -1))
        return distance, nearest

    @cached_property
    def _footprints(self) -> sparse.csr_array:
        """Photons of each neuron at rest, (canvas pixels, N): a ring, dim inside."""
        p, rng = self.parameters, np.random.default_rng((self._seed, _CELLS, 2))
        brightness = p.soma_photons * rng.lognormal(0, p.soma_log_sd, self.neurons)
        distance, nearest = self._nearest_px
        edge = np.clip(self._soma_radius_px + 0.5 - distance, 0.0, 1.0)
        ring = np.where(distance < 0.45 * self._soma_radius_px, p.nucleus_dim, 1.0)
        light = edge * ring * brightness[nearest]
        row, column = np.nonzero(light)
        pixel = (row + CANVAS_MARGIN_PX) * (self._shape[1] + 2 * CANVAS_MARGIN_PX) + column + CANVAS_MARGIN_PX
        entries = (light[row, column].astype(np.float32), (pixel, nearest[row, column]))
        return sparse.csr_array(entries, shape=(self._canvas_pixels, self.neurons))

    @property
    def _canvas_pixels(self) -> int:
        return (self._shape[0] + 2 * CANVAS_MARGIN_PX) * (self._shape[1] + 2 * CANVAS_MARGIN_PX)

    @cached_property
    def _patches(self) -> NDArray[np.float32]:
        """Smooth bumps that tile the canvas and sum to 1, (patches, canvas H, canvas W)."""
        side = self.parameters.neuropil_patches
        profiles = []
        for length in self._shape:
            place = np.linspace(0, side - 1, length + 2 * CANVAS_MARGIN_PX)
            profiles.append(np.exp(-2 * (place - np.arange(side)[:, None]) ** 2))
        bumps = np.einsum("ay,bx->abyx", *profiles).reshape(side * side, *(len(p[0]) for p in profiles))
        return np.asarray(bumps / bumps.sum(axis=0), np.float32)

    @cached_property
    def _neuropil(self) -> tuple[sparse.csr_array, NDArray[np.float32]]:
        """Photons of each patch at rest, (canvas pixels, patches), and its neurons, (patches, N).

        A patch follows the mean of the neurons in it. Sparse, to keep clear of BLAS threads.
        """
        p = self.parameters
        row, column = (np.round(self._centre_px).astype(np.int64) + CANVAS_MARGIN_PX).T
        weights = self._patches[:, row, column]
        weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-6)
        light = p.neuropil_photons * p.neuropil_share * self._patches.reshape(len(weights), -1).T
        light = np.where(light > 1e-2, light, 0.0)
        return sparse.csr_array(light, dtype=np.float32), weights.astype(np.float32)

    @cached_property
    def _canvas(self) -> NDArray[np.float32]:
        """Photons at rest, (canvas pixels,): somata, and neuropil with the grain of tissue."""
        p, rng = self.parameters, np.random.default_rng((self._seed, _CELLS, 3))
        grain = rng.normal(size=self._patches.shape[1:])
        fine, coarse = (ndimage.gaussian_filter(grain, width) for width in (1.0, 8.0))
        tissue = np.exp(0.2 * fine / fine.std() + 0.2 * coarse / coarse.std())
        somata = self._footprints @ np.ones(self.neurons, np.float32)
        return np.asarray(p.neuropil_photons * tissue.ravel() + somata, np.float32)

    @cached_property
    def _motion_px(self) -> NDArray[np.float32]:
        """Displacement in each frame, rows down and columns right, (state frames, 2)."""
        p, rng = self.parameters, np.random.default_rng((self._seed, _STATE, 2))
        width = p.motion_s * self.rate_hz
        jitter = [p.motion_px * smooth_noise(rng, self._state_frames, width) for _ in "yx"]
        running = p.running_motion_px * self._running_smoothed
        return bounded_motion(np.stack([jitter[0] + running, jitter[1] + 0.3 * running], axis=1))


@dataclass(frozen=True, slots=True)
class _ReceptiveFields:
    """Gabor fields of N neurons; centres are (row, column), (N, 2); sd_px across, along, (2, N)."""

    shape: tuple[int, int]
    centre: NDArray[np.float64]
    cycles_per_px: NDArray[np.float64]
    sd_px: NDArray[np.float64]
    orientation: NDArray[np.float64]
    phase: NDArray[np.float64]
    surround: float

    def project(
        self, contrast: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Look at frames (T, H x W): even, odd responses and contrast energy around, each (T, N).

        A response is 1 for the neuron's best grating at full contrast, filling the screen.
        """
        row, column = np.indices(self.shape).reshape(2, 1, -1) - self.centre.T[:, :, None]  # (N, H x W)
        turn = self.orientation[:, None]
        across = column * np.cos(turn) + row * np.sin(turn)
        along = row * np.cos(turn) - column * np.sin(turn)
        sd_across, sd_along = self.sd_px[:, :, None]
        squared = (across / sd_across) ** 2 + (along / sd_along) ** 2
        carrier = 2 * np.pi * self.cycles_per_px[:, None] * across + self.phase[:, None]
        window = np.exp(-squared / 2)
        scale = (window * np.cos(carrier) ** 2).sum(axis=1, keepdims=True)
        pool = np.exp(-squared / (2 * self.surround**2))
        pool /= pool.sum(axis=1, keepdims=True)
        even, odd = (window * wave(carrier) / scale for wave in (np.cos, np.sin))
        return _look(contrast, even), _look(contrast, odd), _look(contrast**2, pool)


def _look(contrast: NDArray[np.float32], fields: NDArray[np.float64]) -> NDArray[np.float32]:
    seen: NDArray[np.float32] = contrast @ fields.T.astype(np.float32)
    return seen


def _filter_each(signals: NDArray[np.float32], kernels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convolve each column of (T, N) with its own causal kernel of (taps, N)."""
    filtered: NDArray[np.float32] = signal.oaconvolve(signals, kernels, axes=0)[: len(signals)]
    return filtered
