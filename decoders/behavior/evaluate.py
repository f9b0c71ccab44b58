"""Evaluation of run/rest models: folds fitted, their answers put together, thresholds chosen on other animals.

Owns which answers belong together and where a test's thresholds come from; figures are `decoders.behavior.scoring`'s.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.behavior.baselines import KINDS
from decoders.behavior.metrics import Answers, best_threshold, pooled
from decoders.behavior.onsets import OnsetRule, lowest_threshold, trade_off
from decoders.behavior.runs import ROI_GRU, Fitted, Part, Request, Role, Variant, run, variants
from decoders.behavior.schemes import Fold, check_recordings, folds
from decoders.datasets.behavior import BehaviorRecording


@dataclass(frozen=True, slots=True)
class Run:
    """One model's answers on one mouse: of one fold, or of all blocks of the mouse together.

    `seeds` are the answers of single seeds, where there are several; `answers` their mean.
    """

    name: str
    mouse: str
    answers: tuple[Answers, ...]
    seeds: tuple[tuple[Answers, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All runs of every variant by label, in the same order for each, and how long the fits took."""

    request: Request
    recordings: tuple[BehaviorRecording, ...]
    folds: tuple[Fold, ...]
    variants: Mapping[str, Variant]
    runs: Mapping[str, tuple[Run, ...]]
    fitted: Mapping[str, tuple[Fitted, ...]]


def evaluate(
    recordings: Sequence[BehaviorRecording],
    request: Request,
    results: Path,
    checkpoints: Path | None = None,
    before: Callable[[str, str], None] = lambda fold, label: None,
    rule: OnsetRule | None = None,
) -> Evaluation:
    """Fit every variant in every fold and put the answers together.

    Parameters
    ----------
    results
        Folder of the folds' results; those that it has are not fitted again.
    checkpoints
        Folder for the model's checkpoints, one a fold and seed; None keeps none.
    before
        Called before each fit with the fold's name and the variant's label.

    Raises
    ------
    DataError
        When the recordings do not fit together or do not suffice for the scheme.
    """
    check_recordings(recordings)
    cut = folds(recordings, request.scheme, request.model, request.blocks)
    wanted = variants(request)
    fitted: dict[str, list[Fitted]] = {label: [] for label in wanted}
    for fold in cut:
        for label, variant in wanted.items():
            before(fold.name, label)
            kept = results / f"{fold.name}__{label}.npz"
            fitted[label].append(run(fold, variant, request, checkpoints, kept))
    together = _same_frames(fitted, request)
    by_session = {recording.session: recording for recording in recordings}
    put = _blocks_together if request.scheme == "within-session" else _one_each
    runs = {label: put(cut, together[label], by_session, rule or OnsetRule()) for label in wanted}
    kept_all = {label: tuple(found) for label, found in fitted.items()}
    return Evaluation(request, tuple(recordings), tuple(cut), wanted, runs, kept_all)


def _same_frames(fitted: Mapping[str, Sequence[Fitted]], request: Request) -> dict[str, list[Fitted]]:
    """Take away answers on frames where the model or one of its baselines has none: all are scored on the same."""
    compared = [label for label in fitted if label in (request.model, ROI_GRU, *KINDS)]
    same: dict[str, list[Fitted]] = {label: list(found) for label, found in fitted.items()}
    for fold in range(len(fitted[request.model])):
        parts = zip(*(fitted[label][fold].parts for label in compared), strict=True)
        known = [np.all([np.isfinite(p.probability).all(axis=0) for p in group], axis=0) for group in parts]
        for label in compared:
            found = fitted[label][fold]
            cut = [
                replace(part, probability=np.where(mask, part.probability, np.float32(np.nan)))
                for part, mask in zip(found.parts, known, strict=True)
            ]
            same[label][fold] = replace(found, parts=tuple(cut))
    return same


