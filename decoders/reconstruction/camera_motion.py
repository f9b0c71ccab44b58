"""The camera's motion over the scene, found in a reconstructed movie, and the movie averaged along it.

Whoever moves sees one scene, displaced from frame to frame. A reconstruction's errors come from the noise of
responses, which does not move with the scene: frames laid over each other along the motion agree in what was seen
and differ in what was not. Motion and average are found in turn, as a better movie shows its motion better.

The motion is a shift and a zoom of the whole image (Lucas & Kanade 1981, IJCAI 674). Objects that move otherwise, and
cuts, show as differences, and count less in the average (Tomasi & Manduchi 1998, doi 10.1109/ICCV.1998.710815).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_LAGS = (8, 14)  # frames; errors of nearer ones are alike, and seem to be a scene that stands still
_BLUR_PX = 3.0  # before frames are laid over each other: fine structure is mostly error
_STEPS = 4  # of Gauss and Newton
_ZOOM_PX = 15.0  # a zoom is counted in px at this distance from the middle, to be of the size of a shift
_STEADINESS = 100.0  # weight of jerks against displacements
_REST = (1e-3, 1e-3, 300.0)  # that of velocities themselves: a zoom is slow, and hard to see in a bad movie
_ROUNDS = 4  # of weighing displacements by how well they fit the others
_OUTLIER = 2.0  # standard deviations at which a difference counts half
_SPACING = 0.25  # of a window's standard deviation, between the frames that are averaged; those between tell the same
_SHARES = tuple(_SPACING * k for k in range(1, 11))  # where they lie, in standard deviations
_ALIKE = 0.7  # difference, in standard deviations of the movie, at which a place counts exp(-1/2)
_ALIKE_PX = 3.0  # places are compared over so many px
_NOTHING = 1e-12  # weight of a place in a blur, where the middle has 1; single precision does not feel it
_SMALLEST = 1e-6  # grey levels; keeps a movie of one grey from dividing by zero


def average_along_motion(movie: Tensor, widths: Sequence[float], shown: Tensor | None = None) -> Tensor:
    """Average a movie along the camera's motion in it.

    Parameters
    ----------
    movie
        Grey levels, (T, H, W). One that is too short to see motion in is given back as it is.
    widths
        Standard deviations, in frames, of Gaussian windows: of one average after the other, each of the movie as it
        was given, along the motion in the average before.
    shown
        (H, W), 1 where the movie was looked for: the rest is neither compared nor averaged, and stays; but the blur
        before frames are laid over each other reaches across the border. None: everywhere.

    Returns
    -------
    Tensor
        (T, H, W).
    """
    if len(movie) <= max(_LAGS):
        return movie
    shown = torch.ones_like(movie[0]) if shown is None else shown
    path = torch.zeros(len(movie), 3, device=movie.device)
    found = movie
    for width in widths:
        path = _followed(found, path, shown)
        found = _averaged(movie, path, width, shown)
    return found


def _followed(movie: Tensor, path: Tensor, shown: Tensor) -> Tensor:
    """Where the camera is, from a first guess: rows, columns and zoom, px, at every frame, (T, 3)."""
    blurred = _blurred(movie, _BLUR_PX)
    steps = len(movie) - 1
    spans, displacements, weights = [], [], []
    for lag in _LAGS:
        guess = path[lag:] - path[:-lag]
        displacement, misfit = _laid_over(blurred[:-lag], blurred[lag:], guess, shown)
        ones = torch.ones(len(guess), steps, dtype=torch.float64, device=movie.device)
        spans.append(ones.triu().tril(lag - 1))
        displacements.append(displacement)
        weights.append(1 / (math.sqrt(lag) * (0.05 + misfit)))
    velocity = _steady(torch.cat(spans), torch.cat(displacements).double(), torch.cat(weights).double())
    return F.pad(velocity.cumsum(0), (0, 0, 1, 0)).float()


def _laid_over(here: Tensor, there: Tensor, moved: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
    """Motion (B, 3) after which frames `there` (B, H, W) lie over those `here`, and the share of variance left."""
    rows, columns = _from_middle(here)
    looked_for = shown.flatten() > 0
    target = here.flatten(1)[:, looked_for]
    for _ in range(_STEPS):
        laid, seen = _moved(there, moved, shown)
        by_row, by_column = torch.gradient(laid, dim=(1, 2))
        by_zoom = (by_row * rows + by_column * columns) / _ZOOM_PX
        slopes = torch.stack([by_row, by_column, by_zoom], 1).flatten(2)[..., looked_for]
        left = target - laid.flatten(1)[:, looked_for]
        weighted = slopes * (seen.flatten(1)[:, looked_for] * _inliers(left))[:, None]
        curvature = weighted @ slopes.mT
        damping = 1e-3 * curvature.diagonal(dim1=1, dim2=2) + _SMALLEST
        step = torch.linalg.solve(curvature + torch.diag_embed(damping), weighted @ left[..., None])
        moved = (moved + step[..., 0]).clamp(-_largest(here), _largest(here))
    laid, seen = _moved(there, moved, shown)
    left = ((here - laid).square() * seen).sum((1, 2)) / seen.sum((1, 2)).clamp(min=1)
    return moved, left / target.var(1).clamp(min=1)


def _steady(spans: Tensor, displacements: Tensor, weights: Tensor) -> Tensor:
    """Velocities (T - 1, 3), px a frame, that change steadily and sum to the displacements over their spans."""
    steps = spans.shape[1]
    one = torch.eye(steps, dtype=spans.dtype, device=spans.device)
    jerk = one.diff(n=2, dim=0)
    priors = _STEADINESS * jerk.mT @ jerk + spans.new_tensor(_REST)[:, None, None] * one
    weights = weights / weights.mean()
    trusted = weights
    for _ in range(_ROUNDS):
        weighted = spans.mT * trusted
        seen = (weighted @ displacements).mT[..., None]
        velocity: Tensor = torch.linalg.solve(weighted @ spans + priors, seen)[..., 0].mT
        left = (spans @ velocity - displacements).norm(dim=1)
        trusted = weights * _inliers(left[None])[0]
    return velocity


def _averaged(movie: Tensor, path: Tensor, width: float, shown: Tensor) -> Tensor:
    """Mean of a movie's frames along a path, of those near in time and alike in place."""
    total, weight = movie.clone(), torch.ones_like(movie)
    tolerance = 2 * (_ALIKE * float(movie[:, shown > 0].std()) + _SMALLEST) ** 2
    for share in _SHARES:
        offset = round(share * width)
        if not 0 < offset < len(movie):
            continue
        near = math.exp(-0.5 * share**2)
        moved = path[offset:] - path[:-offset]
        early, late = slice(0, -offset), slice(offset, None)
        for here, there, motion in ((early, late, moved), (late, early, -moved)):
            laid, seen = _moved(movie[there], motion, shown)
            different = _blurred((laid - movie[here]).square() * seen, _ALIKE_PX)
            alike = near * seen * torch.exp(-different / tolerance)
            total[here] += alike * laid
            weight[here] += alike
    return torch.where(shown > 0, total / weight, movie)


