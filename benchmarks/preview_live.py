"""The live preview of movies beside the offline reconstruction, what one step takes, and whether it slows the rig.

Without options a set of its own is made, on simulated data: one session of 16 minutes, an encoder and a preview of it
(minutes of processor time; `--folder` keeps the files, and takes up those that are there). `--movies`, `--encoder` and
`--preview` name another mouse in the layout sensorium for the correlations. Correlations are over all pixels and frames
of a clip of the tier oracle, first 30 frames dropped, nothing smoothed, means over clips. The rig runs in turn without
and with the preview, each second time in the other order, window on (`QT_QPA_PLATFORM=offscreen` without a screen).
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks import CONFIGS, arguments, rig, tell
from decoders.checkpoint import load_checkpoint
from decoders.datasets.movies import TRAIN, MovieMouse, Trial, open_movies
from decoders.reconstruction.amortized import KIND, PreviewReader
from decoders.reconstruction.similarity import DROPPED_FRAMES
from rig.recording.reader import SessionReader

_TRAINING = CONFIGS.parent / "docs" / "training" / "encoder.yaml"
_CLIPS, _MINUTES, _SEED = 90, 16, 3000
_WARM_UP = 90  # frames left out of the rig's figures
_EVERY = 6  # moments from one step of the refinement to the next: about what two busy cores leave time for

Movie = NDArray[np.float32]


def make(folder: Path) -> None:
    """Make what is not there: a session, an encoder and a preview of the simulated mouse's neurons."""
    sessions, encoder, preview = folder / "sessions", folder / "encoder.npz", folder / "preview.npz"
    data = ("--data", sessions, "--layout", "sessions", "--threads", 1)
    if not sessions.exists():
        config = folder / "rig.yaml"
        content = yaml.safe_load(_TRAINING.read_text(encoding="utf-8"))
        content["stimulus"]["movie"]["clips"] = _CLIPS
        config.write_text(yaml.safe_dump(content), encoding="utf-8")
        seeds = ("--seed", _SEED, "--movie-seed", _SEED)
        rig("simulate", config, "--out", sessions, "--mice", 1, "--minutes", _MINUTES, *seeds)
    if not encoder.exists():
        rig("train", "encoder", *data, "--out", encoder, "--set", "epochs=2")
    if not preview.exists():
        rig("train", "preview", *data, "--out", preview, "--encoder", encoder)


def correlations(mouse: MovieMouse, encoder: Path, preview: Path, clips: int) -> dict[str, Any]:
    """Preview, refined preview, linear baseline and offline reconstruction on the same held-out clips."""
    from decoders.reconstruction import load_encoder
    from decoders.reconstruction.encoder import mouse_index
    from decoders.reconstruction.inversion import invert
    from decoders.reconstruction.linear_movies import fit_linear

    model = load_encoder(encoder)
    index = mouse_index(model, mouse.name, mouse.neurons, encoder)
    linear = fit_linear(mouse.of_tier(TRAIN))
    found: dict[str, list[float]] = {}
    tested = _one_of_each_clip(mouse)[:clips]
    for trial in tested:
        behaviour = (trial.behavior, trial.pupil_center)
        seen = np.moveaxis(trial.video, -1, 0)
        shown = {
            "offline_fast": invert(model, trial.responses, *behaviour, mouse=index, progress=False),
            "linear": linear(trial.responses),
            **dict(live(trial, preview, encoder)),
        }
        for name, value in _score(seen, shown).items():
            found.setdefault(name, []).append(value)
    means = {name: round(float(np.mean(values)), 4) for name, values in found.items()}
    ratios = [a / b for a, b in zip(found["preview"], found["offline_fast"], strict=True)]
    return {
        "clips": len(tested),
        "neurons": mouse.neurons,
        **means,
        "preview_to_offline": round(means["preview"] / means["offline_fast"], 3),
        "least_of_a_clip": round(min(ratios), 3),
    }


def live(trial: Trial, preview: Path, encoder: Path) -> Iterator[tuple[str, Movie]]:
    """Yield what the preview shows of a clip, and what becomes of it with a step of refinement every 0.2 s."""
    from decoders.reconstruction.refinement import load_refinement

    checkpoint = load_checkpoint(preview, KIND)
    reader = PreviewReader(checkpoint, preview)
    refinement = load_refinement(encoder, checkpoint, preview, 1)
    frames = trial.video.shape[2]
    shown, refined = (np.full((frames, *reader.size_px), np.nan, np.float32) for _ in range(2))
    for k, responses in enumerate(trial.responses.T):
        picture = reader.step(responses)
        refinement.follow(responses, picture)
        if k >= reader.lag_frames:
            shown[k - reader.lag_frames] = picture
        if k % _EVERY == 0 and refinement.has_work:
            found = _whole_step(refinement)
            first = k - refinement.lag_frames
            refined[first : first + _EVERY] = found[: len(refined[first : first + _EVERY])]
    yield "preview", shown
    yield "refined", refined


def _whole_step(refinement: Any) -> Movie:
    """All pieces of one step; the pictures shown until the next one is done."""
    while refinement.work() is None:
        pass
    return np.asarray(refinement.pictures[:_EVERY], np.float32)