def _one_each(
    cut: Sequence[Fold],
    fitted: Sequence[Fitted],
    recordings: Mapping[str, BehaviorRecording],
    rule: OnsetRule,
) -> tuple[Run, ...]:
    """One run a fold. Thresholds come from its validation mouse, or else from the other folds' test mice."""
    tests = [_answers(found.parts, "test", recordings) for found in fitted]
    runs = []
    for k, (fold, found) in enumerate(zip(cut, fitted, strict=True)):
        reference = _answers(found.parts, "validation", recordings)
        if fold.validation_name is None or not reference:
            reference = tuple(a for j, test in enumerate(tests) if j != k for a in test)
        choose = partial(_with, chosen=_thresholds(reference, rule))
        runs.append(_run(fold.name, fold.test_mouse, found.parts, recordings, choose))
    return tuple(runs)


def _blocks_together(
    cut: Sequence[Fold],
    fitted: Sequence[Fitted],
    recordings: Mapping[str, BehaviorRecording],
    rule: OnsetRule,
) -> tuple[Run, ...]:
    """One run a mouse, its blocks laid end to end. A block's thresholds come from the session's other blocks."""

    def block_by_block(answers: Answers) -> Answers:
        block = np.zeros(len(answers.running), np.int64)
        for number, fold in enumerate(cut):
            for excerpt in fold.test:
                if excerpt.recording.session == answers.session:
                    chosen = _thresholds((_without(answers, excerpt.frames),), rule)
                    answers = _with(answers, chosen, excerpt.frames)
                    block[excerpt.frames] = number
        return replace(answers, block=block)

    mice = dict.fromkeys(fold.test_mouse for fold in cut)
    runs = []
    for mouse in mice:
        parts = tuple(
            p
            for fold, found in zip(cut, fitted, strict=True)
            if fold.test_mouse == mouse
            for p in found.parts
        )
        runs.append(_run(mouse, mouse, parts, recordings, block_by_block))
    return tuple(runs)


def _run(
    name: str,
    mouse: str,
    parts: Sequence[Part],
    recordings: Mapping[str, BehaviorRecording],
    choose: Callable[[Answers], Answers],
) -> Run:
    answers = tuple(choose(a) for a in _answers(parts, "test", recordings))
    seeds = len(parts[0].probability) if parts else 0
    single = [
        tuple(choose(a) for a in _answers(parts, "test", recordings, k)) for k in range(seeds) if seeds > 1
    ]
    return Run(name, mouse, answers, tuple(single))


def _answers(
    parts: Sequence[Part],
    role: Role,
    recordings: Mapping[str, BehaviorRecording],
    seed: int | None = None,
) -> tuple[Answers, ...]:
    """Answers of every session in some parts, the mean over seeds or those of one; thresholds still 0.5."""
    found: dict[str, NDArray[np.float32]] = {}
    for part in parts:
        if part.role == role:
            whole = found.setdefault(part.session, np.full(len(recordings[part.session]), np.nan, np.float32))
            rows = part.probability
            whole[part.start : part.stop] = rows.mean(axis=0) if seed is None else rows[seed]
    return tuple(_untold(recordings[session], probability) for session, probability in found.items())


def _untold(recording: BehaviorRecording, probability: NDArray[np.float32]) -> Answers:
    half = np.full(len(recording), 0.5)
    mouse, session, rate_hz = recording.mouse, recording.session, recording.rate_hz
    return Answers(mouse, session, rate_hz, probability, recording.running, half, half)


def _thresholds(reference: Sequence[Answers], rule: OnsetRule) -> tuple[float, float]:
    """Best threshold for accuracy, and the lowest with one false alarm per minute, on answers of other data."""
    if not any(a.known.any() for a in reference):
        return 0.5, 0.5
    probability, running, _ = pooled(reference)
    lowest = lowest_threshold(trade_off(reference, rule))
    return best_threshold(probability, running), np.inf if lowest is None else lowest


def _with(answers: Answers, chosen: tuple[float, float], frames: slice | None = None) -> Answers:
    """Return answers with thresholds set at some frames, or all."""
    at = frames or slice(None)
    threshold, alarm = answers.threshold.copy(), answers.alarm_threshold.copy()
    threshold[at], alarm[at] = chosen
    return replace(answers, threshold=threshold, alarm_threshold=alarm)


def _without(answers: Answers, frames: slice) -> Answers:
    probability = answers.probability.copy()
    probability[frames] = np.nan
    return replace(answers, probability=probability)
