"""`rig evaluate`. Light to import: what computes is imported when it is asked for."""

import logging
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from decoders.commands.evaluate_reconstruction import reconstruction
from decoders.commands.options import (
    Data,
    Device,
    Json,
    Seed,
    Series,
    Speed,
    SpeedUnit,
    Threads,
    label_rule,
    provenance,
    report,
    settings,
)
from rig.errors import ConfigError

if TYPE_CHECKING:
    from decoders.behavior.evaluate import Evaluation
    from decoders.behavior.onsets import OnsetRule
    from decoders.behavior.runs import Request
    from decoders.datasets.behavior import BehaviorRecording

_LOG = logging.getLogger(__name__)

evaluate = typer.Typer(
    name="evaluate",
    help="Score decoders on recordings they were not trained on.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@evaluate.callback()
def _group() -> None:
    """Score decoders on recordings they were not trained on."""


evaluate.command()(reconstruction)


@evaluate.command()
def behavior(
    data: Data,
    layout: Annotated[
        Literal["kobe", "sessions"], typer.Option(help="How the data are laid out.")
    ] = "sessions",
    scheme: Annotated[
        Literal["published", "leave-one-animal-out", "within-session"],
        typer.Option(help="Who is trained on and who is scored."),
    ] = "leave-one-animal-out",
    model: Annotated[
        str, typer.Option(help="causal, cnn-gru, cnn, roi-gru; any model by its name.")
    ] = "causal",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for report, checkpoints and predictions; the same command goes on in it."),
    ] = None,
    seed: Seed = 0,
    seeds: Annotated[int, typer.Option(min=1, help="So many networks a fold; probabilities averaged.")] = 1,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data.")] = None,
    window_s: Annotated[
        float | None, typer.Option(min=0.001, max=60, help="Window of the model, seconds.")
    ] = None,
    device: Device = "cpu",
    threads: Threads = 2,
    given: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of the model's recipe; may be repeated.")
    ] = None,
    label_threshold_mm_s: Annotated[
        float | None, typer.Option(min=0, help="Label anew: running from this speed on, mm/s.")
    ] = None,
    label_smoothing_s: Annotated[
        float | None, typer.Option(min=0, help="Label anew: mean speed of so many seconds.")
    ] = None,
    label_min_bout_s: Annotated[
        float | None, typer.Option(min=0, help="Label anew: shortest bout, seconds.")
    ] = None,
    series: Series = None,
    speed: Speed = None,
    speed_unit: SpeedUnit = None,
    blocks: Annotated[int, typer.Option(min=2, help="Blocks a session, within-session.")] = 5,
    guard_s: Annotated[float, typer.Option(min=0, help="Left out beside a block, seconds.")] = 5.0,
    hold_frames: Annotated[int, typer.Option(min=1, help="Frames in a row that make a decision.")] = 1,
    hysteresis: Annotated[
        float, typer.Option(min=0, max=1, help="How far below its threshold a decision ends.")
    ] = 0.2,
    sweep: Annotated[bool, typer.Option("--sweep", help="Also every window from 0.03 to 1 s.")] = False,
    all_baselines: Annotated[
        bool, typer.Option("--all-baselines", help="Also the ROI-GRU beside the four simple ones.")
    ] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for normalised frames, kept; else thrown away at the end.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a run/rest model on animals, or blocks of time, that it was not trained on, beside simple baselines.

    With --out the report is also a page (report.html), and a command that was broken off goes on where it was.
    """
    from decoders.behavior.onsets import OnsetRule
    from decoders.behavior.predictor import FitOptions, check_model
    from decoders.behavior.runs import Request
    from decoders.behavior.schemes import Blocks
    from decoders.datasets.reading import ReadingOptions
    from decoders.datasets.recordings import open_recordings

    asked = settings(given or [])
    check_model(model, asked)
    onset_rule = OnsetRule(hold_frames=hold_frames, hysteresis=hysteresis)
    rule = label_rule(label_threshold_mm_s, label_smoothing_s, label_min_bout_s)
    reading = ReadingOptions(series, speed, speed_unit)
    told = {
        "rule": rule and asdict(rule),
        "reading": None if reading == ReadingOptions() else asdict(reading),
    }
    with _folders(out, cache) as (folder, kept), open_recordings(data, layout, rule, reading) as recordings:
        options = FitOptions(kept, seed, epochs, device, threads, window_s, asked)
        request = Request(model, scheme, options, Blocks(blocks, guard_s), seeds, sweep, all_baselines)
        content, evaluation = _evaluate(recordings, request, folder, out, told, onset_rule)
        _write(out, content, evaluation)
    if as_json:
        report(content, as_json)
    else:
        _show(content, out)


@contextmanager
def _folders(out: Path | None, cache: Path | None) -> Iterator[tuple[Path, Path]]:
    """Folder of the results and of the cache; what nobody asked to keep is removed."""
    if cache is not None and cache.exists() and not cache.is_dir():
        raise ConfigError(f"--cache {cache}: not a folder")
    with tempfile.TemporaryDirectory(prefix="rig-evaluate-") as temporary:
        folder = out or Path(temporary)
        yield folder, cache or folder / "cache"
        if cache is None:
            shutil.rmtree(folder / "cache", ignore_errors=True)


def _evaluate(
    recordings: "list[BehaviorRecording]",
    request: "Request",
    folder: Path,
    out: Path | None,
    told: dict[str, Any],
    onset_rule: "OnsetRule",
) -> "tuple[dict[str, Any], Evaluation]":
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    from decoders.behavior.evaluate import evaluate as evaluate_all
    from decoders.behavior.folder import describe
    from decoders.behavior.runs import variants
    from decoders.behavior.schemes import check_recordings, folds
    from decoders.behavior.scoring import summary
    from decoders.result_folder import claim

    check_recordings(recordings)
    count = len(folds(recordings, request.scheme, request.model, request.blocks)) * len(variants(request))
    if out is not None:
        claim(out, describe(request, recordings, told))
    checkpoints = None if out is None else out / "checkpoints"
    with _progress(count) as before:
        evaluation = evaluate_all(recordings, request, folder / "folds", checkpoints, before, onset_rule)
    with threadpool_limits(1):
        figures = summary(evaluation, onset_rule)
    content = {
        "model": request.model,
        "scheme": request.scheme,
        **figures,
        "folds": _folds(evaluation, out is not None),
        "provenance": _provenance(evaluation),
    }
    return content, evaluation


@contextmanager
def _progress(fits: int) -> "Iterator[Callable[[str, str], None]]":
    """Show a bar over all fits, hidden while a network draws its own; yields what to call before each fit."""
    from rig import terminal

    with terminal.progress(transient=True) as progress:
        task = progress.add_task("folds", total=fits)
        done = iter(range(fits))

        def before(fold: str, label: str) -> None:
            from decoders.behavior.baselines import KINDS

            simple = label.partition("@")[0] in KINDS
            progress.update(task, completed=next(done), description=f"{fold}: {label}")
            if simple:
                progress.start()
            else:
                progress.stop()
                _LOG.info("%s: %s, fit %.0f of %d", fold, label, progress.tasks[0].completed + 1, fits)

        yield before


def _folds(evaluation: "Evaluation", with_checkpoints: bool) -> list[dict[str, Any]]:
    """What was trained on, chosen with and scored in each fold, and its checkpoints."""
    from decoders.behavior.runs import checkpoint_name

    request = evaluation.request
    seeds = range(request.options.seed, request.options.seed + request.seeds)
    fitted = evaluation.fitted[request.model]
    return [
        {
            "fold": fold.name,
            "test_mouse": fold.test_mouse,
            "validation": fold.validation_name,
            "trained_on": sorted({excerpt.recording.session for excerpt in fold.training}),
            "tested_on": sorted({excerpt.recording.session for excerpt in fold.test}),
            "fit_s": round(found.fit_s, 3),
            "skipped": found.skipped,
            "checkpoints": [f"checkpoints/{checkpoint_name(fold, s, request.seeds)}" for s in seeds]
            if with_checkpoints and found.skipped is None
            else [],
        }
        for fold, found in zip(evaluation.folds, fitted, strict=True)
    ]


def _provenance(evaluation: "Evaluation") -> dict[str, str]:
    options, recordings = evaluation.request.options, evaluation.recordings
    rules = {str(asdict(r.rule)) if r.rule else "brought by the data" for r in recordings}
    return {
        **provenance("rig " + shlex.join(sys.argv[1:]), [recording.origin for recording in recordings]),
        "labels": "; ".join(sorted(rules)),
        "device": f"{options.device}, {options.threads} threads",
        "seed": str(options.seed),
        "frames": str(sum(map(len, recordings))),
    }


def _write(out: Path | None, content: dict[str, Any], evaluation: "Evaluation") -> None:
    if out is None:
        return
    from decoders.behavior.folder import PAGE, PREDICTIONS, REPORT, write_predictions
    from decoders.behavior.report import write_page
    from decoders.result_folder import write_json

    write_json(content, out / REPORT)
    write_predictions(evaluation, out / PREDICTIONS)
    write_page(evaluation, content, out / PAGE)
    _LOG.info("wrote %s", out / PAGE)


def _show(content: dict[str, Any], out: Path | None) -> None:
    """Print a table for people."""
    from rich.console import Console

    from decoders.behavior.report import table

    console = Console()
    console.print(table(content))
    if out is not None:
        console.print(f"report: {out / 'report.html'}")