def _one_of_each_clip(mouse: MovieMouse) -> list[Trial]:
    first = {trial.clip: trial for trial in reversed(mouse.of_tier("oracle"))}
    loaded = (trial.load() for trial in first.values())
    return [trial for trial in loaded if trial.video.shape[2] > 4 * DROPPED_FRAMES]


def _score(seen: Movie, shown: dict[str, Movie]) -> dict[str, float]:
    """Correlations of one clip: all on the frames that the preview knows, the refined preview on those that it has."""
    known, refined = _known(shown["preview"]), _known(shown["refined"])
    scores = {name: _correlation(seen, shown[name], known) for name in ("preview", "offline_fast", "linear")}
    scores["refined"] = _correlation(seen, shown["refined"], refined)
    scores["preview_where_refined"] = _correlation(seen, shown["preview"], refined)
    return scores


def _known(movie: Movie) -> NDArray[np.intp]:
    known = np.flatnonzero(np.isfinite(movie).all(axis=(1, 2)))
    return known[known >= DROPPED_FRAMES]


def _correlation(seen: Movie, movie: Movie, frames: NDArray[np.intp]) -> float:
    return float(np.corrcoef(seen[frames].ravel(), movie[frames].ravel())[0, 1])


def step_time(mouse: MovieMouse, preview: Path, steps: int) -> dict[str, float]:
    """One answer from responses to picture, ms: on the wall, and of the processor alone."""
    reader = PreviewReader(load_checkpoint(preview, KIND), preview)
    responses = mouse.of_tier("oracle")[0].load().responses.T
    wall, processor = [], []
    for k in range(steps):
        begin, busy = time.perf_counter(), time.thread_time()
        reader.step(responses[k % len(responses)])
        wall.append(time.perf_counter() - begin)
        processor.append(time.thread_time() - busy)
    return {**_spread("wall", wall, 1e3), **_spread("processor", processor, 1e3)}


def _spread(name: str, values: Any, scale: float) -> dict[str, float]:
    p50, p99 = np.percentile(np.asarray(values) * scale, [50, 99])
    return {f"{name}_p50": round(float(p50), 3), f"{name}_p99": round(float(p99), 3)}


def rig_runs(folder: Path, seconds: float, rounds: int) -> dict[str, Any]:
    """The simulated mouse's rig without and with the preview and its refinement, in turn."""
    sides: dict[str, dict[str, list[Any]]] = {}
    for k in range(rounds):
        order = ("without", "with")
        for side in order if k % 2 == 0 else order[::-1]:
            session = folder / f"{side}_{k}.nwb"
            config = _config(folder, side == "with")
            report = rig("run", config, "--duration", seconds, "--output", session)
            _gather(sides.setdefault(side, {}), report, session)
            session.unlink()
    return {side: _summary(gathered) for side, gathered in sides.items()}


def _config(folder: Path, with_preview: bool) -> Path:
    content = yaml.safe_load((CONFIGS / "simulated_mouse.yaml").read_text(encoding="utf-8"))
    del content["decoders"]["reconstruction"]
    if with_preview:
        content["decoders"]["preview"] = {
            "decoder": "preview",
            "camera": "two_photon",
            "checkpoint": str(folder / "preview.npz"),
            "refine": str(folder / "encoder.npz"),
        }
    file = folder / f"{'with' if with_preview else 'without'}.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


def _gather(into: dict[str, list[Any]], report: dict[str, Any], session: Path) -> None:
    """Keep a run's latencies, s, and what was lost."""
    with SessionReader(session) as reader:
        for name in report["decoders"]:
            table = reader.predictions(name)
            kept = np.flatnonzero(table.answers)[_WARM_UP:]
            arrival = table.frame_arrival_ns[kept]
            into.setdefault(f"{name}_arrival_to_recorded_ms", []).extend(table.received_ns[kept] - arrival)
            step = table.inference_end_ns[kept] - table.inference_start_ns[kept]
            into.setdefault(f"{name}_step_ms", []).extend(step)
            into.setdefault(f"{name}_skipped_frames", []).append(int(table.skipped.sum()))
    lost = sum(stream["lost"] for stream in report["streams"].values())
    into.setdefault("lost", []).append(lost)
    into.setdefault("complete", []).append(bool(rig("verify", session)["complete"]))


def _summary(gathered: dict[str, list[Any]]) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for name, values in gathered.items():
        if name.endswith("_ms"):
            report |= _spread(name, values, 1e-6)
        else:
            report[name] = values if name == "complete" else int(np.sum(values))
    return report


def run(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything that was asked for."""
    make(folder)
    data, layout = (asked.movies, "sensorium") if asked.movies else (folder / "sessions", "sessions")
    (mouse,) = open_movies(Path(data), layout)
    encoder = Path(asked.encoder or folder / "encoder.npz")
    preview = Path(asked.preview or folder / "preview.npz")
    return {
        "data": f"simulated; correlations: {data}, tier oracle; the rig: the simulated mouse",
        "correlation": correlations(mouse, encoder, preview, asked.clips),
        "step_ms": step_time(mouse, preview, asked.steps),
        "rig": rig_runs(folder, asked.seconds, asked.rounds),
    }


def main() -> None:
    """Run, in a folder of its own or one that is kept."""
    asked = arguments(
        __doc__, folder="", movies="", encoder="", preview="", clips=6, steps=1000, seconds=20.0, rounds=2
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(asked.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        tell(asked, run(asked, folder))


if __name__ == "__main__":
    main()
