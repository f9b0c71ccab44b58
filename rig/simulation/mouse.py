"""The simulated mouse's behaviour: running, wheel and pupil as functions of session time.

Owns what the animal does, not what its brain shows. Everything follows from the seed, so a process
that plays the treadmill and one that plays the camera agree exactly without talking to each other.
The behaviour is periodic in ``duration_s``, without a seam, so that any session time can be asked
for.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from rig.errors import ConfigError


@dataclass(frozen=True, slots=True)
class BehaviorParameters:
    """How the mouse behaves. "Chosen" marks a value without a source, of the usual size."""

    # chosen: above twice the fastest stride harmonic that a treadmill resolves
    grid_hz: float = 100.0
    # chosen: one run and one rest; bouts of seconds to a minute on a head-fixed treadmill
    cycle_s: float = 25.0
    bout_log_sd: float = 0.8  # chosen: log-normal, many short bouts and a few long ones
    # chosen: longer than the usual minimum bout of 0.5 s after smoothing
    shortest_bout_s: float = 1.5
    # head-fixed mice run at 50 to 300 mm/s (Niell & Stryker 2010, Neuron 65:472)
    speed_median_mm_s: float = 160.0
    speed_log_sd: float = 0.3  # chosen: bouts differ by about a third
    speed_drift: float = 0.12  # chosen: slow fraction of speed within a bout
    speed_drift_s: float = 1.0  # chosen
    acceleration_s: float = 0.6  # chosen: rest to full speed within two or three strides
    deceleration_s: float = 0.5  # chosen: stopping is quicker than starting
    # with the slope: 3.6 Hz, stride 45 mm at 160 mm/s (Machado 2015, eLife 4:e07892)
    cadence_at_rest_hz: float = 2.0
    cadence_slope_per_mm: float = 0.01
    stride_depth: float = 0.12  # chosen: fraction of speed that a stride modulates on a light wheel
    fidget_peak_mm_s: float = 5.0  # chosen: under the customary running threshold of 10 mm/s
    fidget_s: float = 0.12  # chosen: correlation time of a twitch
    # mouse pupils span 0.4 to 2 mm in dim light (McGinley 2015, Neuron 87:179)
    pupil_rest_mm: float = 0.75
    # locomotion takes it near its largest (McGinley 2015; Reimer 2014, Neuron 84:355)
    pupil_run_mm: float = 0.45
    # gamma of order 2: mean lag 1.4 s behind running (Reimer 2014 report about a second)
    pupil_filter_s: float = 0.7
    pupil_fluctuation_mm: float = 0.1  # arousal swings at rest (Reimer 2014)
    pupil_fluctuation_s: tuple[float, float] = (0.8, 6.0)  # their quick and slow part
    pupil_limits_mm: tuple[float, float] = (0.3, 2.0)  # iris anatomy, as above
    saccade_rest_hz: float = 0.2  # chosen: head-fixed mice make a saccade every few seconds
    saccade_run_hz: float = 0.5  # chosen: more often while running
    # x, y; 10 deg on a 1 mm rotation radius, mostly horizontal
    saccade_sd_mm: tuple[float, float] = (0.12, 0.05)
    saccade_s: float = 0.02  # chosen: Gaussian edge, full swing in about 60 ms
    eye_drift_mm: float = 0.01  # chosen


class Mouse:
    """A head-fixed mouse on a treadmill; two instances with the same arguments agree exactly.

    Parameters
    ----------
    seed
        Which mouse.
    run_fraction
        Share of `duration_s` spent running, met exactly; the published mice have 0.37 to 0.80
        (Ajioka 2024).
    session
        Which recording session of the mouse: other bouts, at the same run fraction.
    duration_s
        Period after which the behaviour repeats without a seam; rounded up to whole
        seconds without large prime factors (3600 stays, 3571 becomes 3600).
    """

    def __init__(
        self,
        seed: int,
        run_fraction: float = 0.55,
        duration_s: float = 3600.0,
        parameters: BehaviorParameters = BehaviorParameters(),
        session: int = 0,
    ) -> None:
        if not 0.0 < run_fraction < 1.0:
            raise ConfigError(f"run_fraction {run_fraction} is not between 0 and 1, both excluded")
        if duration_s < 10.0:
            raise ConfigError(f"duration_s {duration_s} is too short to run and rest in; valid is 10 or more")
        self.seed = seed
        self.session = session
        self.run_fraction = run_fraction
        self.parameters = parameters
        # A length with large prime factors makes the FFTs slow.
        whole_s = fft.next_fast_len(round(duration_s), real=True)
        self._samples = round(whole_s * parameters.grid_hz)
        self.duration_s = self._samples / parameters.grid_hz
        self._bouts, self._run_speed_mm_s = self._draw_bouts()
        self._running = self._lies_in_bout()
        self._speed_mm_s = self._draw_speed()
        self._distance_mm = np.concatenate([[0.0], np.cumsum(self._trapezoids())])
        self._pupil_mm = self._draw_pupil()
        self._gaze_mm = self._draw_gaze()

    def running(self, t_s: ArrayLike) -> NDArray[np.bool_]:
        """Whether the mouse is in a running bout: the truth behind the speed; shaped as `t_s`."""
        return self._running[self._locate(t_s)[1]]

    def running_speed_mm_s(self, t_s: ArrayLike) -> NDArray[np.float64]:
        """Speed of the wheel's surface in mm/s; within 5 mm/s of zero at rest, either way."""
        return self._interpolate(self._speed_mm_s, t_s)

    def wheel_position_mm(self, t_s: ArrayLike) -> NDArray[np.float64]:
        """Distance run since session time 0 in mm: the exact integral of `running_speed_mm_s`."""
        period, k, fraction = self._locate(t_s)
        start, stop = self._speed_mm_s[k], self._speed_mm_s[(k + 1) % self._samples]
        within = (start * fraction + (stop - start) * fraction**2 / 2) / self.parameters.grid_hz
        position: NDArray[np.float64] = period * self._distance_mm[-1] + self._distance_mm[k] + within
        return position

    def pupil_diameter_mm(self, t_s: ArrayLike) -> NDArray[np.float64]:
        """Diameter of the pupil in mm; follows running by one to two seconds."""
        return self._interpolate(self._pupil_mm, t_s)

    def pupil_position_mm(self, t_s: ArrayLike) -> NDArray[np.float64]:
        """Centre of the pupil from its mean place in mm, (..., 2): x towards the nose, y up."""
        return np.stack([self._interpolate(axis, t_s) for axis in self._gaze_mm], axis=-1)

    # --- looking up ---

    def _locate(self, t_s: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Period, grid sample before, and fraction of a sample after it; negative times too."""
        at = np.asarray(t_s, np.float64) * self.parameters.grid_hz
        sample = np.floor(at)
        period, k = np.divmod(sample.astype(np.int64), self._samples)
        return period, k, at - sample

    def _interpolate(self, values: NDArray[np.float64], t_s: ArrayLike) -> NDArray[np.float64]:
        _, k, fraction = self._locate(t_s)
        after = values[(k + 1) % self._samples]
        between: NDArray[np.float64] = values[k] * (1 - fraction) + after * fraction
        return between

    def _random(self, part: int) -> np.random.Generator:
        """Give each part of the behaviour its own stream: changing one leaves the others alone."""
        return np.random.default_rng((self.seed, part, self.session))

    # --- drawing ---

    def _draw_bouts(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Edges of run, rest, ... in grid samples, (2 x cycles + 1,); each run's speed in mm/s."""
        p, rng = self.parameters, self._random(0)
        cycles = max(1, round(self.duration_s / p.cycle_s))
        durations = np.empty((cycles, 2))
        for column, share in enumerate((self.run_fraction, 1 - self.run_fraction)):
            mean_s = self.duration_s / cycles * share
            floor_s = min(p.shortest_bout_s, 0.4 * mean_s)  # leaves room to vary
            excess = rng.lognormal(0.0, p.bout_log_sd, cycles)
            durations[:, column] = floor_s + (mean_s - floor_s) * excess / excess.mean()
        edges = np.concatenate([[0.0], np.cumsum(durations)]) * p.grid_hz
        return edges, p.speed_median_mm_s * rng.lognormal(0.0, p.speed_log_sd, cycles)

    def _shifted(self) -> NDArray[np.float64]:
        """Grid samples as places in the bouts, from a random one: not all mice begin by running."""
        offset = int(self._random(1).integers(self._samples))
        return np.asarray((np.arange(self._samples) + offset) % self._samples + 0.5, np.float64)

    def _bout_at(self, place: NDArray[np.float64]) -> NDArray[np.int64]:
        last = len(self._bouts) - 2
        return np.clip(np.searchsorted(self._bouts, place, side="right") - 1, 0, last)

    def _lies_in_bout(self) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = self._bout_at(self._shifted()) % 2 == 0
        return inside

    def _draw_speed(self) -> NDArray[np.float64]:
        p, rng, place = self.parameters, self._random(2), self._shifted()
        bout = self._bout_at(place)
        since_s = (place - self._bouts[bout]) / p.grid_hz
        until_s = (self._bouts[bout + 1] - place) / p.grid_hz
        ramp = _ease(since_s / p.acceleration_s) * _ease(until_s / p.deceleration_s) * (bout % 2 == 0)
        drift = 1 + p.speed_drift * smooth_noise(rng, self._samples, p.speed_drift_s * p.grid_hz)
        pace = self._run_speed_mm_s[bout // 2] * np.clip(drift, 0.5, 1.5) * ramp
        fidget = self._fidget(rng) * (bout % 2 == 1)
        speed: NDArray[np.float64] = pace * (1 + p.stride_depth * self._stride(pace)) + fidget
        return speed

    def _stride(self, pace_mm_s: NDArray[np.float64]) -> NDArray[np.float64]:
        p = self.parameters
        phase = np.cumsum(p.cadence_at_rest_hz + p.cadence_slope_per_mm * pace_mm_s) / p.grid_hz
        phase *= np.round(phase[-1]) / phase[-1]  # whole strides in a period: no seam
        stride: NDArray[np.float64] = np.sin(2 * np.pi * phase)
        return stride

    def _fidget(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Twitches of the wheel in mm/s: when a slow gate opens, and never at running speed."""
        p = self.parameters
        twitch = smooth_noise(rng, self._samples, p.fidget_s * p.grid_hz)
        gate = np.maximum(smooth_noise(rng, self._samples, 8 * p.fidget_s * p.grid_hz) - 0.7, 0.0)
        fidget: NDArray[np.float64] = p.fidget_peak_mm_s * np.tanh(twitch * gate)
        return fidget

    def _trapezoids(self) -> NDArray[np.float64]:
        """Distance in mm over each grid interval, (samples,)."""
        mean = (self._speed_mm_s + np.roll(self._speed_mm_s, -1)) / 2
        distance: NDArray[np.float64] = mean / self.parameters.grid_hz
        return distance

    def _draw_pupil(self) -> NDArray[np.float64]:
        p, rng = self.parameters, self._random(3)
        lag = np.arange(round(10 * p.pupil_filter_s * p.grid_hz)) / (p.pupil_filter_s * p.grid_hz)
        kernel = lag * np.exp(-lag)
        dilation = _circular_filter(self._running.astype(np.float64), kernel / kernel.sum())
        swings = [smooth_noise(rng, self._samples, s * p.grid_hz) for s in p.pupil_fluctuation_s]
        fluctuation = p.pupil_fluctuation_mm * (0.5 * swings[0] + swings[1])
        return np.clip(p.pupil_rest_mm + p.pupil_run_mm * dilation + fluctuation, *p.pupil_limits_mm)

    def _draw_gaze(self) -> NDArray[np.float64]:
        """Eye position in mm, (2, samples): saccades between fixations, and a little drift."""
        p, rng = self.parameters, self._random(4)
        chance = np.where(self._running, p.saccade_run_hz, p.saccade_rest_hz) / p.grid_hz
        start = np.flatnonzero(rng.random(self._samples) < chance)
        target = rng.normal(size=(2, len(start) + 1)) * np.array(p.saccade_sd_mm)[:, None]
        target[:, 0] = target[:, -1]  # the period begins in the fixation it ends with
        fixation = np.searchsorted(start, np.arange(self._samples), side="right")
        lag = (np.arange(-3 * p.saccade_s, 3 * p.saccade_s, 1 / p.grid_hz)) / p.saccade_s
        kernel = np.exp(-(lag**2) / 2)
        steps = [_circular_filter(axis[fixation], kernel / kernel.sum()) for axis in target]
        drift = [p.eye_drift_mm * smooth_noise(rng, self._samples, p.grid_hz) for _ in steps]
        return np.stack(steps) + np.stack(drift)


def smooth_noise(rng: np.random.Generator, samples: int, width: float) -> NDArray[np.float64]:
    """Gaussian noise of unit variance and zero mean, smooth over `width` samples and periodic.

    `width` is the sd of the Gaussian that would smooth white noise so. Only frequencies that
    survive the smoothing are drawn, so slow noise is cheap.
    """
    frequency = fft.rfftfreq(samples)
    kept = max(2, int(np.searchsorted(frequency, 0.6 / width)))  # beyond it the Gaussian is below 0.1 %
    spectrum = np.zeros(len(frequency), np.complex128)
    drawn = rng.normal(size=(2, kept - 1))
    spectrum[1:kept] = (drawn[0] + 1j * drawn[1]) * np.exp(-2 * (np.pi * frequency[1:kept] * width) ** 2)
    noise = fft.irfft(spectrum, samples)
    unit: NDArray[np.float64] = noise / noise.std()
    return unit


def _circular_filter(values: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convolve with a causal kernel, the end of `values` coming before its start."""
    wrapped = np.bincount(np.arange(len(kernel)) % len(values), kernel, len(values))
    filtered: NDArray[np.float64] = fft.irfft(fft.rfft(values) * fft.rfft(wrapped), len(values))
    return filtered


def _ease(fraction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rise from 0 to 1 with no jump in acceleration at either end."""
    x = np.clip(fraction, 0.0, 1.0)
    return x * x * (3 - 2 * x)
