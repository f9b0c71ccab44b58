"""`rig evaluate reconstruction`. Light to import: what computes is imported when it is asked for."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

from decoders.commands.movie_options import (
    DEFAULT_RECIPE,
    Clips,
    Encoders,
    Iterations,
    Labels,
    MaskPath,
    MoreEncoders,
    Motion,
    MovieData,
    MovieLayout,
    Opened,
    PreviewPath,
    RecipeName,
    Smoothing,
    encoder_paths,
    opened,
    results,
)
from decoders.commands.options import Device, Json, Threads, report
from decoders.reconstruction.ablations import ABLATIONS
from rig.errors import ConfigError

if TYPE_CHECKING:
    from decoders.reconstruction.ablations import Variant
    from decoders.reconstruction.evaluate import ClipScore, Evaluation
    from decoders.reconstruction.scored_clips import ScoredClip

_LOG = logging.getLogger(__name__)
_REPORT, _PAGE, _MAPS = "report.json", "report.html", "maps"
_EXAMPLES = 3
_STIMULI = ("noise", "gratings")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked for beside the reconstruction of every clip."""

    ablations: list[str]
    stimuli: list[str]
    stimuli_per_cell: int
    maps: bool
    out: Path | None
    smoothing: float


def reconstruction(
    data: MovieData,
    layout: MovieLayout,
    encoder: Encoders = None,
    more: MoreEncoders = None,
    tier: Annotated[str, typer.Option(help="Trials to reconstruct: oracle, ...")] = "oracle",
    recipe: RecipeName = DEFAULT_RECIPE,
    preview: PreviewPath = None,
    motion: Motion = True,
    iterations: Iterations = None,
    mask: MaskPath = None,
    clips: Clips = None,
    repeats: Annotated[
        Literal["first", "all"], typer.Option(help="Of a movie shown repeatedly, score which presentations.")
    ] = "first",
    smoothing: Smoothing = 0.5,
    ablation: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(ABLATIONS)}, or all that are possible; may be repeated."),
    ] = None,
    stimuli: Annotated[
        list[str] | None, typer.Option(help="Also noise or gratings, in silico; may be repeated.")
    ] = None,
    stimuli_per_cell: Annotated[int, typer.Option(min=1, help="Stimuli of each scale.")] = 4,
    maps: Annotated[
        bool, typer.Option("--maps", help="Also maps of where the reconstruction departs from the movie.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for report, movies and maps; the same command goes on in it."),
    ] = None,
    labels: Labels = None,
    device: Device = "cpu",
    threads: Threads = 2,
    as_json: Json = False,
) -> None:
    """Reconstruct movies from responses and score them as published, beside a linear baseline.

    With --out the report is also a page (report.html), and a command that was broken off goes on where it was, also
    with further ablations, stimuli or clips.
    """
    asked = _Asked(ablation or [], stimuli or [], stimuli_per_cell, maps, out, smoothing)
    _check(asked)
    from decoders.reconstruction.ablations import variants
    from decoders.reconstruction.scored_clips import scored_clips

    paths = encoder_paths(encoder, more)
    ways = variants(
        asked.ablations,
        len(paths),
        masked=mask is not None,
        recipe=recipe,
        begun=preview is not None,
        motion=motion,
    )
    found = opened(
        paths,
        data,
        layout,
        labels=labels,
        recipe=recipe,
        preview=preview,
        motion=motion,
        mask=mask,
        device=device,
        threads=threads,
    )
    chosen = scored_clips(found.mice, tier, clips, repeats=repeats == "all")
    with results(out, found.described(data, iterations), "evaluation") as folder:
        evaluation, scores, surfaces = _evaluate(found, chosen, ways, asked, iterations, folder)
        content = _content(found, scores, ways, chosen, asked) | {
            "stimuli": surfaces,
            "tier": tier,
            "repeats": repeats,
            "iterations": iterations,
        }
        if out is not None:
            _write(content, evaluation, chosen, out)
    if as_json:
        report(content, as_json)
    else:
        _show(content, out)


