"""One way to open recordings of cortex and running, whatever layout they lie in. Light to import."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

from decoders.datasets.behavior import BehaviorRecording, LabelRule
from decoders.datasets.reading import ReadingOptions
from rig.errors import DataError

Opener = Callable[[ExitStack], BehaviorRecording]
Layout = Literal["kobe", "sessions"]
"""kobe: the published data set of Ajioka et al. 2024; sessions: NWB files, ours or others'."""


@contextmanager
def open_recordings(
    data: Sequence[Path],
    layout: Layout,
    rule: LabelRule | None = None,
    options: ReadingOptions | None = None,
) -> Iterator[list[BehaviorRecording]]:
    """Open every recording in `data`, sorted by mouse, then session; their files close at the end of the `with`.

    Parameters
    ----------
    data
        Files (layout sessions) or folders.
    rule
        How to label; None takes what the data bring: `runrest` of the published layout, the section `running` of our
        sessions, and for other NWB files, which bring none, the default `LabelRule`.
    options
        What files do not say about themselves.

    Raises
    ------
    DataError
        When nothing is found, a recording is unusable, two have the same name, or no file has a use for an option.
    SessionFileError
        When a session file is damaged.
    """
    openers = _LAYOUTS[layout](data, rule, options or ReadingOptions())
    with ExitStack() as stack:
        found = _open_all(openers, stack)
        refuse_same_names([(recording.session, recording.path) for recording in found])
        yield sorted(found, key=lambda recording: (recording.mouse, recording.session))


def _sessions(data: Sequence[Path], rule: LabelRule | None, options: ReadingOptions) -> list[Opener]:
    from decoders.datasets.sessions import is_ours, session_files

    files = session_files(data)
    if all(is_ours(path) for path in files):
        _refuse_unused(options, ("series", "speed", "speed_unit"), "sessions of cortexrig alone")
    return [partial(_session, path, rule, options) for path in files]


def _session(
    path: Path, rule: LabelRule | None, options: ReadingOptions, stack: ExitStack
) -> BehaviorRecording:
    from decoders.datasets import nwb, sessions
    from rig.recording.reader import SessionReader

    if sessions.is_ours(path):
        return sessions.behavior_recording(stack.enter_context(SessionReader(path)), path, rule)
    return nwb.behavior_recording(stack.enter_context(nwb.opened(path)), path, rule, options)


def _kobe(data: Sequence[Path], rule: LabelRule | None, options: ReadingOptions) -> list[Opener]:
    from decoders.datasets.kobe import behavior_recording, kobe_sessions

    _refuse_unused(options, ("series", "speed"), "the published layout")
    sessions = [session for folder in data for session in kobe_sessions(folder)]
    return [partial(behavior_recording, session, rule, options) for session in sessions]


_LAYOUTS = {"sessions": _sessions, "kobe": _kobe}


def _refuse_unused(options: ReadingOptions, names: Sequence[str], there: str) -> None:
    for name in names:
        if (given := getattr(options, name)) is not None:
            raise DataError(
                f"{name} {given!r} is of no use: the data are {there}; valid with other programs' NWB files"
            )


def _open_all(openers: Sequence[Opener], stack: ExitStack) -> list[BehaviorRecording]:
    """Open one after the other, with progress on standard error: a stack of 18,000 pages takes a second to check."""
    from rig import terminal

    recordings = []
    with terminal.bar("opening recordings", len(openers), transient=True) as advance:
        for opened in openers:
            recordings.append(opened(stack))
            advance(1)
    return recordings


def refuse_same_names(named: Sequence[tuple[str, Path]]) -> None:
    """Raise `DataError` when two sessions have one name: results are kept, and mice are known, by names."""
    counts = Counter(name for name, _ in named)
    for name, _ in named:
        if counts[name] > 1:
            paths = [str(path) for other, path in named if other == name]
            raise DataError(f"{', '.join(paths)}: the same session name {name!r}; valid is one file each")
