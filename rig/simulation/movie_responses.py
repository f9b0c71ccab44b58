"""Responses of simulated visual cortex to movies, with the truth beside them, in the layout of Sensorium 2023.

The neurons are those of `visual_neurons`; here they are imaged as a mesoscope does, plane by plane at a low volume
rate, and their fluorescence is deconvolved. Every presentation follows the last in one session, so that calcium,
running and slow fluctuations carry over.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rig.simulation.deconvolution import deconvolve
from rig.simulation.mouse import Mouse, smooth_noise
from rig.simulation.movies import natural_movie
from rig.simulation.response_folder import ResponseFolder
from rig.simulation.visual_neurons import GREY, VisualNeurons, draw_neurons
from rig.simulation.visual_parameters import ResponseParameters, VisualParameters
from rig.simulation.widefield import indicator_response

HEIGHT_PX, WIDTH_PX, RATE_HZ = 36, 64, 30.0  # movies of Sensorium 2023 (Turishcheva 2023, arXiv 2305.19654)
GAP_FRAMES = 15  # chosen: grey after each clip; longer than the receptive fields remember
_REMEMBERED_FRAMES = 180  # GCaMP6s has decayed to 0.05 % in 6 s
MOST_CLIPS = 100_000  # numbers from here on are those of oracle clips
_PLACES, _NEURONS, _GAINS, _SHARED, _SPIKES, _NOISE, _SCANNER, _ORDER = range(8)  # independent random streams


@dataclass(frozen=True, slots=True)
class Presentation:
    """One clip as it was shown: what was recorded and what is true. Arrays float32, T at 30 Hz."""

    trial: int
    tier: str  # train | oracle
    clip: int
    video: NDArray[np.float32]  # (36, 64, T), 0 to 255
    behavior: NDArray[np.float32]  # (2, T): pupil dilation in px, running speed in cm/s
    pupil_center: NDArray[np.float32]  # (2, T) in px
    responses: NDArray[np.float32]  # (N, T), deconvolved
    rates_hz: NDArray[
        np.float32
    ]  # (N, T): of movie, running and pupil; no shared fluctuation, no spike noise
    expected: NDArray[np.float32]  # (N, T): responses that these rates alone would give, noise-free


class MovieSession:
    """One simulated mouse that watches each train clip once and each oracle clip `repeats` times, in random order.

    Parameters
    ----------
    seed
        Which mouse, which movies, which noise.
    clips, oracle_clips, repeats
        How many clips are shown once, how many others over and over, and how often.
    clip_frames
        Frames of a clip at 30 Hz.
    """

    def __init__(
        self,
        seed: int,
        neurons: int,
        clips: int,
        oracle_clips: int,
        repeats: int,
        clip_frames: int = 300,
        parameters: ResponseParameters | None = None,
        visual: VisualParameters | None = None,
    ) -> None:
        self._seed, self._p, self._v = seed, parameters or ResponseParameters(), visual or VisualParameters()
        self._clip_frames = clip_frames
        self._shown = self._order(clips, oracle_clips, repeats)
        self._frames = len(self._shown) * (GAP_FRAMES + clip_frames)
        self._mouse = Mouse(seed, duration_s=max(60.0, self._frames / RATE_HZ + 1))
        self.neurons = self._draw_neurons(neurons)
        self._draw_gains(neurons)

    @property
    def name(self) -> str:
        """Name of the mouse."""
        return f"simulated-{self._seed}"

    def __len__(self) -> int:
        """How many presentations."""
        return len(self._shown)

    def presentations(self) -> Iterator[Presentation]:
        """Play the session; each presentation is a trial."""
        again: dict[int, tuple[NDArray[np.uint8], NDArray[np.float32]]] = {}
        count = len(self.neurons.rest_hz)
        spikes, rates = (np.zeros((_REMEMBERED_FRAMES, count), np.float32) for _ in "sr")
        for place, (trial, tier, clip) in enumerate(self._shown):
            movie, visual_hz = again[clip] if clip in again else self._see(clip)
            if tier == "oracle":
                again[clip] = movie, visual_hz
            at = place * len(visual_hz) + np.arange(len(visual_hz))
            known_hz, felt_hz = self._modulate(visual_hz, at)
            fallen = np.random.default_rng((self._seed, _SPIKES, place)).poisson(felt_hz / RATE_HZ)
            spikes = np.concatenate([spikes[-_REMEMBERED_FRAMES:], fallen.astype(np.float32)])
            rates = np.concatenate([rates[-_REMEMBERED_FRAMES:], known_hz / np.float32(RATE_HZ)])
            behavior, pupil_center = self._behave(at[: self._clip_frames])
            yield Presentation(
                trial=trial,
                tier=tier,
                clip=clip,
                video=np.moveaxis(movie, 0, -1).astype(np.float32),
                behavior=behavior,
                pupil_center=pupil_center,
                responses=self._respond(spikes, place),
                rates_hz=np.ascontiguousarray(known_hz[: self._clip_frames].T),
                expected=self._respond(rates, None),
            )

    # --- what is shown, and to whom ---

    def _order(self, clips: int, oracle_clips: int, repeats: int) -> list[tuple[int, str, int]]:
        """Trial, tier and clip of every presentation, in the order shown; trials are numbered at random too."""
        rng = np.random.default_rng((self._seed, _ORDER))
        shown = [("train", clip) for clip in range(clips)]
        shown += [("oracle", MOST_CLIPS + k) for k in range(oracle_clips)] * repeats
        order, trials = rng.permutation(len(shown)), rng.permutation(len(shown))
        return [(int(trial), *shown[place]) for trial, place in zip(trials, order, strict=True)]

    def _draw_neurons(self, count: int) -> VisualNeurons:
        rng = np.random.default_rng((self._seed, _PLACES))
        share = np.array(self._p.screen_share)
        places = (rng.uniform(-0.5, 0.5, (count, 2)) * share + 0.5) * (HEIGHT_PX, WIDTH_PX)
        depth_um = rng.uniform(*self._p.depth_um, count)
        across_um = (places / (HEIGHT_PX, WIDTH_PX) - 0.5)[:, ::-1] / share[::-1] * self._p.field_um
        self.coordinates_um = np.rint(np.column_stack([across_um, depth_um])).astype(np.int64)
        stream = np.random.default_rng((self._seed, _NEURONS))
        return draw_neurons(stream, places, (HEIGHT_PX, WIDTH_PX), RATE_HZ, GAP_FRAMES, self._v)

    def _draw_gains(self, count: int) -> None:
        """How behaviour and shared fluctuations scale each neuron, and how its light is counted."""
        p, v, rng = self._p, self._v, np.random.default_rng((self._seed, _GAINS))
        self._running_gain = rng.normal(*v.running_gain, count).astype(np.float32)
        self._pupil_gain = rng.normal(*p.pupil_gain, count).astype(np.float32)
        self._loadings = rng.normal(1.0, 0.5, (len(v.shared_sd), count)).astype(np.float32)
        self._dff_per_response = self._one_spike() * rng.lognormal(0, v.peak_log_sd_dff, count)
        self._noise_dff = p.noise_dff * rng.lognormal(0, p.noise_log_sd, count)
        self._scan_delay = rng.uniform(0, 1, count)  # in volumes: when the scanner reaches a neuron
        shared = np.random.default_rng((self._seed, _SHARED))
        widths = [width_s * RATE_HZ for width_s in v.shared_s]
        noise = np.stack([smooth_noise(shared, self._frames, width) for width in widths], axis=1)
        self._shared = (np.array(v.shared_sd) * noise).astype(np.float32)
        self._running, self._pupil = self._arousal()

    def _one_spike(self) -> float:
        """dF/F per unit of the indicator's response: its peak after one spike is as published."""
        one = np.zeros(_REMEMBERED_FRAMES)
        one[0] = 1.0
        v = self._v
        return float(v.peak_dff / indicator_response(one, v.rise_s, v.half_decay_s, RATE_HZ).max())

    # --- rates ---

    def _see(self, clip: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Draw a movie; with it, rates in Hz that it and the grey after it would drive, (clip and grey, N)."""
        movie = natural_movie(clip, self._clip_frames, self._seed, HEIGHT_PX, WIDTH_PX, RATE_HZ)
        contrast = movie.reshape(len(movie), -1).astype(np.float32) / np.float32(GREY) - 1
        grey = np.zeros((GAP_FRAMES, contrast.shape[1]), np.float32)
        return movie, self.neurons.rates_hz(*self.neurons.look(np.concatenate([contrast, grey])))

    def _arousal(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Running, 0 to 1, smoothed, and pupil diameter in sd from its mean, both (frames,)."""
        t_s = np.arange(self._frames) / RATE_HZ
        width = self._v.running_gain_s * RATE_HZ
        running = ndimage.gaussian_filter1d(self._mouse.running(t_s).astype(np.float32), width)
        pupil = self._mouse.pupil_diameter_mm(t_s)
        return running, ((pupil - pupil.mean()) / pupil.std()).astype(np.float32)

    def _modulate(
        self, visual_hz: NDArray[np.float32], at: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Rates with what behaviour does to them, and with shared fluctuations besides, both (T, N)."""
        by_running = np.maximum(1 + self._running[at, None] * self._running_gain, np.float32(0.2))
        known = visual_hz * by_running * np.exp(self._pupil[at, None] * self._pupil_gain)
        return known, known * np.exp(self._shared[at] @ self._loadings)

    def _behave(self, at: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        p, t_s = self._p, at / RATE_HZ
        dilation_px = self._mouse.pupil_diameter_mm(t_s) * p.pupil_px_per_mm
        speed_cm_s = self._mouse.running_speed_mm_s(t_s) / 10
        centre_px = np.array(p.pupil_centre_px) + self._mouse.pupil_position_mm(t_s) * p.pupil_px_per_mm
        return np.stack([dilation_px, speed_cm_s]).astype(np.float32), centre_px.T.astype(np.float32)

    # --- light ---

    def _respond(self, spikes: NDArray[np.float32], place: int | None) -> NDArray[np.float32]:
        """Responses in the last clip, (N, T), from spikes a frame before, in and after it; noise if asked."""
        v = self._v
        calcium = indicator_response(spikes.T, v.rise_s, v.half_decay_s, RATE_HZ).T
        dff = calcium * self._dff_per_response
        dff = dff / (1 + dff / v.ceiling_dff)
        per_frame = self._p.imaging_hz / RATE_HZ
        volumes = np.arange(int((len(dff) - 1) * per_frame))
        imaged = _between(dff, (volumes[:, None] + self._scan_delay) / per_frame)
        if place is not None:
            noise = np.random.default_rng((self._seed, _NOISE, place)).standard_normal(imaged.shape)
            imaged = imaged + self._noise_dff * noise
        retention = 0.5 ** (1 / (v.half_decay_s * self._p.imaging_hz))
        found = self._p.units_per_dff * deconvolve(imaged, retention)
        end = len(dff) - GAP_FRAMES
        clip = np.arange(end - self._clip_frames, end)
        return _between(found, clip[:, None] * per_frame - self._scan_delay).T.astype(np.float32)


def _between(values: NDArray[np.floating], place: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values (S, N) at fractional rows (T, N), linearly; rows beyond the ends are the ends."""
    row = np.clip(place, 0, len(values) - 1)
    before = np.minimum(row.astype(np.int64), len(values) - 2)
    low, high = (np.take_along_axis(values, before + k, axis=0) for k in (0, 1))
    mixed: NDArray[np.float64] = low + (row - before) * (high - low)
    return mixed


def simulate_movie_responses(
    folder: Path,
    session: MovieSession,
    progress: Callable[[int], None],
) -> None:
    """Write a session as a mouse's folder of the Sensorium 2023 layout, with a folder `truth` besides.

    `truth/rates` holds rates in Hz and `truth/responses` noise-free responses of each trial, (N, T);
    `truth/receptive_fields` where and what each neuron looks at; `truth/clips.npy` each trial's movie.

    Parameters
    ----------
    folder
        The mouse's folder; made, and refused when there is something in it.
    progress
        Called with the number of presentations written since the last call.

    Raises
    ------
    ConfigError
        When the folder is not empty or cannot be written.
    """
    writer = ResponseFolder(folder)
    tiers, clips = np.full(len(session), "oracle"), np.zeros(len(session), np.int64)
    for shown in session.presentations():
        recorded = {
            "videos": shown.video,
            "responses": shown.responses,
            "behavior": shown.behavior,
            "pupil_center": shown.pupil_center,
        }
        writer.write(shown.trial, recorded, {"rates": shown.rates_hz, "responses": shown.expected})
        if shown.tier == "train":
            writer.learn(recorded)
        tiers[shown.trial], clips[shown.trial] = shown.tier, shown.clip
        progress(1)
    writer.finish({"meta/trials/tiers.npy": tiers, "truth/clips.npy": clips, **_meta(session)})


def _meta(session: MovieSession) -> dict[str, NDArray[np.generic]]:
    count = len(session.neurons.rest_hz)
    fields = session.neurons.fields
    return {
        "meta/neurons/unit_ids.npy": np.arange(1, count + 1),
        "meta/neurons/cell_motor_coordinates.npy": session.coordinates_um,
        "truth/receptive_fields/centre_px.npy": fields.centre,
        "truth/receptive_fields/sd_px.npy": fields.sd_px.T,
        "truth/receptive_fields/cycles_per_px.npy": fields.cycles_per_px,
        "truth/receptive_fields/orientation_rad.npy": fields.orientation,
        "truth/receptive_fields/complexity.npy": session.neurons.complexity,
        "truth/receptive_fields/direction.npy": session.neurons.direction,
    }
