"""What the commands about movies share: options, opening encoders and data, the folder of finished movies."""

import hashlib
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from decoders.commands.options import provenance
from rig.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from decoders.reconstruction.encoder import Encoder
    from decoders.reconstruction.reconstructor import Reconstructor
    from decoders.reconstruction.scored_clips import ScoredMouse

Encoders = Annotated[
    list[Path] | None,
    typer.Option("--encoder", help="Encoder; further ones of an ensemble follow, or repeat it."),
]
MoreEncoders = Annotated[
    list[Path] | None, typer.Argument(metavar="[FILE]...", help="Further encoders.", show_default=False)
]
MovieData = Annotated[Path, typer.Option("--data", help="Folder of mice, or one mouse's folder or file.")]
MovieLayout = Annotated[Literal["sensorium", "sessions"], typer.Option(help="How the data are laid out.")]
Labels = Annotated[
    Path | None, typer.Option(help="Layout sessions: label image of the neurons (.npy), if not simulated.")
]
RecipeName = Annotated[str, typer.Option("--recipe", help="fast or published.")]
PreviewPath = Annotated[
    Path | None,
    typer.Option(
        "--preview", help="Begin at what this preview of the same neurons reads (`rig train preview`)."
    ),
]
Motion = Annotated[
    bool,
    typer.Option(
        "--motion/--no-motion",
        help="Average along the camera's motion over the scene (fast recipe); not for noise or gratings.",
    ),
]
Iterations = Annotated[int | None, typer.Option(min=1, help="As many as the recipe has without it.")]
MaskPath = Annotated[
    Path | None, typer.Option("--mask", help="Transparency mask (.npy), or folder with MOUSE.npy each.")
]
DEFAULT_RECIPE = "fast"
Smoothing = Annotated[
    float, typer.Option(min=0, max=100, help="Final Gaussian blur, frames and pixels (published: 0.5).")
]
Clips = Annotated[int | None, typer.Option(min=1, help="At most so many movies of each mouse.")]


@dataclass(frozen=True, slots=True)
class Opened:
    """Encoders with their files, and the mice that they know with their masks; `labels` is a digest of the file."""

    paths: tuple[Path, ...]
    encoders: "tuple[Encoder, ...]"
    mice: "tuple[ScoredMouse, ...]"
    recipe: str
    preview: Path | None
    motion: bool
    labels: str | None

    def described(self, data: Path, iterations: int | None) -> dict[str, Any]:
        """What a reconstructed movie depends on, as JSON."""
        return {
            "encoders": [_digest(path) for path in self.paths],
            "recipe": self.recipe,
            "preview": None if self.preview is None else _digest(self.preview),
            "motion": self.motion,
            "iterations": iterations,
            "data": str(data.resolve()),
            "mice": {one.mouse.name: one.mouse.neurons for one in self.mice},
            "labels": self.labels,
            "masks": {
                one.mouse.name: None if one.mask is None else hashlib.sha256(one.mask.tobytes()).hexdigest()
                for one in self.mice
            },
        }

    def told(self) -> dict[str, Any]:
        """What every report of reconstructed movies says of how they were made, and where they came from."""
        origins = [one.mouse.origin for one in self.mice]
        return {
            "recipe": self.recipe,
            "models": [str(path) for path in self.paths],
            "preview": None if self.preview is None else str(self.preview),
            "motion": self.motion,
            "provenance": provenance("rig " + shlex.join(sys.argv[1:]), origins),
        }

    def reconstructor(self, iterations: int | None, folder: Path) -> "Reconstructor":
        """What reconstructs these mice's movies, and keeps them in a folder."""
        from decoders.reconstruction.reconstructor import Reconstructor

        return Reconstructor(self.encoders, self.recipe, iterations, folder, self.preview, self.motion)


def encoder_paths(given: Sequence[Path] | None, more: Sequence[Path] | None) -> tuple[Path, ...]:
    """Every encoder that is given, in order.

    Raises
    ------
    ConfigError
        Without one, or with one given twice.
    """
    paths = (*(given or ()), *(more or ()))
    if not paths:
        raise ConfigError("--encoder is missing; make one with `rig train encoder`")
    twice = {path for path in paths if paths.count(path) > 1}
    if twice:
        raise ConfigError(f"--encoder {min(twice)}: given twice; an ensemble is of different encoders")
    return paths


def opened(
    paths: tuple[Path, ...],
    data: Path,
    layout: Literal["sensorium", "sessions"],
    *,
    labels: Path | None,
    recipe: str,
    preview: Path | None,
    motion: bool,
    mask: Path | None,
    device: str,
    threads: int,
) -> Opened:
    """Open everything that a reconstruction needs.

    Raises
    ------
    ConfigError
        For a device that is not there.
    CheckpointError
        When a file is no encoder or no preview, or it and the data disagree in mice or neurons.
    DataError
        For an unknown recipe, one that cannot begin at a preview, or data or a mask that cannot be used.
    """
    import torch

    from decoders.datasets.movies import open_movies
    from decoders.reconstruction.inversion import check_recipe
    from decoders.reconstruction.scored_clips import scored_mice

    check_recipe(recipe, preview)
    torch.set_num_threads(threads)
    encoders = tuple(load_encoder_on(device, path) for path in paths)
    mice = open_movies(data, layout, labels)
    scored = tuple(scored_mice(mice, encoders, paths, mask))
    if preview is not None:
        _check_preview(preview, scored)
    digest = None if labels is None else _digest(labels)
    return Opened(paths, encoders, scored, recipe, preview, motion and recipe == "fast", digest)


@contextmanager
def results(out: Path | None, described: dict[str, Any], what: str) -> Iterator[Path]:
    """Folder of finished movies, claimed by this command; a temporary one without --out."""
    from decoders.result_folder import claim

    if out is not None:
        claim(out, described, what)
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="rig-movies-") as temporary:
        yield Path(temporary)


def load_encoder_on(device: str, path: Path) -> "Encoder":
    """Load an encoder onto a device.

    Raises
    ------
    CheckpointError
        When the file is no encoder, or one of a kind that cannot be moved there.
    """
    from decoders.reconstruction.encoder import load_encoder

    encoder = load_encoder(path)
    if device == "cpu":
        return encoder
    move = getattr(encoder, "to", None)
    if move is None:
        raise CheckpointError(f"{path}: an encoder of kind {encoder.kind!r} cannot be moved to {device!r}")
    moved: Encoder = move(device)
    return moved


def _check_preview(path: Path, mice: "Sequence[ScoredMouse]") -> None:
    from decoders.reconstruction.movie_prior import load_preview

    preview = load_preview(path)
    neurons, animal = preview.settings["neurons"], preview.provenance.get("animal", "")
    if [one.mouse.neurons for one in mice] != [neurons]:
        names = ", ".join(f"{one.mouse.name} ({one.mouse.neurons} neurons)" for one in mice)
        raise CheckpointError(f"{path}: a preview of one mouse with {neurons} neurons; the data have {names}")
    if animal and mice[0].mouse.animal not in ("", animal):
        raise CheckpointError(f"{path}: a preview of {animal!r}; the data are of {mice[0].mouse.animal!r}")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
