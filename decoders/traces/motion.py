"""Rigid motion correction, frame by frame: phase correlation with a reference image, shifts of whole pixels.

Phase correlation after Kuglin & Hines 1975; low-pass and tapered edges as suite2p does (Pachitariu et al. 2017, doi
10.1101/061507). No later frame takes part in a frame's answer.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rig.errors import DataError

_SMOOTH_PX = 1.15  # sd of the low-pass on the correlation: suite2p's `smooth_sigma`
_TAPER_PX = 16.0  # edges fade over about so much, so that they do not match each other
_CLEAR = 6.0  # standard deviations of the whole map: the largest of a map of pure noise is 4 to 5


@dataclass(frozen=True, slots=True)
class Registered:
    """One frame brought to the reference's place."""

    frame: NDArray[np.float32]  # (H, W); as it came when the place is lost
    shift_px: tuple[int, int]
    """How far (down, right) the image had moved."""
    peak: float
    """Correlation at the shift, 1 for the reference itself; near 0: nothing to hold on to."""
    is_lost: bool
    """The best match lies beyond the bound, or does not stand out: the frame was not corrected."""


class RigidMotion:
    """Finds how far a frame moved against a reference, and moves it back.

    Parameters
    ----------
    reference
        Image (H, W) that every frame is brought to.
    max_shift_px
        Largest shift believed, down or right. A best match beyond it is flagged, and the frame left as it came.

    Raises
    ------
    DataError
        When the reference is not finite, is uniform, or is too small for the bound.
    """

    def __init__(self, reference: NDArray[np.generic], max_shift_px: int) -> None:
        image = np.asarray(reference, np.float32)
        _check(image, max_shift_px)
        self._shape, self._bound_px = (image.shape[0], image.shape[1]), max_shift_px
        self._mean = np.float32(image.mean())
        self._taper = np.outer(*(_taper(size) for size in self._shape)).astype(np.float32)
        spectrum = _transform((image - self._mean) * self._taper)
        self._template = np.conj(_phase(spectrum)) * _low_pass(self._shape)
        self._whole = float(_transform_back(self._template * _phase(spectrum), self._shape)[0, 0])

    def __call__(self, frame: NDArray[np.generic]) -> Registered:
        """Bring one frame (H, W) to the reference's place; what moves in is filled with the reference's mean."""
        pixels = np.asarray(frame, np.float32)
        spectrum = _transform((pixels - pixels.mean()) * self._taper)
        spectrum = _phase(spectrum)
        spectrum *= self._template
        match = _transform_back(spectrum, self._shape)
        place = np.unravel_index(int(np.argmax(match)), self._shape)
        down, right = (_signed(int(at), size) for at, size in zip(place, self._shape, strict=True))
        is_clear = float(match[place]) > _CLEAR * float(match.std())
        is_lost = not is_clear or max(abs(down), abs(right)) > self._bound_px
        moved = pixels if is_lost else moved_back(pixels, (down, right), self._mean)
        return Registered(moved, (down, right), float(match[place]) / self._whole, is_lost)


class RunningReference:
    """The mean of a camera's first frames, for data that come without a reference."""

    def __init__(self, frames: int) -> None:
        self._frames, self._seen = max(frames, 1), 0
        self._sum: NDArray[np.float64] | None = None

    def add(self, frame: NDArray[np.generic]) -> NDArray[np.float32] | None:
        """Take one frame (H, W); return the reference with the last of them, None before."""
        image = frame.astype(np.float64)
        self._sum = image if self._sum is None else self._sum + image
        self._seen += 1
        return None if self._seen < self._frames else (self._sum / self._seen).astype(np.float32)


def moved_back(
    frame: NDArray[np.float32], shift_px: tuple[int, int], fill: np.float32
) -> NDArray[np.float32]:
    """Move an image (H, W) up and left by whole pixels; nothing wraps around, what moves in is `fill`."""
    if shift_px == (0, 0):
        return frame
    moved = np.full_like(frame, fill)
    pieces = [_overlap(shift, size) for shift, size in zip(shift_px, frame.shape, strict=True)]
    moved[pieces[0][1], pieces[1][1]] = frame[pieces[0][0], pieces[1][0]]
    return moved


def _overlap(shift: int, size: int) -> tuple[slice, slice]:
    """Where it comes from and where it goes, along one axis."""
    shift = min(max(shift, -size), size)
    return slice(max(shift, 0), size + min(shift, 0)), slice(max(-shift, 0), size - max(shift, 0))


def _signed(place: int, size: int) -> int:
    return place if place <= size // 2 else place - size


def _transform(image: NDArray[np.float32]) -> Any:
    from scipy.fft import rfft2

    return rfft2(image, workers=1)


def _transform_back(spectrum: Any, shape: tuple[int, int]) -> NDArray[np.float32]:
    from scipy.fft import irfft2

    match: NDArray[np.float32] = irfft2(spectrum, shape, workers=1, overwrite_x=True)
    return match


def _phase(spectrum: Any) -> Any:
    return spectrum / (np.abs(spectrum) + np.float32(1e-5))


def _low_pass(shape: tuple[int, int]) -> NDArray[np.float32]:
    """Transform of a Gaussian."""
    down, right = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    return np.exp(-2.0 * (np.pi * _SMOOTH_PX) ** 2 * (down**2 + right**2)).astype(np.float32)


def _taper(size: int) -> NDArray[np.float64]:
    """Weights (size,) that fade towards both ends."""
    from scipy.special import expit

    from_edge = np.minimum(np.arange(size), np.arange(size)[::-1])
    width = min(_TAPER_PX, size / 8.0)
    fade: NDArray[np.float64] = expit((from_edge - width) / (width / 4.0))
    return fade


def _check(image: NDArray[np.float32], max_shift_px: int) -> None:
    if image.ndim != 2 or not np.isfinite(image).all() or image.min() == image.max():
        raise DataError(f"reference image: shape {image.shape}; valid is a finite, structured image (H, W)")
    if not 1 <= max_shift_px < min(image.shape) // 2:
        most = min(image.shape) // 2 - 1
        raise DataError(
            f"motion is believed up to {max_shift_px} pixels; valid is 1 to {most} for {image.shape}"
        )
