"""`rig train`: session files to checkpoints. Light to import: what trains is imported when it is asked for."""

import json
import logging
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import typer

from decoders.commands.movie_options import Labels, MovieData, MovieLayout, load_encoder_on
from decoders.commands.options import (
    Data,
    Device,
    Json,
    Out,
    Seed,
    Series,
    Speed,
    SpeedUnit,
    Threads,
    provenance,
    refuse_existing,
    report,
    settings,
)
from rig.errors import DataError

if TYPE_CHECKING:
    from decoders.behavior.predictor import Predictor
    from decoders.datasets.behavior import BehaviorRecording
    from decoders.datasets.sessions import MovieRecording
    from rig.config import RigConfig

_LOG = logging.getLogger(__name__)
_HELD_OUT_EVERY = 4  # one mouse in four is not trained on, but scored

train = typer.Typer(
    name="train",
    help="Train decoders on recorded sessions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@train.command()
def behavior(
    data: Data,
    out: Out,
    layout: Annotated[
        Literal["kobe", "sessions"], typer.Option(help="How the data are laid out.")
    ] = "sessions",
    seed: Seed = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data.")] = None,
    given: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of the recipe; may be repeated.")
    ] = None,
    device: Device = "cpu",
    threads: Threads = 2,
    series: Series = None,
    speed: Speed = None,
    speed_unit: SpeedUnit = None,
    as_json: Json = False,
) -> None:
    """Train the causal run/rest decoder on widefield recordings; every fourth mouse is held out and scored.

    Broken off, the same command goes on where it was (folder OUT.cache).
    """
    from decoders.behavior.predictor import FitOptions, check_model
    from decoders.behavior.train import fit
    from decoders.datasets.reading import ReadingOptions
    from decoders.datasets.recordings import open_recordings

    refuse_existing(out)
    cache = out.with_name(out.name + ".cache")
    asked = settings(given or [])
    check_model("causal", asked)
    options = FitOptions(cache, seed, epochs, device, threads, settings=asked)
    reading = ReadingOptions(series, speed, speed_unit)
    with open_recordings(data, layout, None, reading) as recordings:
        mice = sorted({recording.mouse for recording in recordings})
        if len(mice) < 2:
            raise DataError(f"{len(mice)} mouse only; valid is 2 or more: one is held out and scored")
        held_out = mice[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY] or mice[-1:]
        training = [recording.whole() for recording in recordings if recording.mouse not in held_out]
        predictor = fit(training, [], options)
        scores = {r.session: _score(predictor, r) for r in recordings if r.mouse in held_out}
        origins = [recording.origin for recording in recordings]
    command = f"rig train behavior --seed {seed}" + (f" --epochs {epochs}" if epochs else "") + _set(given)
    predictor.provenance |= provenance(command, origins) | {
        "trained_on": ", ".join(excerpt.recording.session for excerpt in training),
        "held_out": json.dumps(scores),
    }
    predictor.save(out)
    shutil.rmtree(cache, ignore_errors=True)
    report({"checkpoint": str(out), "held_out": scores, "provenance": predictor.provenance}, as_json)


def _set(given: list[str] | None) -> str:
    """Settings of a recipe as they were asked for."""
    return "".join(f" --set {setting}" for setting in given or [])


def _score(predictor: "Predictor", recording: "BehaviorRecording") -> dict[str, float | None]:
    """AUC (null without both behaviours) and accuracy at 0.5 of a recording that was not trained on."""
    from decoders.behavior.metrics import HALF, Answers, score_frames

    thresholds = np.full(len(recording), HALF), np.full(len(recording), np.inf)
    answers = Answers(
        recording.mouse,
        recording.session,
        recording.rate_hz,
        predictor.predict(recording),
        recording.running,
        *thresholds,
    )
    score = score_frames([answers])
    figures = {"auc": score.auc, "accuracy": score.accuracy}
    return {name: round(value, 4) if np.isfinite(value) else None for name, value in figures.items()}


