"""One way to open movies and the responses to them, whatever layout they lie in. Light to import."""

import hashlib
from pathlib import Path
from typing import Literal

from decoders.datasets.movie_trials import TIERS, TRAIN, MovieMouse, MovieTrial, Trial
from rig.errors import DataError

__all__ = ["TIERS", "TRAIN", "MovieMouse", "MovieTrial", "Trial", "open_movies", "split_by_clip"]

MovieLayout = Literal["sensorium", "sessions"]
"""sensorium: folders as published by Turishcheva et al. 2023; sessions: our NWB files of a two-photon rig."""


def open_movies(data: Path, layout: MovieLayout, labels: Path | None = None) -> list[MovieMouse]:
    """Open every mouse in `data`, sorted by name; its trials are read when they are asked for.

    Parameters
    ----------
    data
        A folder of mice, or one mouse's folder or file.
    labels
        Layout sessions: label image of the neurons (.npy); needless for the simulated microscope.

    Raises
    ------
    DataError
        When nothing is found, or a mouse's files are missing, damaged or disagree.
    SessionFileError
        When a session file is damaged.
    """
    if layout == "sensorium":
        from decoders.datasets.sensorium import sensorium_mice

        return sensorium_mice(data)
    from decoders.datasets.movie_sessions import session_mice

    return session_mice(data, labels)


def split_by_clip(
    mouse: MovieMouse, held_out_share: float, seed: int
) -> tuple[list[MovieTrial], list[MovieTrial]]:
    """Split a mouse's training tier into trials to fit and trials held out; no movie is in both.

    Whether a movie is held out follows from its identity and `seed` alone, so that mice that saw the same movies are
    split alike; the share is met on average. Trials whose movie, or a near duplicate, is in another tier too are in
    neither list: those tiers are what is tested on.

    Parameters
    ----------
    held_out_share
        Between 0 and 1, both excluded; at least one clip is on either side.

    Raises
    ------
    DataError
        When there are fewer than two different movies, or the share is not between 0 and 1.
    """
    if not 0.0 < held_out_share < 1.0:
        raise DataError(f"held-out share {held_out_share}; valid is a number between 0 and 1")
    tested = {trial.clip for trial in mouse.trials if trial.tier != TRAIN}
    trials = [trial for trial in mouse.of_tier(TRAIN) if trial.clip not in tested]
    place = {trial.clip: _place(trial.clip, seed) for trial in trials}
    clips = sorted(place, key=lambda clip: place[clip])
    if len(clips) < 2:
        raise DataError(f"{mouse.path}: {len(clips)} different movies to train on; valid is 2 or more")
    count = sum(at < held_out_share for at in place.values())
    held_out = set(clips[: min(max(count, 1), len(clips) - 1)])
    return (
        [trial for trial in trials if trial.clip not in held_out],
        [trial for trial in trials if trial.clip in held_out],
    )


def _place(clip: str, seed: int) -> float:
    """Where a clip falls between 0 and 1."""
    digest = hashlib.sha256(f"{seed}:{clip}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
