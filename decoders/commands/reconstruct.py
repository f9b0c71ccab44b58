"""`rig reconstruct`. Light to import: what computes is imported when it is asked for."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    PreviewPath,
    RecipeName,
    Smoothing,
    encoder_paths,
    opened,
    results,
)
from decoders.commands.options import Device, Json, Threads, report
from decoders.result_folder import write_arrays

if TYPE_CHECKING:
    from decoders.reconstruction.reconstructor import Reconstructor
    from decoders.reconstruction.scored_clips import ScoredClip

_LOG = logging.getLogger(__name__)


def reconstruct(
    data: MovieData,
    layout: MovieLayout,
    out: Annotated[
        Path, typer.Option(help="Folder for the movies; the same command goes on in it where it was.")
    ],
    encoder: Encoders = None,
    more: MoreEncoders = None,
    tier: Annotated[str, typer.Option(help="Reconstruct every presentation of a tier.")] = "oracle",
    trial: Annotated[
        list[str] | None, typer.Option(help="This trial instead, of any tier; may be repeated.")
    ] = None,
    recipe: RecipeName = DEFAULT_RECIPE,
    preview: PreviewPath = None,
    motion: Motion = True,
    iterations: Iterations = None,
    mask: MaskPath = None,
    clips: Clips = None,
    smoothing: Smoothing = 0.5,
    labels: Labels = None,
    device: Device = "cpu",
    threads: Threads = 2,
    as_json: Json = False,
) -> None:
    """Reconstruct what a mouse saw from its responses: a movie each as .npz, MP4 beside what was shown, and PNG."""
    from decoders.reconstruction.scored_clips import scored_clips
    from rig import terminal

    paths = encoder_paths(encoder, more)
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
    chosen = scored_clips(found.mice, tier, clips, repeats=True, names=trial or [])
    described = found.described(data, iterations) | {"smoothing_sigma": smoothing}
    of_all = found.told()
    with results(out, described, "reconstruction") as folder:
        make = found.reconstructor(iterations, folder)
        told = {}
        with terminal.bar("movies", len(chosen)) as advance:
            for clip in chosen:
                told[clip.name] = _one(make, clip, out, smoothing, of_all["provenance"])
                advance(1)
    report({"out": str(out), **of_all, "smoothing_sigma": smoothing, "clips": told}, as_json)


def _one(
    make: "Reconstructor", clip: "ScoredClip", out: Path, smoothing: float, came_from: dict[str, str]
) -> dict[str, Any]:
    """Reconstruct a presentation and write its files, if they are not there."""
    from decoders.reconstruction.ablations import Variant
    from decoders.reconstruction.evaluate import frames_first
    from decoders.reconstruction.figures import as_png, strip
    from decoders.reconstruction.similarity import compare, smooth
    from decoders.reconstruction.video_file import write_mp4

    trial = clip.load()
    made = make(clip, trial, Variant())[0]
    shown, movie = frames_first(trial.video), smooth(made.movie, smoothing)
    correlation = compare(shown, movie, clip.of.scored).correlation
    stem = out / clip.name.replace("/", "-")
    files = [stem.with_name(stem.name + end) for end in (".npz", ".mp4", ".png")]
    if not all(file.exists() for file in files):
        metadata = {"mouse": clip.of.mouse.name, "trial": clip.trial.name, "recipe": make.recipe, **came_from}
        _write_movie(files[0], movie, shown, metadata | {"rate_hz": str(clip.of.mouse.rate_hz)})
        write_mp4([shown, movie], files[1], clip.of.mouse.rate_hz)
        files[2].write_bytes(as_png(strip({"movie": shown, "reconstruction": movie})))
    _LOG.info("%s: correlation %.3f", clip.name, correlation)
    return {
        "correlation": correlation if np.isfinite(correlation) else None,
        "seconds": made.seconds,
        "files": [str(file) for file in files],
    }


def _write_movie(path: Path, movie: Any, shown: Any, metadata: dict[str, str]) -> None:
    """Write `movie` (T, 36, 64) in grey levels, smoothed, and `shown`, with what they are as `metadata_KEY`."""
    told = {f"metadata_{key}": np.str_(value) for key, value in metadata.items()}
    levels = np.rint(np.clip(shown, 0, 255)).astype(np.uint8)
    write_arrays(path, {"movie": movie.astype(np.float32), "shown": levels, **told})
