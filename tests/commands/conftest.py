"""Movies, responses and trained encoders that the tests of several commands share."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import pytest
import torch

from decoders.datasets.movies import MovieLayout, open_movies
from decoders.reconstruction.encoder_training import EncoderOptions
from decoders.reconstruction.train import train_encoder
from rig.simulation.movie_responses import MovieSession, simulate_movie_responses
from rig.simulation.sessions import simulate_session
from tests.unit.movie_session import SECONDS, small_rig

_QUICK = {"stride_px": 6, "features": 4, "hidden": 2, "epochs": 1, "frames": 40}


@dataclass(frozen=True)
class SmallMovies:
    """A folder or file of mice, and encoders that were trained on them for a second each."""

    data: Path
    layout: MovieLayout
    encoders: tuple[Path, ...]

    @property
    def options(self) -> tuple[object, ...]:
        """What a command has to be told to use all of this, in one thread."""
        return ("--encoder", *self.encoders, "--data", self.data, "--layout", self.layout, "--threads", 1)

    def with_one_encoder(self, data: Path) -> Self:
        """The first encoder alone, and some of the data or a copy of them."""
        return replace(self, data=data, encoders=self.encoders[:1])


@pytest.fixture(scope="session")
def small_mice(tmp_path_factory: pytest.TempPathFactory) -> SmallMovies:
    """Two simulated mice of 24 neurons in the layout of Sensorium, and two encoders."""
    folder = tmp_path_factory.mktemp("small-mice")
    for seed in (3, 4):
        session = MovieSession(seed, neurons=24, clips=4, oracle_clips=2, repeats=2, clip_frames=70)
        simulate_movie_responses(folder / "data" / session.name, session, lambda count: None)
    return _trained(folder / "data", "sensorium", folder, seeds=(0, 1))


@pytest.fixture(scope="session")
def small_session(tmp_path_factory: pytest.TempPathFactory) -> SmallMovies:
    """One simulated two-photon session, and one encoder."""
    folder = tmp_path_factory.mktemp("small-session")
    simulate_session(folder / "tuesday.nwb", small_rig(), SECONDS, lambda count: None)
    return _trained(folder / "tuesday.nwb", "sessions", folder, seeds=(0,))


def _trained(data: Path, layout: MovieLayout, folder: Path, seeds: tuple[int, ...]) -> SmallMovies:
    mice = open_movies(data, layout)
    before = torch.get_num_threads()
    paths = []
    for seed in seeds:
        paths.append(folder / f"encoder-{seed}.npz")
        options = EncoderOptions(folder / "cache", seed=seed, threads=1, settings=_QUICK)
        train_encoder(mice, "light", options, paths[-1], {"data": "simulated"})
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)
    return SmallMovies(data, layout, tuple(paths))