@train.command()
def encoder(
    data: MovieData,
    layout: MovieLayout,
    out: Out,
    preset: Annotated[
        Literal["light", "published"], typer.Option(help="Our causal encoder, or DwiseNeuro as published.")
    ] = "light",
    seed: Seed = 0,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="The training is planned to end within this time.")
    ] = None,
    given: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of the recipe; may be repeated.")
    ] = None,
    device: Device = "cpu",
    threads: Threads = 2,
    processes: Annotated[
        int,
        typer.Option(min=1, help="Processes that share every batch; on cuda each takes a GPU (published)."),
    ] = 1,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(help="Encoder of the same mice to be taught by (published); may be repeated."),
    ] = None,
    labels: Labels = None,
    as_json: Json = False,
) -> None:
    """Train an encoding model, from movies and behaviour to responses, on every mouse in the data.

    A tenth of the movies (a seventh for the published preset) is held out by identity, and scored. Broken off, the
    same command goes on where it was (folder OUT.cache).
    """
    refuse_existing(out)
    from decoders.datasets.movies import open_movies
    from decoders.reconstruction.encoder_training import EncoderOptions
    from decoders.reconstruction.train import train_encoder

    cache = out.with_name(out.name + ".cache")
    teachers = tuple(teacher or ())
    options = EncoderOptions(
        cache, seed, minutes, device, threads, settings(given or []), processes, teachers
    )
    mice = open_movies(data, layout, labels)
    further = [f" --minutes {minutes:g}"] if minutes else []
    further += [f" --processes {processes}"] if processes > 1 else []
    further += [f" --teacher {path}" for path in teachers]
    command = f"rig train encoder --preset {preset} --seed {seed}{''.join(further)}{_set(given)}"
    came_from = provenance(command, [mouse.origin for mouse in mice])
    score = train_encoder(mice, preset, options, out, came_from)
    shutil.rmtree(cache, ignore_errors=True)
    report({"checkpoint": str(out), "preset": preset, **asdict(score), "provenance": came_from}, as_json)


@train.command()
def mask(
    data: MovieData,
    layout: MovieLayout,
    path: Annotated[Path, typer.Option("--encoder", help="Encoder that knows the mouse.")],
    name: Annotated[str, typer.Option("--mouse", help="Name of the mouse, as its folder or file.")],
    out: Annotated[Path, typer.Option("--out", help="Mask to write (.npy); never overwritten.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps of the published recipe: 1000.")] = 1000,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = 2,
    labels: Labels = None,
    as_json: Json = False,
) -> None:
    """Learn where on the screen a mouse's neurons look, from its training trials, as published."""
    from decoders.datasets.movies import TRAIN, open_movies

    refuse_existing(out)
    mice = {mouse.name: mouse for mouse in open_movies(data, layout, labels)}
    if name not in mice:
        raise DataError(f"{data}: no mouse {name!r}; valid: {', '.join(mice)}")
    import torch

    from decoders.reconstruction.encoder import mouse_index
    from decoders.reconstruction.mask import EVALUATION_THRESHOLD, UPDATE_THRESHOLD, save_mask, train_mask

    torch.set_num_threads(threads)
    model = load_encoder_on(device, path)
    index = mouse_index(model, name, mice[name].neurons, path)
    found = train_mask(model, index, mice[name].of_tier(TRAIN), steps=steps, seed=seed)
    save_mask(out, found)
    shares = {
        "reconstructed": float((found >= UPDATE_THRESHOLD).mean()),
        "scored": float((found >= EVALUATION_THRESHOLD).mean()),
    }
    report({"mask": str(out), "mouse": name, "share_of_pixels": shares}, as_json)


