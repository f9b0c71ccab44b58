"""Pictures of a perturbation: maps over the mean image as PNG, and a page to explore as one HTML file.

Owns the drawing only; figures are `decoders.behavior.ranking`'s. Colours are centred at zero and can be told apart by
colour-blind readers (ColorBrewer's RdBu).
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from contourpy import contour_generator
from jinja2 import Environment
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

from decoders.atlas import Atlas, place, placed_masks
from decoders.behavior.explain import MaskOptions
from decoders.behavior.parts import area_of
from decoders.datasets.behavior import BehaviorRecording
from decoders.occlusion import starts

UNIT = "AUC drop"
_COLOURS = "RdBu_r"
_LEAST_SCALE = 0.01  # AUC: smaller drops stay pale instead of filling the colour scale with noise
_PER_ROW = 3
_SHOWN_FRAMES = 60  # of which the mean image is made
_WHOLE = {"parts": "whole part, both sides", "areas": "whole area, both sides"}
_OPACITY = 0.8  # of the largest drop: where nothing falls, the brain shows


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn of one mouse.

    Attributes
    ----------
    mouse
        Its name.
    brain
        (H, W), mean image.
    importance
        (H, W), AUC drop at every pixel.
    sides
        Areas by name ("L-FL"), (H, W) each; empty without an atlas.
    mm_per_px
        None where no landmarks give the scale.
    section
        The mouse's part of the report.
    """

    mouse: str
    brain: NDArray[np.float32]
    importance: NDArray[np.float64]
    sides: Mapping[str, NDArray[np.bool_]]
    mm_per_px: float | None
    section: Mapping[str, Any]


def picture(
    recording: BehaviorRecording, section: Mapping[str, Any], options: MaskOptions, atlas: Atlas
) -> Picture:
    """Gather what is drawn of a mouse: `recording` is one of its, `section` its part of the report."""
    placement = place(recording.landmarks_px, recording.path) if recording.landmarks_px else None
    sides: dict[str, NDArray[np.bool_]] = {}
    if options.areas and placement is not None:
        sides = placed_masks(atlas, placement, recording.size_px, recording.path)
    size, stride = options.grid_px(recording.size_px)
    drops = np.array(section["grid"]["drop"], np.float64)
    importance = to_frame(drops, recording.size_px, size, stride)
    mm_per_px = None if placement is None else placement.mm_per_px
    return Picture(recording.mouse, mean_image(recording), importance, sides, mm_per_px, section)


def mean_image(recording: BehaviorRecording) -> NDArray[np.float32]:
    """Mean of frames spread over a recording, (H, W)."""
    chosen = np.linspace(0, len(recording) - 1, min(_SHOWN_FRAMES, len(recording))).astype(int)
    mean: NDArray[np.float32] = np.mean(
        [recording.frames[k : k + 1][0].astype(np.float32) for k in chosen], axis=0, dtype=np.float32
    )
    return mean


def to_frame(
    grid: NDArray[np.float64], frame_px: tuple[int, int], size_px: int, stride_px: int
) -> NDArray[np.float64]:
    """Spread the grid's drops (rows, columns) over a frame (H, W): linear between the masks' centres, held outside."""
    rows, columns = ((np.array(starts(n, size_px, stride_px)) + (size_px - 1) / 2) for n in frame_px)
    across = np.stack([np.interp(np.arange(frame_px[1]), columns, row) for row in grid])
    down = [np.interp(np.arange(frame_px[0]), rows, column) for column in across.T]
    return np.stack(down, axis=1)


# --- PNG ---