def _moved(frames: Tensor, motion: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
    """Frames (B, H, W) as from where the camera was before a motion (B, 3), and where that was seen: 1, else 0."""
    rows, columns = _from_middle(frames)
    zoom = 1 + motion[:, 2, None, None] / _ZOOM_PX
    down = zoom * rows / rows.max() + motion[:, 0, None, None] / rows.max()
    across = zoom * columns / columns.max() + motion[:, 1, None, None] / columns.max()
    at = torch.stack([across.expand_as(frames), down.expand_as(frames)], -1)  # -1 to 1, as grid_sample has it
    laid = F.grid_sample(frames[:, None], at, padding_mode="border", align_corners=True)[:, 0]
    seen = ((across.abs() <= 1) & (down.abs() <= 1)).float()
    if not bool(shown.all()):
        places = shown.expand_as(frames)[:, None]
        seen = seen * shown * F.grid_sample(places, at, mode="nearest", align_corners=True)[:, 0]
    return laid, seen


def _from_middle(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (H, 1) and columns (1, W), px from the middle."""
    height, width = frames.shape[-2:]
    rows, columns = (torch.arange(size, device=frames.device) - (size - 1) / 2 for size in (height, width))
    return rows[:, None], columns[None]


def _largest(frames: Tensor) -> float:
    """Largest motion, px, that is looked for: half of the image is still seen."""
    return min(frames.shape[-2:]) / 2


def _inliers(left: Tensor) -> Tensor:
    """Weights of differences (B, n) by their size beside the others' (Cauchy)."""
    usual = 1.4826 * left.abs().median(1, keepdim=True).values + _SMALLEST
    return 1 / (1 + (left / (_OUTLIER * usual)).square())


def _blurred(frames: Tensor, sigma_px: float) -> Tensor:
    """Frames (B, H, W) after a Gaussian blur of what is within them: products, a tenth of convolutions' cost."""
    over_rows, over_columns = (_gaussian(size, sigma_px).to(frames) for size in frames.shape[-2:])
    return over_rows @ frames @ over_columns.mT


def _gaussian(size: int, sigma_px: float) -> Tensor:
    """Weights (size, size) of every place in the blurred value of every place."""
    at = torch.arange(size)
    weights = torch.exp(-0.5 * ((at[:, None] - at) / sigma_px) ** 2)
    weights[weights < _NOTHING] = 0  # products with denormal numbers take twenty times as long
    return weights / weights.sum(1, keepdim=True)
