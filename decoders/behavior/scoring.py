"""An evaluation as plain JSON: figures of every mouse, their mean, baselines, intervals, null, tests.

A figure without a value is null, with the reason under its name in `reasons` beside it. A mouse's figure is the mean
over its runs (folds), the mean that over mice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from decoders.behavior.baselines import KINDS
from decoders.behavior.chance import block_samples, compare, delay_interval, shifted_null
from decoders.behavior.evaluate import Evaluation, Run
from decoders.behavior.metrics import HALF, Answers, calibration, pooled, score_frames
from decoders.behavior.onsets import (
    MOST_PER_MIN,
    OnsetRule,
    OnsetScore,
    at_threshold,
    lowest_threshold,
    together,
    trade_off,
)
from decoders.behavior.resampling import interval, interval_over_mice, mean_samples
from decoders.behavior.runs import SWEEP_S, at_window

Json = dict[str, Any]
_FIGURES = (
    "auc",
    "accuracy",
    "accuracy_calibrated",
    "brier",
    "calibration_error",
    "youden_threshold",
    "accuracy_own_majority",
    "run_fraction",
)
_DIGITS = 6
_CURVE_POINTS = 60


def summary(evaluation: Evaluation, rule: OnsetRule) -> Json:
    """All figures of an evaluation."""
    runs, model = evaluation.runs, evaluation.request.model
    mice = {mouse: _mouse(own, rule) for mouse, own in _by_mouse(runs[model]).items()}
    baselines: dict[str, Json] = {kind: _brief(runs[kind], rule) for kind in KINDS}
    other = {label: _brief(runs[label], rule) for label in _others(evaluation)}
    best = max((figures["auc"] or 0.0 for figures in baselines.values()), default=0.0)
    mean = _mean(mice, runs[model], rule)
    return {
        "mice": mice,
        "mean": mean,
        "baselines": baselines,
        "other_models": other,
        "margin_auc": _plain(mean["auc"] - best) if mean["auc"] is not None else None,
        "tests": _tests(evaluation, {**baselines, **other}),
        "seeds": _seeds(runs[model], evaluation.request.options.seed),
        "sweep": _sweep(evaluation),
        "skipped": _skipped(evaluation),
        "timing": _timing(evaluation),
    }


def _mouse(runs: Sequence[Run], rule: OnsetRule) -> Json:
    """Figures, intervals, sessions, delays, calibration and null of one mouse."""
    figures = _figures(runs)
    sessions = list(dict.fromkeys(a.session for run in runs for a in run.answers))
    return {
        **figures,
        "intervals": _intervals(runs),
        "runs": [{"run": run.name, **_figures([run])} for run in runs] if len(runs) > 1 else [],
        "sessions": {session: _session(runs, session, rule) for session in sessions},
        "onsets": _onsets(runs, rule),
        "calibration": _calibration(runs),
        "null": _null(runs),
    }


def _brief(runs: Sequence[Run], rule: OnsetRule) -> Json:
    """Mean figures of a model that runs beside, and those of every mouse."""
    mice = {
        mouse: {**_figures(own), "onsets": _onsets(own, rule, curve=False)}
        for mouse, own in _by_mouse(runs).items()
    }
    return {**_means(mice, runs, rule), "mice": mice}


def _figures(runs: Sequence[Run]) -> Json:
    """Figures over frames, means over runs; frames are those of one run."""
    scores = [score_frames(run.answers) for run in runs]
    found: Json = {name: _over([getattr(score, name) for score in scores]) for name in _FIGURES}
    found["frames"] = scores[0].frames
    thresholds = [float(np.mean(pooled(run.answers)[2])) for run in runs if scores[0].frames]
    found["threshold"] = _over(thresholds)
    if len(runs) > 1:
        found["auc_sd"] = _plain(float(np.std([score.auc for score in scores])))
    reason = _without_value(scores[0].frames, scores[0].run_fraction)
    found["reasons"] = {name: reason or "not finite" for name in _FIGURES if found[name] is None}
    return found


def _without_value(frames: int, run_fraction: float) -> str | None:
    if not frames:
        return "no frame with an answer"
    if run_fraction in (0.0, 1.0):
        return "no running in the scored frames" if run_fraction == 0 else "no rest in the scored frames"
    return None


def _session(runs: Sequence[Run], session: str, rule: OnsetRule) -> Json:
    own = [_only(run, session) for run in runs]
    return {**_figures(own), "onsets": _onsets(own, rule, curve=False), "blocks": _blocks(own[0])}


def _blocks(run: Run) -> list[Json]:
    """Figures of every held-out block of one session; those without running or rest say so."""
    found = []
    for a in run.answers:
        for number in np.unique(a.block[a.known]) if a.block is not None else ():
            inside = replace(a, probability=np.where(a.block == number, a.probability, np.float32(np.nan)))
            score, at = score_frames([inside]), np.flatnonzero(inside.known)
            figures = {name: _plain(getattr(score, name)) for name in ("auc", "accuracy", "run_fraction")}
            reason = _without_value(score.frames, score.run_fraction)
            span = {"start_s": round(at[0] / a.rate_hz, 3), "stop_s": round((at[-1] + 1) / a.rate_hz, 3)}
            found.append({**span, **figures, "reason": reason})
    return found


def _only(run: Run, session: str) -> Run:
    return Run(run.name, run.mouse, tuple(a for a in run.answers if a.session == session))


def _intervals(runs: Sequence[Run]) -> Json:
    """95 % block bootstrap intervals, [low, high] by figure; runs of one mouse share their resampled blocks."""
    samples = [block_samples(run.answers) for run in runs]
    if not all(samples):
        return {"reason": "less than two blocks of 10 s"}
    found: Json = {"block_s": 10.0}
    for name in samples[0]:
        told = interval(np.mean([one[name] for one in samples], axis=0))
        found[name] = [_plain(told.low), _plain(told.high)]
    return found


def _onsets(runs: Sequence[Run], rule: OnsetRule, curve: bool = True) -> Json:
    """Delays and false alarms at the threshold chosen on other animals, at 0.5, and over all thresholds."""
    answers = [a for run in runs for a in run.answers]
    chosen = together(at_threshold(run.answers, None, rule) for run in runs)
    thresholds = np.concatenate([np.zeros(0), *(a.alarm_threshold for a in answers)])
    finite = thresholds[np.isfinite(thresholds)]
    found = {
        "limit_per_min": MOST_PER_MIN,
        **_delay(chosen),
        "threshold": _plain(float(finite.mean())) if len(finite) else None,
        "interval_ms": [_plain(end) for end in delay_interval(chosen)],
        "at_half": _delay(together(at_threshold(run.answers, HALF, rule) for run in runs)),
    }
    if not len(finite):
        found["reasons"]["threshold"] = (
            "no threshold keeps the false alarms within the limit on other animals"
        )
    found["at_own_threshold"] = _delay(together(_at_own(run, rule) for run in runs))
    return {**found, "trade_off": _curve(runs[0].answers, rule)} if curve else found


def _at_own(run: Run, rule: OnsetRule) -> OnsetScore:
    """Score a run at the lowest threshold that keeps to the limit on the test animal itself."""
    lowest = lowest_threshold(trade_off(run.answers, rule))
    return at_threshold(run.answers, np.inf if lowest is None else lowest, rule)


def _delay(score: OnsetScore) -> Json:
    reasons = {}
    if not len(score.delays_ms):
        reasons["median_ms"] = "no onset after a second of rest"
    elif not np.isfinite(score.median_ms):
        reasons["median_ms"] = "half of the onsets or more were missed"
    if not score.rest_min:
        reasons["false_alarms_per_min"] = "no rest away from running"
    return {
        "median_ms": _plain(score.median_ms),
        "false_alarms_per_min": _plain(score.false_alarms_per_min),
        "onsets": len(score.delays_ms),
        "missed": score.missed,
        "already_on": score.already_on,
        "rest_min": _plain(score.rest_min),
        "reasons": reasons,
    }


def _curve(answers: Sequence[Answers], rule: OnsetRule) -> Json:
    """Trade-off of the mouse's own answers (its first run's): at most 60 thresholds."""
    points = trade_off(answers, rule)
    kept = points[:: max(1, -(-len(points) // _CURVE_POINTS))]
    return {
        "threshold": [_plain(threshold) for threshold, _ in kept],
        "median_ms": [_plain(score.median_ms) for _, score in kept],
        "missed": [score.missed for _, score in kept],
        "false_alarms_per_min": [_plain(score.false_alarms_per_min) for _, score in kept],
    }


def _calibration(runs: Sequence[Run]) -> Json:
    """Frames, mean probability and fraction of running by bin of probability, over all runs."""
    probability, running, _ = pooled([a for run in runs for a in run.answers])
    counts, summed, ran = calibration(probability, running)
    filled = np.maximum(counts, 1)
    return {
        "frames": counts.tolist(),
        "probability": [_plain(p) if n else None for p, n in zip(summed / filled, counts, strict=True)],
        "run_fraction": [_plain(p) if n else None for p, n in zip(ran / filled, counts, strict=True)],
    }


def _null(runs: Sequence[Run]) -> Json:
    """AUC of the first run against labels shifted in time."""
    null = shifted_null(runs[0].answers)
    if null is None:
        return {
            "auc": None,
            "reason": "a session of less than 2 min, one behaviour only, or a model for each block",
        }
    low, high = _plain(null.low), _plain(null.high)
    return {"auc": _plain(null.mean), "range": [low, high], "p": _plain(null.p), "shifts": null.shifts}


def _mean(mice: Mapping[str, Json], runs: Sequence[Run], rule: OnsetRule) -> Json:
    """Mean over mice, with a t interval of the AUC."""
    found = _means(mice, runs, rule)
    samples = [
        mean_samples(
            [one["auc"] for one in (block_samples(run.answers) for run in own) if "auc" in one] or [_NOTHING]
        )
        for own in _by_mouse(runs).values()
    ]
    usable = [one for one in samples if np.isfinite(one[0])]
    if usable:
        told = interval_over_mice(usable)
        found["intervals"] = {"auc": [_plain(told.low), _plain(told.high)], "over": "mice"}
    return found


_NOTHING = np.full(2, np.nan)


def _means(mice: Mapping[str, Json], runs: Sequence[Run], rule: OnsetRule) -> Json:
    """Means over the mice that have a figure; onsets and rest are those of all runs together."""
    found: Json = {name: _over_known([mouse[name] for mouse in mice.values()]) for name in _FIGURES}
    aucs = [mouse["auc"] for mouse in mice.values() if mouse["auc"] is not None]
    found["auc_sd"] = _plain(float(np.std(aucs))) if aucs else None
    found["without_auc"] = [name for name, mouse in mice.items() if mouse["auc"] is None]
    found["onsets"] = _onsets(runs, rule, curve=False)
    found["reasons"] = {name: "no mouse has it" for name in _FIGURES if found[name] is None}
    return found


def _tests(evaluation: Evaluation, others: Mapping[str, Json]) -> Json:
    """Wilcoxon tests of the model's AUCs against every other's, over runs."""
    aucs = {
        label: [score_frames(run.answers).auc for run in evaluation.runs[label]]
        for label in (evaluation.request.model, *others)
    }
    own = aucs.pop(evaluation.request.model)
    rows = compare(own, aucs)
    told = {
        row.other: {k: _plain(v) if isinstance(v, float) else v for k, v in asdict(row).items()}
        for row in rows
    }
    return {"over": "runs", "runs": len(own), "against": told}


def _seeds(runs: Sequence[Run], first: int) -> list[Json]:
    """Mean figures of single seeds, where there are several."""
    count = min(len(run.seeds) for run in runs)
    rows = []
    for k in range(count):
        single = [Run(run.name, run.mouse, run.seeds[k]) for run in runs]
        figures = [_figures(own) for own in _by_mouse(single).values()]
        rows.append({"seed": first + k, **{n: _over_known([f[n] for f in figures]) for n in _FIGURES[:3]}})
    return rows


def _sweep(evaluation: Evaluation) -> list[Json]:
    """AUC and accuracy by window, mean over mice and of each."""
    rows = []
    for window_s in SWEEP_S if evaluation.request.sweep else ():
        runs = evaluation.runs[at_window(evaluation.request.model, window_s)]
        mice = {mouse: _figures(own) for mouse, own in _by_mouse(runs).items()}
        mean = {name: _over_known([mouse[name] for mouse in mice.values()]) for name in _FIGURES[:2]}
        rows.append({"window_s": window_s, **mean, "mice": {m: f["auc"] for m, f in mice.items()}})
    return rows


def _skipped(evaluation: Evaluation) -> dict[str, str]:
    fitted = evaluation.fitted[evaluation.request.model]
    return {
        fold.name: found.skipped
        for fold, found in zip(evaluation.folds, fitted, strict=True)
        if found.skipped is not None
    }


def _timing(evaluation: Evaluation) -> Json:
    """Seconds of fitting and predicting over all folds, by model."""
    return {
        label: {
            "fit_s": _plain(sum(one.fit_s for one in found)),
            "predict_s": _plain(sum(one.predict_s for one in found)),
        }
        for label, found in evaluation.fitted.items()
    }


def _others(evaluation: Evaluation) -> list[str]:
    """Labels that are neither the model, nor a usual baseline, nor of the sweep."""
    swept = {at_window(evaluation.request.model, s) for s in SWEEP_S}
    known = {evaluation.request.model, *KINDS, *swept}
    return [label for label in evaluation.variants if label not in known]


def _by_mouse(runs: Sequence[Run]) -> dict[str, list[Run]]:
    mice: dict[str, list[Run]] = {}
    for run in runs:
        mice.setdefault(run.mouse, []).append(run)
    return mice


def _over(values: Sequence[float]) -> float | None:
    """Mean over runs; None unless every one has a value."""
    return _plain(float(np.mean(values))) if len(values) else None


def _over_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _plain(float(np.mean(known))) if known else None


def _plain(value: float) -> float | None:
    return round(float(value), _DIGITS) if np.isfinite(value) else None
