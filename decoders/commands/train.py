"""`rig train`: session files to checkpoints. Light to import: what trains is imported when it is asked for."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from decoders.commands.options import Data, Json, Out, provenance, refuse_existing, report
from rig.errors import DataError

if TYPE_CHECKING:
    from rig.config import RigConfig

_LOG = logging.getLogger(__name__)
_HELD_OUT_EVERY = 4  # one session in four is not trained on, but scored

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
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and of the order of the data.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the data.")] = 8,
    as_json: Json = False,
) -> None:
    """Train the causal run/rest decoder on widefield sessions; every fourth is held out and scored.

    Broken off, the same command goes on where it was (OUT.resume).
    """
    from decoders.behavior import train as training
    from decoders.datasets import sessions
    from decoders.training import TrainingConfig
    from rig.recording.reader import SessionReader

    refuse_existing(out)
    recordings, origins = [], []
    for path in sessions.session_files(data):
        _LOG.info("reading %s", path)
        with SessionReader(path) as reader:
            found = sessions.running_recording(reader, path)
            frames = sessions.in_order(found.frames)
            recordings.append(training.prepare(found.name, frames, found.running, found.rate_hz))
            origins.append(_origin(reader.description.config))
    if len(recordings) < 2:
        raise DataError("one session only; valid is 2 or more: one is held out and scored")
    held_out = recordings[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY] or recordings[-1:]
    trained_on = [recording for recording in recordings if all(recording is not other for other in held_out)]
    config = TrainingConfig(epochs=epochs, seed=seed)
    network, losses = training.fit(trained_on, config, out.with_name(out.name + ".resume"))
    scores = {name: asdict(score) for name, score in training.evaluate(network, trained_on, held_out).items()}
    came_from = provenance(f"rig train behavior --seed {seed} --epochs {epochs}", origins)
    came_from |= {
        "trained_on": ", ".join(recording.name for recording in trained_on),
        "held_out": json.dumps({name: round(score["auc"], 4) for name, score in scores.items()}),
    }
    training.make_checkpoint(network, trained_on[0], came_from).save(out)
    report({"checkpoint": str(out), "losses": losses, "held_out": scores, "provenance": came_from}, as_json)


@train.command()
def reconstruction(
    data: Data,
    out: Out,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="ROI label image (.npy); needless for the simulated microscope, which knows its own."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train the linear movie reconstruction on two-photon sessions of one field; every fifth clip is held out."""
    from decoders.datasets import sessions
    from decoders.reconstruction import train as training
    from rig.recording.reader import SessionReader

    refuse_existing(out)
    rows, origins, untrained = [], [], None
    for path in sessions.session_files(data):
        _LOG.info("reading %s", path)
        with SessionReader(path) as reader:
            found = sessions.movie_recording(reader, path)
            config = reader.description.config
            if untrained is None:
                image = _label_image(labels, config, found.frames.pixels.shape[1:], found.rate_hz, path)
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


def _label_image(
    given: Path | None, config: "RigConfig", size: tuple[int, ...], rate_hz: float, path: Path
) -> NDArray[np.integer]:
    """Label image from a file, or from the simulated field that was recorded."""
    from decoders.traces.rois import read_label_image

    if given is not None:
        return read_label_image(given)
    if config.simulation is None or config.stimulus is None:
        raise DataError(f"{path}: not of the simulated microscope, so --labels FILE.npy has to give the ROIs")
    from rig.simulation.mouse import Mouse
    from rig.simulation.visual_cortex import VisualCortex
    from rig.stimulus import load_movies

    simulation = config.simulation
    mouse = Mouse(simulation.seed, simulation.run_fraction)
    movies = load_movies(config.stimulus.movie)
    height, width = size
    return VisualCortex(
        movies, mouse, simulation.seed, simulation.neurons, height, width, rate_hz
    ).label_image


def _origin(config: "RigConfig") -> str:
    return "simulated" if config.simulation is not None else "recorded"