def _check(asked: _Asked) -> None:
    for kind in asked.stimuli:
        if kind not in _STIMULI:
            raise ConfigError(f"--stimuli {kind}: unknown; valid: {', '.join(_STIMULI)}")
    if asked.maps and asked.out is None:
        raise ConfigError("--maps needs a folder to write them to; give --out")


def _evaluate(
    found: Opened,
    clips: "Sequence[ScoredClip]",
    ways: "Sequence[Variant]",
    asked: _Asked,
    iterations: int | None,
    folder: Path,
) -> "tuple[Evaluation, list[ClipScore], dict[str, Any]]":
    from decoders.reconstruction.evaluate import Evaluation, others
    from decoders.reconstruction.stimuli import GRIDS

    make = found.reconstructor(iterations, folder)
    evaluation = Evaluation(make, ways, asked.smoothing, folder / _MAPS if asked.maps else None)
    cells = [cell for kind in asked.stimuli for cell in GRIDS[kind].cells()]
    with _progress(len(clips) * len(ways) + len(cells)) as advance:
        scores = []
        for clip, other in zip(clips, others(clips), strict=True):
            scores.append(evaluation.score(clip, other, advance))
            _LOG.info("%s: correlation %.3f", clip.name, scores[-1].figures["correlation"])
        surfaces = {
            kind: evaluation.surface(GRIDS[kind], clips[0], asked.stimuli_per_cell, advance).as_dict()
            for kind in dict.fromkeys(asked.stimuli)
        }
    return evaluation, scores, surfaces


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    from rig import terminal

    with terminal.bar("movies", total) as advance:
        yield advance


def _content(
    found: Opened,
    scores: "Sequence[ClipScore]",
    ways: "Sequence[Variant]",
    clips: "Sequence[ScoredClip]",
    asked: _Asked,
) -> dict[str, Any]:
    from decoders.reconstruction.evaluate import summary

    masked = clips[0].of.scored
    pixels = (
        "all" if masked is None else f"{int(masked.sum())} of {masked.size} in the mask of the first mouse"
    )
    return {
        **summary(scores, ways),
        **found.told(),
        "smoothing_sigma": asked.smoothing,
        "scored_pixels": pixels,
    }


def _write(
    content: dict[str, Any], evaluation: "Evaluation", clips: "Sequence[ScoredClip]", out: Path
) -> None:
    from decoders.reconstruction.departures import Departure
    from decoders.reconstruction.report import write_page
    from decoders.result_folder import write_json

    write_json(content, out / _REPORT)
    examples = _examples(content["correlation"]["clips"], clips)
    maps = {
        clip.name: Departure.load(out / _MAPS / f"{clip.name.replace('/', '-')}.npz")
        for clip in examples
        if clip.name in content["departures"]
    }
    write_page(content, out / _PAGE, {clip.name: evaluation.movies(clip) for clip in examples}, maps)
    _LOG.info("wrote %s", out / _PAGE)


def _examples(correlations: dict[str, float | None], clips: "Sequence[ScoredClip]") -> "list[ScoredClip]":
    """The best, the middle and the worst clip."""
    known = {name: -1.0 if value is None else value for name, value in correlations.items()}
    ranked = sorted(clips, key=lambda clip: -known[clip.name])
    places = np.linspace(0, len(ranked) - 1, min(_EXAMPLES, len(ranked))).round().astype(int)
    return [ranked[at] for at in places]


def _show(content: dict[str, Any], out: Path | None) -> None:
    """Print tables for people."""
    from rich.console import Console

    from decoders.reconstruction.report import tables

    console = Console()
    if not console.is_terminal:  # a file or a pipe wants whole values
        console = Console(width=1000)
    for table in tables(content):
        console.print(table)
    if out is not None:
        console.print(f"report: {out / _PAGE}", soft_wrap=True)
