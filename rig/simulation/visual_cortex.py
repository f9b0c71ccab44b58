"""The simulated two-photon microscope: layer 2/3 of primary visual cortex while movies are shown.

Owns the neurons (receptive fields, rates, spikes, calcium) and the images of them; movies and
behaviour are given. The movies are shown in a fixed order, over and over, one movie frame per
image, a grey screen before each clip. The receptive fields are drawn from published distributions
and know nothing of the movies; what a repetition adds is spike noise, shared gain and behaviour, so
that no two repetitions are alike.
"""

from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, sparse
from scipy.spatial import cKDTree

from rig.errors import ConfigError
from rig.simulation.mouse import Mouse, smooth_noise
from rig.simulation.visual_neurons import GREY, draw_neurons
from rig.simulation.visual_parameters import VisualParameters
from rig.simulation.widefield import (
    CANVAS_MARGIN_PX,
    bounded_motion,
    indicator_response,
    shift_canvas,
)
from rig.stimulus import GAP_S, shown_at

_STANDARD = VisualParameters()
BLOCK_FRAMES = 60  # spikes are drawn in blocks: small enough that the first frame of one is not late
MEMORY_S = 6.0  # GCaMP6s has decayed to 0.05 % by then, so a spike further back is forgotten
_FIELDS, _CELLS, _STATE, _SPIKES, _FRAME = range(5)  # independent random streams


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
        Which neurons.
    session
        Which recording session of those neurons: their shared fluctuations, spikes, motion and noise.
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
        parameters: VisualParameters = _STANDARD,
        session: int = 0,
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
        self._session = session
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
        noise = self._session_rng(_FRAME, index).standard_normal(self._shape, np.float32)
        variance = light * np.float32(p.counts_per_photon) + np.float32(p.read_noise_counts**2)
        counts = light + np.sqrt(variance) * noise + np.float32(p.offset_counts + 0.5)
        image: NDArray[np.uint16] = np.clip(counts, 0, 65535).astype(np.uint16)
        return image

    def _session_rng(self, part: int, number: int) -> np.random.Generator:
        """Random stream of something that no two sessions share."""
        # session 0 adds nothing to the seed, so that it is what it was before there were others
        own = (self._session,) if self._session else ()
        return np.random.default_rng((self._seed, part, number, *own))

    # --- receptive fields ---

    def _see(self, movies: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Rates in Hz that the movies alone would drive, mouse at rest, (loop frames, N)."""
        height, width = movies.shape[2:]
        # Cortex to screen: the place in the field of view stretched over the screen.
        neurons = draw_neurons(
            np.random.default_rng((self._seed, _FIELDS)),
            self._centre_px / self._shape * (height, width),
            (height, width),
            self.rate_hz,
            max(self._gap_frames, 8),
            self.parameters,
        )
        contrast = movies.reshape(-1, height * width).astype(np.float32) / np.float32(GREY) - 1
        return neurons.rates_hz(*(self._with_gaps(part) for part in neurons.look(contrast)))

    def _with_gaps(self, shown: NDArray[np.float32]) -> NDArray[np.float32]:
        """Put the grey's zero contrast before each clip, (clips x T, N) to (loop frames, N)."""
        clips = shown.reshape(self._clips, self._clip_frames, -1)
        return np.pad(clips, ((0, 0), (self._gap_frames, 0), (0, 0))).reshape(self.loop_frames, -1)

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
        p, rng = self.parameters, self._session_rng(_STATE, 1)
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
        rng = self._session_rng(_SPIKES, block)
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
        p, rng = self.parameters, self._session_rng(_STATE, 2)
        width = p.motion_s * self.rate_hz
        jitter = [p.motion_px * smooth_noise(rng, self._state_frames, width) for _ in "yx"]
        running = p.running_motion_px * self._running_smoothed
        return bounded_motion(np.stack([jitter[0] + running, jitter[1] + 0.3 * running], axis=1))
