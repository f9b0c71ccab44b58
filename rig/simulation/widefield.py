"""The simulated widefield microscope: dorsal cortex of a mouse, every source of signal known.

Owns the areas, their activity, the blood, the light and the camera; behaviour comes from
`rig.simulation.mouse`. Activity and blood are worked out once for the mouse's whole period, area by
area; an image is then a weighted sum of maps, so that any frame can be asked for, at any time, at
the same small cost.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, signal, sparse

from rig.dorsal_cortex import AREAS, LANDMARKS_MM
from rig.errors import ConfigError
from rig.simulation.mouse import Mouse, smooth_noise
from rig.simulation.widefield_parameters import LAG_S, WidefieldParameters, movement_strengths

WARM_UP_S = 30.0  # the filters' memory, taken from the period's end: no seam between periods
CANVAS_MARGIN_PX = 2  # motion never exceeds it
_STANDARD = WidefieldParameters()
_ANATOMY, _ACTIVITY, _FRAME = range(3)  # independent random streams


@dataclass(frozen=True, slots=True)
class _Placement:
    """How a mouse's head lies under the microscope."""

    turn_rad: float
    offset_mm: tuple[float, float]
    scale: float


class WidefieldCortex:
    """Dorsal cortex under a one-photon microscope: images of GCaMP6f at one wavelength.

    Anterior is up and the left hemisphere is left, before the mouse's own rotation. Frame k is
    exposed at session time k / `rate_hz`. Frames depend on the arguments and the index only, not on
    the order they are asked for.

    Parameters
    ----------
    mouse
        Its behaviour.
    seed
        Which brain: anatomy, expression and how strongly each area responds.
    session
        Which recording session of that brain: its spontaneous activity and noise.
    """

    def __init__(
        self,
        mouse: Mouse,
        seed: int,
        height_px: int = 128,
        width_px: int = 128,
        rate_hz: float = 30.0,
        parameters: WidefieldParameters = _STANDARD,
        session: int = 0,
    ) -> None:
        if min(height_px, width_px) < 8:
            raise ConfigError(
                f"a simulated field of {width_px} x {height_px} px is too small; valid is 8 or more"
            )
        self.mouse = mouse
        self.rate_hz = rate_hz
        self.parameters = parameters
        self._seed = seed
        self._session = session
        self._strength = movement_strengths(parameters)
        self._shape = (height_px, width_px)
        self._frames = round(mouse.duration_s * rate_hz)

    def frame(self, index: int) -> NDArray[np.uint16]:
        """Image number `index`, (H, W) in camera counts."""
        p = self.parameters
        k = index % self._frames
        brain = self._canvas * (1 + self._maps @ self._activity[k])  # (canvas pixels,)
        light = shift_canvas(brain.reshape(self._canvas_shape), self._motion_px[k]) * np.float32(
            1 + self._bleached(index)
        )
        noise = np.random.default_rng((self._seed, _FRAME, index, self._session)).standard_normal(
            self._shape, np.float32
        )
        electrons = light + np.sqrt(light + np.float32(p.read_noise_electrons**2)) * noise
        counts = electrons * np.float32(p.counts_per_electron) + np.float32(p.offset_counts + 0.5)
        image: NDArray[np.uint16] = np.clip(counts, 0, 65535).astype(np.uint16)
        return image

    def area_masks(self) -> dict[str, NDArray[np.float64]]:
        """How much of each pixel belongs to each area, 0 to 1, (H, W).

        "L-FL" is forelimb S1 of the left hemisphere. Sharp anatomy, before scattering and motion;
        the sum over areas is 1 inside cortex and 0 outside.
        """
        m = CANVAS_MARGIN_PX
        masks = self._masks[:, m:-m, m:-m]
        return dict(zip(self._area_names, masks, strict=True))

    def area_activity(self, first: int, count: int) -> dict[str, NDArray[np.float32]]:
        """Give the true dF/F of each area, blood left out, (count,) from frame `first` on."""
        k = np.arange(first, first + count) % self._frames
        return dict(zip(self._area_names, self._calcium[:, k], strict=True))

    def area_light(self, first: int, count: int) -> dict[str, NDArray[np.float32]]:
        """Give what a region of interest over each area shows, relative to rest, (count,) from frame `first` on.

        With blood, scattered light, drift and bleaching; the brain's motion and the camera's noise,
        which a region's mean leaves little of, are left out.
        """
        k = np.arange(first, first + count) % self._frames
        weights = self._masks.reshape(len(self._masks), -1) * self._canvas
        regions = (weights / weights.sum(axis=1, keepdims=True)) @ self._maps
        light = 1 + regions.astype(np.float32) @ self._activity[k].T
        light *= 1 + self._bleached(np.arange(first, first + count)).astype(np.float32)
        return dict(zip(self._area_names, light, strict=True))

    def _bleached(self, index: ArrayLike) -> NDArray[np.float64]:
        """Change of the light by bleaching up to a frame, as a fraction: 0 or less."""
        time_s = np.asarray(index, np.float64) / self.rate_hz
        change: NDArray[np.float64] = self.parameters.bleach_fraction * np.expm1(
            -time_s / self.parameters.bleach_s
        )
        return change

    def landmarks_px(self) -> dict[str, tuple[float, float]]:
        """Where the skull's landmarks lie in this mouse's frames, (column, row) in pixels, 0 the first's centre.

        They may lie outside the frame; the brain's motion, of a fraction of a pixel, is left out.
        """
        return {name: self._pixel(*place) for name, place in LANDMARKS_MM.items()}

    def _activity_rng(self, part: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, _ACTIVITY, part, self._session))

    # --- anatomy ---

    @property
    def _canvas_shape(self) -> tuple[int, int]:
        return self._shape[0] + 2 * CANVAS_MARGIN_PX, self._shape[1] + 2 * CANVAS_MARGIN_PX

    @property
    def _mm_per_px(self) -> float:
        return self.parameters.field_mm / self._shape[1]

    @property
    def _area_names(self) -> list[str]:
        return [f"{side}-{area.name}" for side in "LR" for area in AREAS]

    @cached_property
    def _placement(self) -> _Placement:
        p, rng = self.parameters, np.random.default_rng((self._seed, _ANATOMY, 0))
        turn_rad = float(np.deg2rad(rng.normal(0, p.rotation_sd_deg)))
        across, along = rng.normal(0, p.placement_sd_mm, 2)
        return _Placement(
            turn_rad, (float(across), float(along)), float(np.exp(rng.normal(0, p.scale_log_sd)))
        )

    @cached_property
    def _places_mm(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """ML (right positive) and AP of each canvas pixel in mm from bregma."""
        turn, offset = self._placement.turn_rad, self._placement.offset_mm
        mm_per_px = self._mm_per_px / self._placement.scale
        row, column = np.indices(self._canvas_shape)
        x = (column - (self._canvas_shape[1] - 1) / 2) * mm_per_px - offset[0]
        y = ((self._canvas_shape[0] - 1) / 2 - row) * mm_per_px - offset[1]
        ml, ap = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
        return ml, ap + self.parameters.centre_ap_mm

    def _pixel(self, ml_mm: float, ap_mm: float) -> tuple[float, float]:
        """Column and row in a frame of a place in mm from bregma: the inverse of `_places_mm`."""
        turn, offset = self._placement.turn_rad, self._placement.offset_mm
        px_per_mm = self._placement.scale / self._mm_per_px
        ahead = ap_mm - self.parameters.centre_ap_mm
        x = ml_mm * np.cos(turn) + ahead * np.sin(turn) + offset[0]
        y = ahead * np.cos(turn) - ml_mm * np.sin(turn) + offset[1]
        height, width = self._shape
        return float(x * px_per_mm + (width - 1) / 2), float((height - 1) / 2 - y * px_per_mm)

    @cached_property
    def _masks(self) -> NDArray[np.float64]:
        """Share of each area in each pixel, (areas, canvas H, W)."""
        ml, ap = self._places_mm
        distance = np.stack(
            [
                ((ml - side * a.ml_mm) / a.half_ml_mm) ** 2 + ((ap - a.ap_mm) / a.half_ap_mm) ** 2
                for side in (-1, 1)
                for a in AREAS
            ]
        )
        nearest = distance.min(axis=0)
        share = np.exp(-2 * (distance - nearest))  # borders about 0.1 mm wide
        masks: NDArray[np.float64] = share / share.sum(axis=0) * self._inside(nearest)
        return masks

    def _inside(self, nearest: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cortex 1, surroundings 0; `nearest` is a squared distance in an area's half extents."""
        ragged = ndimage.binary_fill_holes(nearest < 2.5).astype(np.float64)
        # Areas bulge; the edge of the cleared skull does not.
        smooth = ndimage.gaussian_filter(ragged, 0.35 / self._mm_per_px)
        inside: NDArray[np.float64] = 1 / (1 + np.exp(-30 * (smooth - 0.5)))
        return inside

    @cached_property
    def _vessels(self) -> NDArray[np.float64]:
        """Blood over each pixel, 0 to 1, (canvas H, W): sagittal sinus and pial vessels."""
        ml, _ = self._places_mm
        rng = np.random.default_rng((self._seed, _ANATOMY, 1))
        vessels = 0.8 * np.exp(-((ml / 0.18) ** 2))  # the sinus is about 0.3 mm wide
        for width_mm, count in ((0.07, 12), (0.035, 24)):
            drawn = np.zeros(self._canvas_shape)
            for _ in range(count):
                rows, columns = self._vessel_path(rng)
                drawn[rows, columns] = 1.0
            blurred = ndimage.gaussian_filter(drawn, width_mm / self._mm_per_px)
            vessels = np.maximum(vessels, blurred / max(blurred.max(), 1e-9) * (0.4 + 5 * width_mm))
        return np.clip(vessels, 0, 1)

    def _vessel_path(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pixels of one winding vessel, from the side of the field towards the midline."""
        height, width = self._canvas_shape
        steps = 2 * int(rng.uniform(0.2, 0.45) * width)
        from_left = rng.random() < 0.5
        heading = (0 if from_left else np.pi) + np.cumsum(rng.normal(0, 0.12, steps)) + rng.normal(0, 0.5)
        column = (0.08 if from_left else 0.92) * width + 0.5 * np.cumsum(np.cos(heading))
        row = rng.uniform(0.1, 0.9) * height + 0.5 * np.cumsum(np.sin(heading))
        return np.clip(row, 0, height - 1).astype(np.int64), np.clip(column, 0, width - 1).astype(np.int64)

    @cached_property
    def _canvas(self) -> NDArray[np.float32]:
        """Electrons of the resting brain, (canvas pixels,)."""
        p, rng = self.parameters, np.random.default_rng((self._seed, _ANATOMY, 2))
        ml, ap = self._places_mm
        expression = np.exp(rng.normal(0, p.expression_log_sd, len(AREAS)))  # alike in both hemispheres
        brain = np.tensordot(np.tile(expression, 2), self._masks, 1)
        brain *= 1 + 0.06 * _random_field(rng, brain.shape, 2.0)  # chosen: mottle of 6 %
        brain = self._scatter(brain) * (1 - p.vessel_contrast * self._vessels)
        lamp = np.exp(-(ml**2 + (ap - p.centre_ap_mm) ** 2) / (2 * 6.0**2))  # chosen: dim edges
        image = (brain + 0.06) * lamp  # chosen: 6 % from bone and cement outside
        return np.asarray(p.full_electrons * image / image.max(), np.float32).ravel()

    def _scatter(self, image: NDArray[np.float64]) -> NDArray[np.float64]:
        blurred: NDArray[np.float64] = ndimage.gaussian_filter(
            image, self.parameters.scatter_mm / self._mm_per_px
        )
        return blurred

    # --- activity ---

    @cached_property
    def _maps(self) -> sparse.csr_array:
        """Where each column of `_activity` acts, (canvas pixels, areas + waves + 1).

        Sparse, as most areas are nowhere near most pixels; and no BLAS threads to wait for.
        """
        p, rng = self.parameters, np.random.default_rng((self._seed, _ANATOMY, 3))
        areas = [self._scatter(mask) for mask in self._masks]
        inside = self._masks.sum(axis=0)
        wave_px = p.wave_mm / self._mm_per_px
        waves = [_random_field(rng, inside.shape, wave_px) * inside for _ in range(p.waves)]
        maps = np.stack([*areas, *waves, self._vessels * inside]).reshape(-1, self._canvas.size)
        return sparse.csr_array(np.where(np.abs(maps) > 1e-3, maps, 0.0).T, dtype=np.float32)

    @cached_property
    def _times_s(self) -> NDArray[np.float64]:
        """Session time of each frame, the warm-up's first (negative: the period before)."""
        return np.arange(-round(WARM_UP_S * self.rate_hz), self._frames) / self.rate_hz

    @cached_property
    def _movement(self) -> NDArray[np.float64]:
        """What movement drives in forelimb S1, 1 for steady running, (warm-up + frames,)."""
        p = self.parameters
        running = self.mouse.running(self._times_s).astype(np.float64)
        speed = np.abs(self.mouse.running_speed_mm_s(self._times_s))
        pace = speed / self.mouse.parameters.speed_median_mm_s
        steady = running * (1 - p.speed_share + p.speed_share * pace)
        keep = np.exp(-1 / (p.onset_s * self.rate_hz))
        onset = np.maximum(running - signal.lfilter([1 - keep], [1, -keep], running), 0.0)
        fidget = (1 - running) * np.minimum(speed / p.fidget_mm_s, 1.0)
        movement: NDArray[np.float64] = steady + p.onset_share * onset + p.fidget_share * fidget
        return movement

    @cached_property
    def _calcium(self) -> NDArray[np.float32]:
        """True dF/F of each area, (areas, frames)."""
        return self._drop_warm_up(self._calcium_with_warm_up)

    @cached_property
    def _calcium_with_warm_up(self) -> NDArray[np.float32]:
        p, rng = self.parameters, self._activity_rng(0)
        activity = self._moved_areas(rng) + self._networks(rng)
        activity += p.private_dff * self._noise(rng, len(activity), p.private_s)
        return indicator_response(activity, p.rise_s, p.half_decay_s, self.rate_hz)

    def _moved_areas(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Movement's part of each area's activity in dF/F, (areas, warm-up + frames)."""
        p, moved = self.parameters, []
        mouse_gain = self._area_factors(4, p.response_log_sd)
        variation = 1 + p.movement_variation * self._noise(rng, 2 * len(AREAS), p.movement_variation_s)
        for area, gain, factor in zip(AREAS * 2, mouse_gain, variation, strict=True):
            lagged = np.interp(self._times_s - LAG_S[area.name], self._times_s, self._movement)
            dff = p.movement_dff * self._strength[area.name] * gain * lagged
            moved.append(dff.astype(np.float32) * np.maximum(factor, 0.2))
        return np.stack(moved)

    def _area_factors(self, part: int, log_sd: float) -> NDArray[np.float64]:
        """Draw the mouse's own factor of each area, alike in both hemispheres, (areas,)."""
        rng = np.random.default_rng((self._seed, _ANATOMY, part))
        return np.tile(np.exp(rng.normal(0, log_sd, len(AREAS))), 2)

    def _networks(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Spontaneous dF/F, (areas, warm-up + frames): bilateral modes blind to movement."""
        p = self.parameters
        total = np.zeros((2 * len(AREAS), len(self._times_s)), np.float32)
        for dff, width_s, loading in zip(p.spontaneous_dff, p.spontaneous_s, self._loadings, strict=True):
            course = np.float32(dff) * self._noise(rng, 1, width_s)[0]
            total += np.outer(np.tile(loading, 2).astype(np.float32), course)
        return total

    @cached_property
    def _loadings(self) -> list[NDArray[np.float64]]:
        """How much each area takes part in each spontaneous network; the first is cortex-wide."""
        p, rng = self.parameters, np.random.default_rng((self._seed, _ANATOMY, 5))
        place = np.array([(a.ml_mm, a.ap_mm) for a in AREAS])
        seats = place[rng.integers(len(AREAS), size=len(p.spontaneous_dff) - 1)]
        local = [np.exp(-((place - seat) ** 2).sum(axis=1) / (2 * p.network_width_mm**2)) for seat in seats]
        return [rng.uniform(0.8, 1.2, len(AREAS)), *local]

    @cached_property
    def _activity(self) -> NDArray[np.float32]:
        """Relative change of light on each of `_maps`, (frames, areas + waves + 1)."""
        p, rng = self.parameters, self._activity_rng(1)
        blood = self._blood(rng)
        light = self._deep_light @ (self._calcium_with_warm_up - blood)
        light += p.drift * (self._noise(rng, len(light), p.drift_s) + self._noise(rng, 1, p.drift_s))
        waves = p.wave_dff * self._noise(rng, p.waves, p.wave_s)
        vessels = -(p.vessel_gain - 1) * blood.mean(axis=0) - np.sqrt(2) * p.pulse_fraction * self._pulse()
        rows = np.concatenate([light, waves, vessels[None]]).astype(np.float32)
        return np.ascontiguousarray(self._drop_warm_up(rows).T)

    @cached_property
    def _deep_light(self) -> NDArray[np.float32]:
        """Mix areas as light from deep layers does, (areas, areas); each row sums to 1.

        Whole areas exchange light: at the width of the spread, finer maps would look the same.
        """
        p = self.parameters
        place = np.array([(side * a.ml_mm, a.ap_mm) for side in (-1, 1) for a in AREAS])
        size = np.tile([a.half_ml_mm * a.half_ap_mm for a in AREAS], 2)
        apart = ((place[:, None] - place) ** 2).sum(axis=2)
        spread = np.exp(-apart / (2 * p.deep_mm**2)) * size
        spread /= spread.sum(axis=1, keepdims=True)
        return np.asarray((1 - p.deep_share) * np.eye(len(place)) + p.deep_share * spread, np.float32)

    def _pulse(self) -> NDArray[np.float64]:
        """Heart beat and breath, sum of two unit sines, (warm-up + frames,)."""
        p = self.parameters
        running = self.mouse.running(self._times_s)
        breath = 2 * np.pi * np.cumsum(np.where(running, p.breath_hz[1], p.breath_hz[0])) / self.rate_hz
        beats: NDArray[np.float64] = np.sin(2 * np.pi * p.heart_hz * self._times_s) + np.sin(breath)
        return beats

    def _blood(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Fraction of light that added blood absorbs over each area, (areas, warm-up + frames)."""
        p = self.parameters
        running = self.mouse.running(self._times_s).astype(np.float32)
        limb = np.tile([max(self._strength[a.name], p.blood_elsewhere) for a in AREAS], 2)
        demand = p.blood_share * self._calcium_with_warm_up + p.blood_running * np.outer(limb, running)
        keep = np.exp(-p.blood_order / (p.blood_lag_s * self.rate_hz))
        for _ in range(p.blood_order):
            demand = signal.lfilter(
                np.array([1 - keep], np.float32), np.array([1, -keep], np.float32), demand
            )
        own = self._noise(rng, 2, p.vasomotion_s)  # a part of its own for each hemisphere
        spontaneous = p.vasomotion * np.repeat(own, len(AREAS), axis=0)
        uneven = self._area_factors(6, p.blood_log_sd)[:, None]
        return np.asarray(uneven * (demand + spontaneous), np.float32)

    @cached_property
    def _motion_px(self) -> NDArray[np.float32]:
        """Displacement of the brain in each frame, rows down and columns right, (frames, 2)."""
        p, rng = self.parameters, self._activity_rng(2)
        jitter = p.motion_px * self._noise(rng, 2, p.motion_s)
        jitter[0] += p.running_motion_px * np.minimum(self._movement, 1.5)
        return bounded_motion(self._drop_warm_up(jitter).T)

    def _noise(self, rng: np.random.Generator, rows: int, width_s: float) -> NDArray[np.float32]:
        """Independent smooth noise of unit sd, periodic, (rows, warm-up + frames)."""
        noise = np.stack([smooth_noise(rng, self._frames, width_s * self.rate_hz) for _ in range(rows)])
        wrapped = np.arange(-round(WARM_UP_S * self.rate_hz), 0) % self._frames
        return np.concatenate([noise[:, wrapped], noise], axis=1).astype(np.float32)

    def _drop_warm_up(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return rows[:, -self._frames :]


def _random_field(rng: np.random.Generator, shape: tuple[int, ...], width_px: float) -> NDArray[np.float64]:
    """Smooth random image of unit sd, blurred by a Gaussian of sd `width_px`."""
    field = ndimage.gaussian_filter(rng.normal(size=shape), width_px)
    unit: NDArray[np.float64] = field / field.std()
    return unit


# --- shared with the two-photon microscope
# ---------------------------------------------------------------------------


def indicator_response(
    activity: NDArray[np.floating], rise_s: float, half_decay_s: float, rate_hz: float
) -> NDArray[np.float32]:
    """Filter activity (..., T) as a calcium indicator does: a difference of exponentials.

    Its area is 1 in frames. `rise_s` is the time to peak, `half_decay_s` that of the slow half.
    """
    decay_s = half_decay_s / np.log(2)
    tau_s = _rising_constant_s(rise_s, decay_s)
    slow, fast = np.exp(-1 / (decay_s * rate_hz)), np.exp(-1 / (tau_s * rate_hz))
    numerator = np.array([(1 - slow) * (1 - fast)], np.float32)
    response: NDArray[np.float32] = signal.lfilter(
        numerator, np.array([1, -slow - fast, slow * fast], np.float32), activity.astype(np.float32)
    )
    return response


def _rising_constant_s(peak_s: float, decay_s: float) -> float:
    """Find the rising time constant that puts the largest difference at `peak_s`.

    With r rising and d decaying it lies at d r / (d - r) log(d / r), which grows with r.
    """
    low, high = 1e-6 * decay_s, decay_s * (1 - 1e-6)
    for _ in range(60):
        middle = (low + high) / 2
        late = decay_s * middle / (decay_s - middle) * np.log(decay_s / middle) > peak_s
        low, high = (low, middle) if late else (middle, high)
    return low


def bounded_motion(motion_px: NDArray[np.floating]) -> NDArray[np.float32]:
    """Keep displacements inside what `shift_canvas` can shift."""
    limit = CANVAS_MARGIN_PX - 0.01
    return np.asarray(np.clip(motion_px, -limit, limit), np.float32)


def shift_canvas(canvas: NDArray[np.float32], motion_px: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move a canvas by (rows down, columns right) and cut its margin off; bilinear.

    (H + 4, W + 4) to (H, W).
    """
    height, width = canvas.shape[0] - 2 * CANVAS_MARGIN_PX, canvas.shape[1] - 2 * CANVAS_MARGIN_PX
    start = CANVAS_MARGIN_PX - motion_px
    row, column = int(start[0]), int(start[1])
    down, right = start - (row, column)
    rows = (1 - down) * canvas[row : row + height] + down * canvas[row + 1 : row + 1 + height]
    shifted: NDArray[np.float32] = (1 - right) * rows[:, column : column + width]
    shifted += right * rows[:, column + 1 : column + 1 + width]
    return shifted
