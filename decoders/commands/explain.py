"""`rig explain`: which cortex a model uses. Light to import: what computes is imported when it is asked for."""

import itertools
import json
import logging
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from decoders.commands.options import (
    Data,
    Device,
    Json,
    Seed,
    Series,
    Speed,
    SpeedUnit,
    Threads,
    provenance,
    report,
    settings,
)
from rig.errors import CheckpointError, ConfigError, DataError

if TYPE_CHECKING:
    from decoders.atlas import Atlas
    from decoders.behavior.explain import MaskOptions, Model, Run
    from decoders.behavior.predictor import FitOptions
    from decoders.datasets.behavior import BehaviorRecording

_LOG = logging.getLogger(__name__)
_REPORT, _MAPS, _AREAS, _PAGE = "importance.json", "importance.png", "areas.png", "importance.html"

explain = typer.Typer(
    name="explain",
    help="Show which cortex a decoder used.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@explain.callback()
def _group() -> None:
    """Show which cortex a decoder used."""


@explain.command()
def behavior(
    data: Data,
    models: Annotated[
        list[Path] | None,
        typer.Option(help="Checkpoint, or folder that `rig evaluate behavior --out` wrote; may be repeated."),
    ] = None,
    layout: Annotated[
        Literal["kobe", "sessions"], typer.Option(help="How the data are laid out.")
    ] = "sessions",
    atlas: Annotated[
        Path | None, typer.Option(help="Folder of an atlas as wfield's; the built-in outline without it.")
    ] = None,
    landmarks: Annotated[
        list[str] | None,
        typer.Option(
            help="FILE.yaml, or bregma=COLUMN,ROW and so on, for data that do not say; may be repeated."
        ),
    ] = None,
    mask_px: Annotated[
        int | None, typer.Option(min=1, help="Size of the masks; 32 of 128 px without it.")
    ] = None,
    stride_px: Annotated[
        int | None, typer.Option(min=1, help="From mask to mask; 16 of 128 px without it.")
    ] = None,
    shape: Annotated[Literal["square", "circle"], typer.Option(help="Shape of the masks.")] = "square",
    areas: Annotated[bool, typer.Option(help="Also take each area away.")] = True,
    sides: Annotated[bool, typer.Option(help="Also each area of one hemisphere.")] = True,
    controls: Annotated[bool, typer.Option(help="Also the frame's border, and circles of one size.")] = True,
    retrain: Annotated[
        str | None, typer.Option(help="Train this model on parts of the cortex, e.g. roi-gru or causal.")
    ] = None,
    part: Annotated[list[str] | None, typer.Option(help="Part to retrain on; every one without it.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data, retraining.")] = None,
    given: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of the recipe, retraining; may be repeated.")
    ] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = 2,
    series: Series = None,
    speed: Speed = None,
    speed_unit: SpeedUnit = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for report, pictures and a page to explore.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for normalised frames, kept; else thrown away at the end.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Take pixels away and see how far the AUC falls on mice that the model was not trained on.

    The published perturbation (Ajioka et al. 2024): squares set to zero after normalisation; then area by area. With
    --retrain also what a model learns from a part of the cortex alone.
    """
    from decoders.atlas import load_atlas
    from decoders.behavior.explain import MaskOptions
    from decoders.behavior.predictor import FitOptions
    from decoders.datasets.reading import ReadingOptions
    from decoders.datasets.recordings import open_recordings
    from decoders.landmarks import read_landmarks

    asked = settings(given or [])
    _check(models, retrain, asked, out)
    import torch

    torch.set_num_threads(threads)
    options = MaskOptions(mask_px, stride_px, shape, areas, sides, controls)
    placed, marks = load_atlas(atlas), read_landmarks(landmarks or [])
    reading = ReadingOptions(series, speed, speed_unit)
    with _cache(cache) as folder, open_recordings(data, layout, None, reading) as opened:
        recordings = [marks.applied(recording) for recording in opened]
        content: dict[str, Any] = {}
        if models:
            content |= _explain(models, recordings, options, placed, folder)
        if retrain is not None:
            fitting = FitOptions(folder, seed, epochs, device, threads, settings=asked)
            content["retraining"] = _retrain(retrain, recordings, part, fitting, placed)
        content["provenance"] = _provenance(recordings)
        if out is not None:
            _write(out, content, recordings, options, placed)
    if as_json:
        report(content, as_json)
    else:
        _show(content, out)


def _check(models: list[Path] | None, retrain: str | None, asked: dict[str, Any], out: Path | None) -> None:
    """Say what cannot work before the work, not after."""
    from decoders.behavior.predictor import check_model

    if not models and retrain is None:
        raise ConfigError("nothing to explain; valid is --models, --retrain MODEL, or both")
    if retrain is not None:
        check_model(retrain, asked)
    _refuse_existing(out)


@contextmanager
def _cache(given: Path | None) -> Iterator[Path]:
    """Folder for normalised frames: the one that was named, or one that is gone afterwards."""
    if given is not None and given.exists() and not given.is_dir():
        raise ConfigError(f"--cache {given}: not a folder")
    with tempfile.TemporaryDirectory(prefix="rig-explain-") as temporary:
        yield given or Path(temporary)


def _refuse_existing(out: Path | None) -> None:
    """Say so before the work, not after."""
    if out is not None and (out / _REPORT).exists():
        raise CheckpointError(f"{out / _REPORT}: exists already; give --out another folder")
    if out is not None and not out.parent.is_dir():
        raise CheckpointError(f"{out}: there is no folder {out.parent}")


def _explain(
    models: Sequence[Path],
    recordings: "Sequence[BehaviorRecording]",
    options: "MaskOptions",
    atlas: "Atlas",
    cache: Path,
) -> dict[str, Any]:
    """Perturb every model on the recordings of its mouse, and summarise."""
    from decoders.behavior.explain import CIRCLE_RADIUS_MM
    from decoders.behavior.loading import load_models
    from decoders.behavior.ranking import summary
    from decoders.behavior.schemes import check_recordings

    check_recordings(recordings)
    mice = list(dict.fromkeys(recording.mouse for recording in recordings))
    runs, left_out = _runs(load_models(models, mice, cache), recordings, options, atlas)
    size, stride = options.grid_px(recordings[0].size_px)
    return {
        **summary(runs),
        "masks": {
            "shape": options.shape,
            "size_px": size,
            "stride_px": stride,
            "frame_px": list(recordings[0].size_px),
            "circle_radius_mm": CIRCLE_RADIUS_MM,
        },
        "atlas": atlas.source if options.areas else None,
        "placements": _placements(recordings) if options.areas else {},
        "left_out": left_out,
    }


def _retrain(
    model: str,
    recordings: "Sequence[BehaviorRecording]",
    parts: Sequence[str] | None,
    options: "FitOptions",
    atlas: "Atlas",
) -> dict[str, Any]:
    """Train on parts of the cortex; the networks draw their own progress bars."""
    from decoders.behavior.parts import part_names
    from decoders.behavior.retraining import retrain
    from decoders.behavior.schemes import check_recordings

    check_recordings(recordings)
    chosen, fits = list(parts or part_names()), itertools.count(1)
    total = len(chosen) * len({recording.mouse for recording in recordings})

    def told(_: int) -> None:
        _LOG.info("%s: fit %d of %d done", model, next(fits), total)

    return {"model": model, "parts": retrain(model, recordings, chosen, options, atlas, told)}


def _provenance(recordings: "Sequence[BehaviorRecording]") -> dict[str, str]:
    return provenance("rig " + shlex.join(sys.argv[1:]), [recording.origin for recording in recordings])


def _runs(
    models: "Sequence[Model]",
    recordings: "Sequence[BehaviorRecording]",
    options: "MaskOptions",
    atlas: "Atlas",
) -> "tuple[list[Run], dict[str, str]]":
    """Every model on every recording of its mouse; recordings without an AUC are left out, with the reason."""
    from decoders.behavior.explain import masks_of, perturb
    from rig.terminal import bar

    pairs = [(m, r) for m in models for r in recordings if m.test_mouse in (None, r.mouse)]
    masks = {recording.session: masks_of(recording, options, atlas) for _, recording in pairs}
    total = sum(sum(map(len, masks[recording.session].values())) for _, recording in pairs)
    runs, left_out = [], {}
    with bar("masks", total) as advance:
        for model, recording in pairs:
            if recording.running.all() or not recording.running.any():
                what = "rest" if recording.running.any() else "running"
                left_out[recording.session] = f"{recording.path}: no {what}, so no AUC"
                _LOG.warning("left out: %s", left_out[recording.session])
                continue
            runs.append(perturb(model, recording, masks[recording.session], advance))
    if not runs:
        raise DataError(f"{recordings[0].path}: no recording with both running and rest is left to explain")
    return runs, left_out


def _placements(recordings: "Sequence[BehaviorRecording]") -> dict[str, dict[str, float]]:
    from decoders.atlas import place

    found = {recording.session: place(recording.landmarks_px, recording.path) for recording in recordings}
    return {
        session: {
            "um_per_px": round(1000 * placement.mm_per_px, 2),
            "rotation_deg": round(placement.rotation_deg, 2),
            "residual_mm": round(placement.residual_mm, 3),
        }
        for session, placement in found.items()
    }


def _write(
    out: Path,
    content: dict[str, Any],
    recordings: "Sequence[BehaviorRecording]",
    options: "MaskOptions",
    atlas: "Atlas",
) -> None:
    from decoders.behavior import overlay

    out.mkdir(exist_ok=True)
    if "mice" in content:
        first = {recording.mouse: recording for recording in reversed(recordings)}
        pictures = [
            overlay.picture(first[mouse], section, options, atlas)
            for mouse, section in content["mice"].items()
        ]
        overlay.draw_maps(pictures, out / _MAPS)
        overlay.write_page(pictures, content, out / _PAGE)
        if "areas" in content["mean"]:
            title = (
                f"What the decoder loses without each part of the cortex and each area ({len(pictures)} mice)"
            )
            overlay.draw_areas(content["mean"], title, out / _AREAS)
    (out / _REPORT).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _LOG.info("wrote %s", out)


def _show(content: dict[str, Any], out: Path | None) -> None:
    """Print tables for people; everything is in the report."""
    from rich.console import Console

    from decoders.behavior.explained import tables

    console = Console()
    for table in tables(content):
        console.print(table)
    if out is not None:
        console.print(f"report: {out / (_PAGE if 'mice' in content else _REPORT)}", soft_wrap=True)
