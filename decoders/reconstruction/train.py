"""Training of encoders by preset: the light one, or DwiseNeuro as published."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from decoders.datasets.movies import MovieMouse
from decoders.reconstruction.encoder_training import EncoderOptions, EncoderReport
from decoders.reconstruction.light_training import fit_light
from decoders.reconstruction.published_training import train_published
from rig.errors import ConfigError

Preset = Literal["light", "published"]


def train_encoder(
    mice: Sequence[MovieMouse],
    preset: Preset,
    options: EncoderOptions,
    out: Path,
    provenance: Mapping[str, str],
) -> EncoderReport:
    """Train an encoder and write it, readable by `decoders.reconstruction.load_encoder`.

    Raises
    ------
    ConfigError
        For a setting or an option that the preset does not have, or more GPUs than there are.
    DataError
        When the data are too few or too short, or the loss stops being finite.
    CheckpointError
        When the file exists, a teacher cannot teach, or a training that was broken off cannot be resumed.
    """
    if preset == "published":
        return train_published(mice, options, out, provenance)
    if options.processes > 1 or options.teachers:
        raise ConfigError("--processes and --teacher: valid with --preset published alone")
    encoder, score = fit_light(mice, options)
    encoder.checkpoint(provenance).save(out)
    return score
