"""Who is trained on and who is scored: the ways of cutting recordings into folds.

A unit is what is held out: a mouse, or a block of time of one session. Nothing of a test unit is ever trained on or
used to choose with.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Literal

from decoders.datasets.behavior import BehaviorRecording, Excerpt
from rig.errors import DataError

Scheme = Literal["published", "leave-one-animal-out", "within-session"]
NEEDS_VALIDATION = frozenset({"cnn", "cnn-gru", "roi-gru", "roi-lstm", "roi-rnn"})
"""Models whose published recipe keeps the best epoch by the loss on a validation set."""
_RATE_TOLERANCE = 0.01  # of the faster: rates measured from timestamps are never quite equal


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of time of the scheme within-session: how many a session, and what is left out on either side."""

    count: int = 5
    guard_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Fold:
    """One model to fit and what it is scored on.

    `name` is unique and fit for a file name. `validation` is empty unless the scheme or the model has one; its frames
    are in no training excerpt.
    """

    name: str
    test_mouse: str
    validation_name: str | None
    training: tuple[Excerpt, ...]
    validation: tuple[Excerpt, ...]
    test: tuple[Excerpt, ...]


def same_rate(a_hz: float, b_hz: float) -> bool:
    """Whether two frame rates count as one: they differ by 1 % at most."""
    return math.isclose(a_hz, b_hz, rel_tol=_RATE_TOLERANCE)


def check_recordings(recordings: Sequence[BehaviorRecording]) -> None:
    """Raise `DataError` unless the recordings can be scored together: one rate, one size, both labels."""
    for one, other in combinations(recordings, 2):  # every pair, as a fold may begin with any of them
        if other.size_px != one.size_px or not same_rate(one.rate_hz, other.rate_hz):
            raise DataError(
                f"{other.path}: frames of {_format(other)}, but {one.path} has {_format(one)};"
                " valid is one size and one rate"
            )
    if all(recording.running.all() for recording in recordings):
        raise DataError(f"{_count(recordings)} without any rest; valid are data with both running and rest")
    if not any(recording.running.any() for recording in recordings):
        raise DataError(
            f"{_count(recordings)} without any running; valid are data with both running and rest"
        )


def folds(recordings: Sequence[BehaviorRecording], scheme: Scheme, model: str, blocks: Blocks) -> list[Fold]:
    """Cut recordings into the folds of a scheme.

    published
        All ordered pairs of a validation and a test mouse (Ajioka et al. 2024, doi 10.1371/journal.pcbi.1011074).
    leave-one-animal-out
        Every mouse in turn; all others are trained on. For models in `NEEDS_VALIDATION`, the next of them is
        taken out of training to choose the epoch with, given three mice or more.
    within-session
        Contiguous blocks of every session in turn, the rest of the same session is trained on, less a guard on
        either side; for models in `NEEDS_VALIDATION` the next block is taken out likewise, given three or more.

    Raises
    ------
    DataError
        When there are too few mice for the scheme, or sessions too short for the blocks; when two of the folds
        would have the same name.
    """
    if scheme == "within-session":
        _check_names("sessions", (recording.session for recording in recordings))
        return [fold for recording in recordings for fold in _blocks(recording, blocks, model)]
    mice = sorted({recording.mouse for recording in recordings})
    fewest = 3 if scheme == "published" else 2
    if len(mice) < fewest:
        raise DataError(
            f"scheme {scheme} with mice {', '.join(mice)} only; valid are {fewest} or more, or --scheme within-session"
        )
    _check_names("mice", mice)
    if scheme == "published":
        return [_mouse_fold(recordings, test, valid) for test, valid in permutations(mice, 2)]
    return [
        _mouse_fold(recordings, mouse, _next(mice, mouse) if _validates(model, len(mice)) else None)
        for mouse in mice
    ]


def _validates(model: str, units: int) -> bool:
    return model in NEEDS_VALIDATION and units >= 3


def _next(mice: Sequence[str], mouse: str) -> str:
    return mice[(mice.index(mouse) + 1) % len(mice)]


def _mouse_fold(recordings: Sequence[BehaviorRecording], test: str, valid: str | None) -> Fold:
    def of(*mice: str | None) -> tuple[Excerpt, ...]:
        return tuple(recording.whole() for recording in recordings if recording.mouse in mice)

    trained = {recording.mouse for recording in recordings} - {test, valid}
    name = f"{_file_name(test)}" if valid is None else f"{_file_name(test)}_valid-{_file_name(valid)}"
    return Fold(name, test, valid, of(*trained), of(valid), of(test))


def _blocks(recording: BehaviorRecording, blocks: Blocks, model: str) -> Iterator[Fold]:
    length, guard = len(recording), round(blocks.guard_s * recording.rate_hz)
    edges = [length * k // blocks.count for k in range(blocks.count + 1)]
    if blocks.count < 2 or length // blocks.count <= 2 * guard:
        raise DataError(
            f"{recording.path}: {length / recording.rate_hz:.0f} s in {blocks.count} blocks with guards of"
            f" {blocks.guard_s:g} s; valid are 2 blocks or more, each longer than two guards"
        )
    for k in range(blocks.count):
        valid = (k + 1) % blocks.count if _validates(model, blocks.count) else None
        held = sorted(block for block in (k, valid) if block is not None)
        training = _between(recording, [(edges[b], edges[b + 1]) for b in held], guard)
        validation = () if valid is None else (_valid_block(recording, edges, valid, k, guard),)
        test = (Excerpt(recording, edges[k], edges[k + 1]),)
        name = f"{_file_name(recording.session)}_block{k + 1}"
        told = None if valid is None else f"block {valid + 1}"
        yield Fold(name, recording.mouse, told, training, validation, test)


def _between(
    recording: BehaviorRecording, held: Sequence[tuple[int, int]], guard: int
) -> tuple[Excerpt, ...]:
    """Return what is left of a recording around stretches that are held out, less the guards."""
    excerpts, at = [], 0
    for start, stop in [*held, (len(recording) + guard, 0)]:
        if start - guard > at:
            excerpts.append(Excerpt(recording, at, start - guard))
        at = stop + guard
    return tuple(excerpts)


def _valid_block(
    recording: BehaviorRecording, edges: Sequence[int], valid: int, test: int, guard: int
) -> Excerpt:
    """Return the validation block, less a guard on the side where it touches the test block."""
    start, stop = edges[valid], edges[valid + 1]
    return Excerpt(recording, start + guard * (valid == test + 1), stop - guard * (valid + 1 == test))


def _check_names(what: str, names: Iterable[str]) -> None:
    """Refuse names that are the same in a file name: what is kept of one would be read as the other's."""
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(_file_name(name), name)
        if other != name:
            raise DataError(
                f"{what} {other!r} and {name!r} are both {_file_name(name)!r} in the names of files; valid are names"
                " that differ in letters, digits, '-' or '.'"
            )


def _count(recordings: Sequence[BehaviorRecording]) -> str:
    return f"{len(recordings)} recordings, {sum(map(len, recordings))} frames"


def _format(recording: BehaviorRecording) -> str:
    height, width = recording.size_px
    return f"{height}x{width} px at {recording.rate_hz:g} Hz"


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in name)