def draw_maps(pictures: Sequence[Picture], path: Path) -> None:
    """Draw every mouse's map over its mean image, areas outlined, on one colour scale."""
    across = min(_PER_ROW, len(pictures))
    down = -(-len(pictures) // across)
    figure = Figure(figsize=(4.2 * across + 1.2, 4.2 * down + 0.4), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    scale = _scale(pictures)
    for axis, picture in zip(axes, pictures, strict=False):
        _draw_map(axis, picture, scale)
    for axis in axes[len(pictures) :]:
        axis.set_axis_off()
    bar = figure.colorbar(ScalarMappable(scale, _COLOURS), ax=list(axes), shrink=0.7)
    bar.set_label(f"{UNIT} (without a mask less with it)")
    figure.savefig(path, dpi=150)


def _draw_map(axis: Axes, picture: Picture, scale: Normalize) -> None:
    axis.imshow(picture.brain, cmap="gray")
    axis.imshow(_coloured(picture.importance, scale))
    for mask in picture.sides.values():
        for line in _outline(mask):
            axis.plot(line[:, 0] - 0.5, line[:, 1] - 0.5, color="black", linewidth=0.6)
    for name in _named(picture):
        row, column = np.nonzero(picture.sides[name])
        axis.text(column.mean(), row.mean(), area_of(name), ha="center", va="center", fontsize=7)
    _draw_scale_bar(axis, picture)
    axis.set_title(f"mouse {picture.mouse}, AUC {picture.section['auc']['mean']:.3f}", fontsize=10)
    axis.set_axis_off()


def _named(picture: Picture) -> list[str]:
    """Areas whose names are written into the map: the three that count most."""
    first = [area["name"] for area in picture.section.get("areas", [])[:3]]
    return [name for name in picture.sides if area_of(name) in first]


def _draw_scale_bar(axis: Axes, picture: Picture) -> None:
    height, width = picture.brain.shape
    if picture.mm_per_px is None:
        axis.text(0.03 * width, 0.97 * height, f"{width} px wide, no scale", color="white", fontsize=8)
        return
    right = 0.04 * width + 1 / picture.mm_per_px
    axis.plot([0.04 * width, right], [0.95 * height] * 2, color="white", linewidth=3, solid_capstyle="butt")
    axis.text(0.04 * width, 0.93 * height, "1 mm", color="white", fontsize=8)


def draw_areas(section: Mapping[str, Any], title: str, path: Path) -> None:
    """Draw by how much both measures fall without each part of the cortex and each area, ranked by each measure.

    `section` is that of the mean. Parts and areas have axes of their own: a part's drop can be ten times an area's.
    """
    groups = [group for group in ("parts", "areas") if section.get(group)]
    rows = [len(section[group]) + 2 for group in groups]
    figure = Figure(figsize=(11, 1.2 + 0.24 * sum(rows)), layout="constrained")
    axes = figure.subplots(len(groups), 2, squeeze=False, height_ratios=rows)
    for (left, right), group in zip(axes, groups, strict=True):
        _draw_ranked(left, section[group], f"{UNIT}, mean and 95 % interval", _WHOLE[group])
        evidence = section["evidence"][group]
        _draw_ranked(right, evidence, "evidence drop, log odds, mean and 95 % interval", _WHOLE[group])
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=150)


def _draw_ranked(axis: Axes, areas: Sequence[Mapping[str, Any]], label: str, whole: str) -> None:
    """Draw the areas' drops with intervals, largest first, and beside them those of circles of one size."""
    place = np.arange(len(areas))
    circles = [area["circle_drop"] for area in areas]
    beside = 0.12 if all(circles) else 0.0
    _draw_intervals(axis, [area["drop"] for area in areas], place - beside, whole, "o")
    if all(circles):
        _draw_intervals(axis, circles, place + 0.18, "circle of one size on each side", "s")
    axis.axvline(0, color="grey", linewidth=0.8)
    axis.set_yticks(place, [str(area["name"]) for area in areas])
    axis.set_ylim(len(areas) - 0.4, -0.6)
    axis.set_xlabel(label)
    axis.legend(loc="lower right", fontsize=8)


def _draw_intervals(
    axis: Axes, found: Sequence[Mapping[str, float | None]], at: NDArray[np.floating], label: str, marker: str
) -> None:
    mean, low, high = (np.array([one[key] for one in found], np.float64) for key in ("mean", "low", "high"))
    errors = np.stack([mean - low, high - mean]).clip(0)
    colour = {"o": "#0072B2", "s": "#D55E00"}[marker]  # Okabe and Ito's blue and vermilion
    axis.errorbar(mean, at, xerr=errors, fmt=marker, color=colour, markersize=4, linewidth=1, label=label)


def _scale(pictures: Sequence[Picture]) -> Normalize:
    most = max(float(np.abs(picture.importance).max()) for picture in pictures)
    most = max(most, _LEAST_SCALE)
    return Normalize(-most, most)


def _coloured(importance: NDArray[np.float64], scale: Normalize) -> NDArray[np.float64]:
    """Colours (H, W, 4) of a map, the more opaque the larger the change."""
    share = np.asarray(scale(importance), np.float64)
    colours = np.array(colormaps[_COLOURS](share))
    colours[..., 3] = _OPACITY * np.sqrt(np.abs(2 * share - 1))
    return colours


def _outline(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Borders of a mask, (n, 2) as (column, row); pixel 0 reaches from 0 to 1."""
    padded = np.pad(mask, 1).astype(np.float64)
    lines: Sequence[Any] = contour_generator(z=padded).lines(0.5)
    return [np.asarray(line, np.float64) - 0.5 for line in lines]


# --- HTML ---


def write_page(pictures: Sequence[Picture], report: Mapping[str, Any], path: Path) -> None:
    """Write the maps as one HTML file that needs nothing else: hover for an area's figures, slide for opacity."""
    scale = _scale(pictures)
    template = files("decoders.behavior").joinpath("overlay.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(template).render(
        pictures=[_panel(picture, scale) for picture in pictures],
        report=report,
        unit=UNIT,
        most=scale.vmax,
        stops=[_hex(share) for share in np.linspace(0, 1, 11)],
    )
    path.write_text(page, encoding="utf-8")


def _panel(picture: Picture, scale: Normalize) -> dict[str, Any]:
    height, width = picture.brain.shape
    return {
        "mouse": picture.mouse,
        "section": picture.section,
        "height": height,
        "width": width,
        "brain": _png(_grey(picture.brain)),
        "importance": _png(_coloured(picture.importance, scale)),
        "bar_px": None if picture.mm_per_px is None else 1 / picture.mm_per_px,
        "areas": _outlined(picture),
    }


def _outlined(picture: Picture) -> list[dict[str, Any]]:
    figures = {area["name"]: area for area in picture.section.get("areas", [])}
    alone = picture.section.get("sides", {})
    return [
        {"name": name, "path": _svg_path(mask), "area": figures[area_of(name)], "side": alone.get(name)}
        for name, mask in picture.sides.items()
        if area_of(name) in figures
    ]


def _svg_path(mask: NDArray[np.bool_]) -> str:
    lines = (" L".join(f"{x:.1f} {y:.1f}" for x, y in line) for line in _outline(mask))
    return " ".join(f"M{line} Z" for line in lines)


def _grey(image: NDArray[np.float32]) -> NDArray[np.float64]:
    low, high = np.percentile(image, [0.5, 99.5])
    share = np.clip((image - low) / max(float(high - low), 1e-9), 0, 1)
    return np.asarray(colormaps["gray"](share), np.float64)


def _png(pixels: NDArray[np.float64]) -> str:
    """Pixels (H, W, 4), 0 to 1, as a data address."""
    buffer = io.BytesIO()
    imsave(buffer, np.ascontiguousarray(pixels), format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _hex(share: float) -> str:
    red, green, blue, _ = (round(255 * value) for value in colormaps[_COLOURS](float(share)))
    return f"#{red:02x}{green:02x}{blue:02x}"
