"""Plots of an evaluation of reconstructions. Colours and markers are told apart by every kind of colour vision."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from decoders.behavior.figures import COLOURS, GREY, MARKERS, STYLE
from decoders.reconstruction.departures import Departure

Json = Mapping[str, Any]
Movie = NDArray[np.float32]
_RATE_HZ = 30.0
_MAPS = {
    "difference": "reconstruction - movie",
    "spread": "spread of the models",
    "noise": "recorded - noise-free responses",
}


def correlations(report: Json) -> Figure:
    """Correlation of every clip: ours, and the models beside it."""
    rows = {"reconstruction": report["correlation"], **report["baselines"]}
    clips = list(report["correlation"]["clips"])
    with rc_context(STYLE):
        drawn = Figure(figsize=(max(5.0, 1.6 + 0.32 * len(clips)), 3.6), layout="constrained")
        axes = drawn.add_subplot()
        for (name, told), colour, marker in zip(rows.items(), COLOURS, MARKERS, strict=False):
            values = [np.nan if told["clips"].get(clip) is None else told["clips"][clip] for clip in clips]
            axes.plot(values, marker, color=colour, label=name.replace("_", " "))
        axes.axhline(0, color=GREY, linewidth=1)
        axes.set_xticks(range(len(clips)), clips, rotation=60, ha="right", fontsize=8)
        axes.set_ylabel("correlation with the movie")
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn


def ablations(report: Json) -> Figure:
    """Every ablation's correlation with its interval, beside the published one."""
    rows = {"everything": report["correlation"] | {"published": report["published_correlation"]}}
    rows |= report["ablations"]
    with rc_context(STYLE):
        drawn = Figure(figsize=(6.4, 1.2 + 0.34 * len(rows)), layout="constrained")
        axes = drawn.add_subplot()
        for at, told in enumerate(rows.values()):
            if told["interval"]:
                axes.plot(told["interval"], [at, at], color=COLOURS[0], linewidth=1.5)
            mean = np.nan if told["mean"] is None else told["mean"]
            axes.plot(mean, at, MARKERS[0], color=COLOURS[0], label=None if at else "here")
            if told["published"] is not None:
                label = None if at else "published (mouse V1, 8,000 neurons)"
                axes.plot(told["published"], at, MARKERS[3], color=COLOURS[1], fillstyle="none", label=label)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.invert_yaxis()
        axes.set_xlabel("correlation with the movie")
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return drawn


def strip(movies: Mapping[str, Movie], frames: Sequence[int] = ()) -> Figure:
    """Frames of several movies (T, 36, 64) of one clip below each other, grey levels 0 to 255."""
    length = len(next(iter(movies.values())))
    at = frames or np.linspace(min(30, length - 1), length - 1, 6).astype(int)
    drawn = Figure(figsize=(1.75 * len(at) + 0.5, 1.15 * len(movies) + 0.3), layout="constrained")
    grid = drawn.subplots(len(movies), len(at), squeeze=False)
    for place, (name, movie) in enumerate(movies.items()):
        for axes, frame in zip(grid[place], at, strict=True):
            axes.imshow(movie[frame], cmap="gray", vmin=0, vmax=255)
            axes.set_xticks([])
            axes.set_yticks([])
            if place == 0:
                axes.set_title(f"{frame / _RATE_HZ:.1f} s", fontsize=9)
        grid[place, 0].set_ylabel(name, fontsize=9)
    return drawn


def surface(told: Json) -> Figure:
    """Correlation over spatial and temporal scale."""
    values = np.array(told["correlation"], np.float64)
    drawn = Figure(figsize=(5.6, 1.4 + 0.42 * len(values)), layout="constrained")
    axes = drawn.add_subplot()
    image = axes.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        dark = np.isnan(value) or value < 0.6
        said = "-" if np.isnan(value) else f"{round(value, 2) + 0.0:.2f}"  # no "-0.00"
        axes.text(column, row, said, ha="center", va="center", fontsize=8, color="w" if dark else "k")
    axes.set_xticks(range(len(told["time"])), [f"{v:g}" for v in told["time"]])
    axes.set_yticks(range(len(told["space"])), [f"{v:g}" for v in told["space"]])
    axes.set_xlabel(told["time_is"])
    axes.set_ylabel(told["space_is"].replace(" (", "\n("))
    drawn.colorbar(image, ax=axes, label="correlation")
    return drawn


def departure_maps(departure: Departure) -> Figure:
    """Root mean square differences by pixel."""
    planes = departure.by_pixel()
    drawn = Figure(figsize=(3.6 * len(planes), 2.4), layout="constrained")
    most = max(float(np.nanmax(plane)) for plane in planes.values())
    every = drawn.subplots(1, len(planes), squeeze=False)[0]
    for axes, (name, plane) in zip(every, planes.items(), strict=True):
        image = axes.imshow(plane, cmap="cividis", vmin=0, vmax=most)
        axes.set_title(_MAPS[name], fontsize=10)
        axes.set_xlabel("px")
    every[0].set_ylabel("px")
    drawn.colorbar(image, ax=list(every), label="RMS, grey levels")
    return drawn


def departure_times(departure: Departure) -> Figure:
    """Root mean square differences by frame."""
    with rc_context(STYLE):
        drawn = Figure(figsize=(7.0, 2.8), layout="constrained")
        axes = drawn.add_subplot()
        for (name, values), colour, line in zip(
            departure.by_frame().items(), COLOURS, ("-", "--", "-."), strict=False
        ):
            seconds = np.arange(len(values)) / _RATE_HZ
            axes.plot(seconds, values, line, color=colour, label=_MAPS[name])
        axes.axvspan(0, 1, color=GREY, alpha=0.25, linewidth=0)
        axes.set_xlim(0, len(values) / _RATE_HZ)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("time in the clip, s (grey: not scored)")
        axes.set_ylabel("RMS, grey levels")
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn


def as_png(figure: Figure, dpi: int = 120) -> bytes:
    """Return a figure as a PNG file."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=dpi, metadata={"Software": None})
    return picture.getvalue()


def embedded(figure: Figure) -> str:
    """Return a figure as the address of a PNG within a page."""
    return "data:image/png;base64," + base64.b64encode(as_png(figure)).decode()