@train.command()
def preview(
    data: MovieData,
    layout: MovieLayout,
    out: Out,
    path: Annotated[
        Path | None, typer.Option("--encoder", help="Encoder of the same neurons; it makes further pairs.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--mouse", help="Which recording, or animal: all of its recordings."),
    ] = None,
    seed: Seed = 0,
    given: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of the recipe; may be repeated.")
    ] = None,
    threads: Threads = 2,
    labels: Labels = None,
    as_json: Json = False,
) -> None:
    """Train the live preview, from responses to the movie a moment ago, on one field of neurons.

    A tenth of the movies is held out by identity: it chooses lag and epoch, and is scored. Broken off, the same
    command goes on where it was (folder OUT.cache).
    """
    refuse_existing(out)
    from decoders.datasets.movies import open_movies
    from decoders.reconstruction import amortized_training as training

    cache = out.with_name(out.name + ".cache")
    options = training.PreviewOptions(cache, seed, threads, settings(given or []), path)
    mouse = training.one_field(open_movies(data, layout, labels), name)
    source = training.response_source(mouse, layout, labels)
    model, index = None, 0
    if path is not None:
        from decoders.reconstruction.encoder import load_encoder, mouse_index

        model = load_encoder(path)
        index = mouse_index(model, mouse.name, mouse.neurons, path)
    network, beside, score = training.fit_preview(mouse, model, index, options)
    came_from = provenance(f"rig train preview --seed {seed}{_set(given)}", [mouse.origin])
    came_from |= {"mouse": mouse.name, "animal": mouse.animal, "score": json.dumps(asdict(score))}
    training.make_checkpoint(network, beside, source, came_from).save(out)
    shutil.rmtree(cache, ignore_errors=True)
    report({"checkpoint": str(out), "mouse": mouse.name, **asdict(score), "provenance": came_from}, as_json)


@train.command()
def reconstruction(
    data: Data,
    out: Out,
    labels: Labels = None,
    as_json: Json = False,
) -> None:
    """Train the linear movie reconstruction on two-photon sessions of one field; every fifth clip is held out."""
    from decoders.datasets import sessions
    from decoders.datasets.movie_sessions import field_labels
    from decoders.reconstruction import linear_train as training
    from rig.recording.reader import SessionReader

    refuse_existing(out)
    rows, origins, untrained, first = [], [], None, None
    for path in sessions.session_files(data):
        _LOG.info("reading %s", path)
        with SessionReader(path) as reader:
            found = sessions.movie_recording(reader, path)
            config = reader.description.config
            field = _field(found, config)
            first = first or field
            if field != first:
                raise DataError(
                    f"{path}: {field}; the first session has {first}; valid are sessions of one field"
                )
            if untrained is None:
                image = field_labels(labels, config, found.frames.pixels.shape[1:], found.rate_hz, path)
                movie_size = (found.movies.shape[2], found.movies.shape[3])
                untrained = training.untrained_checkpoint(image, found.rate_hz, movie_size)
            frames = sessions.in_order(found.frames)
            rows.append(
                training.prepare(found.name, untrained, frames, found.movies, found.clip, found.movie_frame)
            )
            origins.append(_origin(config))
    if untrained is None:
        raise DataError("no session")
    reader_, score = training.fit(rows)
    came_from = provenance("rig train reconstruction", origins)
    came_from |= {"trained_on": ", ".join(r.name for r in rows), "score": json.dumps(asdict(score))}
    training.make_checkpoint(untrained, reader_, score, came_from).save(out)
    report({"checkpoint": str(out), **asdict(score), "provenance": came_from}, as_json)


def _field(found: "MovieRecording", config: "RigConfig") -> str:
    """What sessions of one field of neurons have alike."""
    height, width = found.frames.pixels.shape[1:]
    rows, columns = found.movies.shape[2:]
    animal = config.session.subject.subject_id.strip() or found.name
    return f"animal {animal!r}, frames of {height}x{width} px at {found.rate_hz:g} Hz, movies of {rows}x{columns} px"


def _origin(config: "RigConfig") -> str:
    return "simulated" if config.simulation is not None else "recorded"
