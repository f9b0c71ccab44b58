"""Movies with the statistics of natural ones, made from nothing: no licence, any number of them.

A clip is a few shots with cuts between them. In each shot a camera pans and zooms over a textured
scene, a few textured objects cross and occlude it, and the light is skewed as natural light is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from rig.simulation.mouse import smooth_noise


@dataclass(frozen=True, slots=True)
class MovieParameters:
    """What the movies look like; "chosen" marks a value without a source."""

    # chosen: several screens of scene, so that a pan seldom returns
    scene_px: tuple[int, int] = (128, 256)
    amplitude_exponent: float = 1.0  # amplitude falls as 1/f (Field 1987, J Opt Soc Am A 4:2379)
    # dead leaves, density r^-3 (Lee, Mumford & Huang 2001, IJCV)
    leaf_radius_px: tuple[float, float] = (3.0, 40.0)
    leaves: int = 500  # chosen: covers the scene
    leaf_share: float = 0.6  # chosen: edges against texture
    # sd of log luminance in natural scenes, 0.4 to 0.8 (Ruderman 1994, Network 5:517)
    log_contrast: float = 0.5
    median_level: float = 105.0  # chosen: of 255, so that the skewed mean comes near mid-grey
    # mean between cuts; edited film cuts every few seconds (Cutting 2010, Psychol Sci 21:432)
    shot_s: float = 4.0
    shortest_shot_s: float = 1.0  # chosen
    # rms; 1/f^2 temporal spectra of self-motion (Dong & Atick 1995, Network 6:345)
    pan_px_s: float = 10.0
    pan_s: float = 0.6  # chosen: how long a pan keeps its direction
    zoom_log_sd: float = 0.2  # chosen
    zoom_s: float = 2.0  # chosen
    objects: int = 2  # chosen: mean in a shot
    # chosen: 12 to 40 degrees on the simulated screen
    object_half_px: tuple[float, float] = (3.0, 10.0)
    object_px_s: tuple[float, float] = (10.0, 50.0)  # chosen: crosses in one to six seconds


def natural_movies(
    clips: int,
    frames: int,
    seed: int,
    height_px: int = 36,
    width_px: int = 64,
    rate_hz: float = 30.0,
) -> NDArray[np.uint8]:
    """Movies with natural statistics, uint8 (clips, frames, height_px, width_px).

    Clip k depends on `seed` and k, not on how many clips are made.
    """
    movies = np.empty((clips, frames, height_px, width_px), np.uint8)
    for k, movie in enumerate(movies):
        movie[:] = natural_movie(k, frames, seed, height_px, width_px, rate_hz)
    return movies


def natural_movie(
    clip: int,
    frames: int,
    seed: int,
    height_px: int = 36,
    width_px: int = 64,
    rate_hz: float = 30.0,
) -> NDArray[np.uint8]:
    """One clip of `natural_movies`, uint8 (frames, height_px, width_px)."""
    parameters = MovieParameters()
    rng = np.random.default_rng((seed, clip))
    movie = np.empty((frames, height_px, width_px), np.uint8)
    for first, last in _shots(rng, frames, rate_hz, parameters):
        shot = _Shot(rng, last - first, height_px, width_px, rate_hz, parameters)
        movie[first:last] = shot.render()
    return movie


def _shots(
    rng: np.random.Generator, frames: int, rate_hz: float, parameters: MovieParameters
) -> list[tuple[int, int]]:
    """First frame and frame after the last, of each shot."""
    cuts = [0]
    while cuts[-1] < frames:
        shortest_s, mean_s = parameters.shortest_shot_s, parameters.shot_s
        length_s = shortest_s + rng.exponential(mean_s - shortest_s)
        cuts.append(cuts[-1] + max(1, round(length_s * rate_hz)))
    return list(zip(cuts[:-1], [*cuts[1:-1], frames], strict=True))


class _Shot:
    """One uncut piece: a camera's path over a scene, and what crosses it."""

    def __init__(
        self,
        rng: np.random.Generator,
        frames: int,
        height_px: int,
        width_px: int,
        rate_hz: float,
        p: MovieParameters,
    ) -> None:
        self._rng = rng
        self._frames = frames
        self._rate_hz = rate_hz
        self._p = p
        middle = np.array([height_px, width_px])[:, None, None] / 2
        self._y, self._x = np.indices((height_px, width_px)) - middle

    def render(self) -> NDArray[np.uint8]:
        """Draw the shot, uint8 (frames, H, W)."""
        log_light = self._background()
        for _ in range(self._rng.poisson(self._p.objects)):
            self._cross(log_light)
        light = self._p.median_level * np.exp(self._p.log_contrast * log_light)
        return np.clip(np.round(light), 0, 255).astype(np.uint8)

    def _background(self) -> NDArray[np.float64]:
        """Log luminance as the camera moves, (frames, H, W), of unit sd over the scene."""
        zoom = np.exp(self._p.zoom_log_sd * self._wander(self._p.zoom_s))
        pan = self._p.pan_px_s * np.stack([self._wander(self._p.pan_s) for _ in "yx"])
        start = self._rng.uniform(0, self._p.scene_px)
        centre = start[:, None] + np.cumsum(pan, axis=1) / self._rate_hz
        at = centre[:, :, None, None] + zoom[:, None, None] * np.stack([self._y, self._x])[:, None]
        scene = _scene(self._rng, self._p)
        seen: NDArray[np.float64] = ndimage.map_coordinates(scene, at, order=1, mode="grid-wrap")
        return seen

    def _wander(self, width_s: float) -> NDArray[np.float64]:
        """Smooth noise, (frames,), cut from longer noise: it does not return to its start."""
        width = width_s * self._rate_hz
        return smooth_noise(self._rng, self._frames + round(8 * width), width)[: self._frames]

    def _cross(self, log_light: NDArray[np.float64]) -> None:
        """Draw an object over the frames, in place: a textured disc or bar on a straight path."""
        half = self._rng.uniform(*self._p.object_half_px, 2)
        is_disc = self._rng.random() < 0.5
        y, x = self._path()
        angle = self._rng.uniform(0, np.pi)
        reach = np.hypot(2 * half[0], half[1]) + 1  # nothing of it lies further from its centre
        dy, dx = self._y[:, 0] - y[:, None], self._x[0] - x[:, None]  # (frames, H), (frames, W)
        near = np.nonzero((abs(dy) < reach)[:, :, None] & (abs(dx) < reach)[:, None, :])
        dy, dx = dy[near[0], near[1]], dx[near[0], near[2]]
        u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        bar = np.maximum(abs(u) - 2 * half[0], abs(v) - half[1] / 2)
        outside = np.hypot(dy, dx) - half[0] if is_disc else bar
        cover = np.clip(0.5 - outside, 0.0, 1.0)  # edges blended over one pixel
        inside = cover > 0
        touched = tuple(place[inside] for place in near)
        surface = _pink(self._rng, (64, 64), self._p.amplitude_exponent)
        on_surface = [u[inside], v[inside]]
        texture = ndimage.map_coordinates(surface, on_surface, order=1, mode="grid-wrap")
        shade = self._rng.normal() + 0.5 * texture
        log_light[touched] += cover[inside] * (shade - log_light[touched])

    def _path(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Object's centre in px from the screen's middle, near which it passes, (frames,) each."""
        heading = self._rng.uniform(0, 2 * np.pi)
        speed = self._rng.uniform(*self._p.object_px_s) / self._rate_hz
        since = np.arange(self._frames) - self._rng.uniform(0, self._frames)
        height, width = self._y.shape
        y, x = self._rng.uniform(-0.3, 0.3, 2) * (height, width)
        return y + speed * np.sin(heading) * since, x + speed * np.cos(heading) * since


def _scene(rng: np.random.Generator, p: MovieParameters) -> NDArray[np.float64]:
    """Log luminance of a scene that tiles the plane, `scene_px`, zero mean and unit sd."""
    texture = _pink(rng, p.scene_px, p.amplitude_exponent)
    scene = p.leaf_share * _dead_leaves(rng, p) + (1 - p.leaf_share) * texture
    unit: NDArray[np.float64] = (scene - scene.mean()) / scene.std()
    return unit


def _pink(rng: np.random.Generator, shape: tuple[int, int], exponent: float) -> NDArray[np.float64]:
    """Gaussian texture whose amplitude falls as 1/f^exponent, periodic, zero mean and unit sd."""
    frequency = np.hypot(fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1]))
    frequency[0, 0] = np.inf
    texture = fft.irfft2(fft.rfft2(rng.normal(size=shape)) / frequency**exponent, shape)
    unit: NDArray[np.float64] = texture / texture.std()
    return unit


def _dead_leaves(rng: np.random.Generator, p: MovieParameters) -> NDArray[np.float64]:
    """Overlapping discs of random grey with radii of density r^-3, on a torus."""
    scene = np.zeros(p.scene_px)
    small, large = p.leaf_radius_px
    radius = (small**-2 - rng.random(p.leaves) * (small**-2 - large**-2)) ** -0.5
    radius = np.sort(radius)[::-1]  # chosen: large ones behind, else they would hide the small
    centre = rng.integers(0, p.scene_px, (p.leaves, 2))
    shade = rng.normal(size=p.leaves)
    height, width = p.scene_px
    for r, (y, x), level in zip(radius, centre, shade, strict=True):
        reach = np.arange(-int(r), int(r) + 1)
        disc = reach[:, None] ** 2 + reach**2 <= r * r
        pixel = (y + reach)[:, None] % height * width + (x + reach) % width
        scene.reshape(-1)[pixel[disc]] = level
    return scene
