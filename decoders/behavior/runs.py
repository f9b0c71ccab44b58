"""The fits of an evaluation, one by one: each is kept when it is done, so that an evaluation goes on where it was."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from decoders.behavior.baselines import KINDS, WINDOW_S
from decoders.behavior.predictor import FitOptions, Predictor, fit
from decoders.behavior.schemes import Blocks, Fold, Scheme
from decoders.datasets.behavior import BehaviorRecording, Excerpt
from rig.errors import DataError

SWEEP_S = (0.03, 0.07, 0.1, 0.17, 0.33, 0.5, 0.7, 1.0)
"""Windows of the sweep, after figure 2F of Ajioka et al. 2024 (its largest is +-0.17 s; ours end in the present)."""
ROI_GRU = "roi-gru"
Role = Literal["test", "validation"]


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked to be evaluated.

    `seeds`: networks fitted with as many seeds from `options.seed` on, whose probabilities are averaged. `sweep`:
    also fit the model at every window of `SWEEP_S`. `all_baselines`: the ROI-GRU beside the four that always run.
    """

    model: str
    scheme: Scheme
    options: FitOptions
    blocks: Blocks = field(default_factory=Blocks)
    seeds: int = 1
    sweep: bool = False
    all_baselines: bool = False


@dataclass(frozen=True, slots=True)
class Variant:
    """A model at a window, as it is fitted in every fold; `label` names its results."""

    label: str
    model: str
    window_s: float | None
    seeds: int = 1


@dataclass(frozen=True, slots=True)
class Part:
    """Probabilities of a stretch of a session, one row a seed: (seeds, stop - start)."""

    role: Role
    session: str
    start: int
    stop: int
    probability: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a variant said in a fold, and the seconds it took; `skipped` says why there is nothing."""

    parts: tuple[Part, ...]
    fit_s: float
    predict_s: float
    skipped: str | None = None


def variants(request: Request) -> dict[str, Variant]:
    """Everything to fit in each fold, by label, the model itself first."""
    given, own = request.options.window_s, request.seeds
    found = [Variant(request.model, request.model, given, own)]
    found += [Variant(kind, kind, WINDOW_S) for kind in KINDS]
    if given is not None and given != WINDOW_S:
        found += [Variant(at_window(kind, given), kind, given) for kind in ("logistic", "svm")]
    if request.all_baselines and request.model != ROI_GRU:
        found.append(Variant(ROI_GRU, ROI_GRU, None))
    if request.sweep:
        found += [Variant(at_window(request.model, s), request.model, s, own) for s in SWEEP_S]
    labels = dict.fromkeys(variant.label for variant in found)
    return {label: next(variant for variant in found if variant.label == label) for label in labels}


def at_window(model: str, window_s: float) -> str:
    """Label of a model at a window that is not its usual one."""
    return f"{model}@{window_s:g}s"


def checkpoint_name(fold: Fold, seed: int, seeds: int) -> str:
    """File name of a fold's checkpoint."""
    return f"{fold.name}.npz" if seeds == 1 else f"{fold.name}_seed{seed}.npz"


def run(fold: Fold, variant: Variant, request: Request, checkpoints: Path | None, known: Path) -> Fitted:
    """Fit and predict one variant in one fold, or read what an earlier run kept in the file `known`."""
    if known.exists():
        return read(known)
    fitted = _run(fold, variant, request, checkpoints if variant.label == request.model else None)
    write(fitted, known)
    return fitted


def unfit(fold: Fold) -> str | None:
    """Why nothing can be fitted in a fold; None when it can."""
    labels = [excerpt.running for excerpt in fold.training]
    if not labels or not any(label.any() for label in labels):
        return "no running in what is trained on"
    return "no rest in what is trained on" if all(label.all() for label in labels) else None


def write(fitted: Fitted, path: Path) -> None:
    """Keep a result, whole or not at all."""
    about = [{"role": p.role, "session": p.session, "start": p.start, "stop": p.stop} for p in fitted.parts]
    told = {**asdict(replace(fitted, parts=())), "parts": about}
    arrays = {f"part{k}": part.probability for k, part in enumerate(fitted.parts)}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    with partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, told=np.array(json.dumps(told)), **arrays)
    partial.replace(path)


def read(path: Path) -> Fitted:
    """Read a result that `write` kept; raises `DataError`."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            told: dict[str, Any] = json.loads(str(archive["told"]))
            rows = [Part(**about, probability=archive[f"part{k}"]) for k, about in enumerate(told["parts"])]
        return Fitted(tuple(rows), told["fit_s"], told["predict_s"], told["skipped"])
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: a fold's result that cannot be read; delete it to fit it anew") from error


def _run(fold: Fold, variant: Variant, request: Request, checkpoints: Path | None) -> Fitted:
    reason = unfit(fold)
    if reason is not None:
        return Fitted((), 0.0, 0.0, reason)
    answers: list[dict[str, NDArray[np.float32]]] = []
    fit_s = predict_s = 0.0
    for seed in range(request.options.seed, request.options.seed + variant.seeds):
        started = time.monotonic()
        with _threads(variant.model):
            predictor = fit(variant.model, fold.training, fold.validation, _options(request, variant, seed))
            fitted = time.monotonic()
            answers.append(_answers(predictor, fold))
        fit_s, predict_s = fit_s + fitted - started, predict_s + time.monotonic() - fitted
        if checkpoints is not None:
            _save(predictor, checkpoints / checkpoint_name(fold, seed, variant.seeds))
    return Fitted(tuple(_parts(fold, answers)), fit_s, predict_s)


def _threads(model: str) -> AbstractContextManager[object]:
    """One thread for what is small: threads that wait for each other cost more than they bring."""
    return threadpool_limits(1) if model in KINDS else nullcontext()


def _options(request: Request, variant: Variant, seed: int) -> FitOptions:
    """Options of one fit; what is set for the model is not meant for the baselines beside it."""
    options = replace(request.options, seed=seed, window_s=variant.window_s)
    return options if variant.model == request.model else replace(options, epochs=None, settings=None)


def _save(predictor: Predictor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # of a fold that was broken off before its result was kept
    predictor.save(path)


def _answers(predictor: Predictor, fold: Fold) -> dict[str, NDArray[np.float32]]:
    """Probabilities of every recording that is scored or chosen with, by session, each decoded once."""
    recordings: Mapping[str, BehaviorRecording] = {
        excerpt.recording.session: excerpt.recording for excerpt in (*fold.test, *fold.validation)
    }
    return {session: predictor.predict(recording) for session, recording in recordings.items()}


def _parts(fold: Fold, answers: Sequence[Mapping[str, NDArray[np.float32]]]) -> Iterator[Part]:
    excerpts: tuple[tuple[Role, tuple[Excerpt, ...]], ...] = (
        ("test", fold.test),
        ("validation", fold.validation),
    )
    for role, stretches in excerpts:
        for excerpt in stretches:
            session = excerpt.recording.session
            rows = np.stack([found[session][excerpt.frames] for found in answers])
            yield Part(role, session, excerpt.start, excerpt.stop, rows)
