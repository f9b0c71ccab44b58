"""One live step of the causal run/rest decoder, beside the bare ONNX Runtime call of the same network.

A step takes a camera frame (128 x 128, uint16) to a probability: view, normalisation, network, adaptation, and the
note that the importance map needs. The bare call is `InferenceSession.run` of the checkpoint's own graph on arrays
that lie ready, with the same number of threads. Both alternate in one process, back to back and at the camera's pace,
when caches are cold and cores have slept. `worker` is the decoder process of a whole `rig run`: there both are called
on every frame, in turn first, and only the first of the two counts, so either meets the process as a frame finds it.
"""

import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks import CONFIGS, arguments, rig, tell
from decoders.behavior.live import KIND, CausalBehavior
from decoders.checkpoint import load_checkpoint, resolve
from rig.config import load_config
from rig.messages import Frame, FrameStream, PredictionStream

_RATE_HZ = 30.0
_WARM_UP = 60  # steps left out
_FRAMES = 64  # distinct ones


def decoder(checkpoint: Path) -> CausalBehavior:
    """Load the decoder with its defaults, for a camera with the landmarks of the demo's."""
    camera = load_config(CONFIGS / "simulated_mouse.yaml").cameras["widefield"]
    landmarks_px = {str(name): at for name, at in camera.imaging.landmarks_px.items()}
    config = CausalBehavior.Config(decoder="causal", camera="widefield", checkpoint=str(checkpoint))
    causal = CausalBehavior("behavior", config)
    causal.load(FrameStream("widefield", 128, 128, "uint16", _RATE_HZ, 1e6, landmarks_px=landmarks_px))
    return causal


def bare_call(checkpoint: Path, threads: int) -> Callable[[], object]:
    """Make the call of ONNX Runtime alone: the same graph and options, inputs ready."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    graph = load_checkpoint(checkpoint, KIND).arrays["onnx"].tobytes()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    inputs = {node.name: rng.normal(size=node.shape).astype(np.float32) for node in session.get_inputs()}
    return lambda: session.run(None, inputs)


def interleaved(causal: CausalBehavior, bare: Callable[[], object], count: int, pause_s: float) -> Any:
    """Times of `count` steps and as many bare calls, in turn, each after a pause; (2, count), microseconds."""
    pixels = np.random.default_rng(0).integers(1000, 3000, (_FRAMES, 128, 128)).astype(np.uint16)
    times = np.empty((2, count))
    for k in range(count):
        frame = Frame("widefield", k, k, 0, pixels[k % _FRAMES])
        for side in (k % 2, 1 - k % 2):  # neither is always the first
            time.sleep(pause_s)
            began = time.perf_counter_ns()
            bare() if side else causal.step(frame)
            times[side, k] = (time.perf_counter_ns() - began) / 1e3
    return times


def spread(times_us: Any) -> dict[str, float]:
    """Median and 99th percentile, microseconds."""
    p50, p99 = np.percentile(times_us, [50, 99])
    return {"p50_us": round(float(p50), 1), "p99_us": round(float(p99), 1)}


def compared(times_us: Any) -> dict[str, Any]:
    """Both sides and their ratio, the warm-up left out."""
    step, bare = times_us[:, _WARM_UP:]
    ratio = round(float(np.median(step) / np.median(bare)), 2)
    return {"step": spread(step), "bare_onnx_runtime": spread(bare), "ratio_of_medians": ratio}


class BesideBare(CausalBehavior):
    """The decoder with a bare call beside every step; writes to a file what the first of both took."""

    class Config(CausalBehavior.Config):
        """Tag `beside_bare`."""

        decoder: Literal["beside_bare"]  # type: ignore[assignment]  # a tag of its own
        times: Path
        """A line for every frame is added: which was first, 0 the step or 1 the bare call, and its microseconds."""

    def load(self, source: FrameStream) -> PredictionStream:
        """Load the decoder, and the bare call beside it."""
        self._bare = bare_call(self._path, self._config.threads)
        return super().load(source)

    def step(self, frame: Frame) -> NDArray[np.float32]:
        """Decode a frame as ever, after the bare call or before it."""
        bare_first = frame.index % 2
        began = time.perf_counter_ns()
        if bare_first:
            self._bare()
            took_ns = time.perf_counter_ns() - began
            answer = super().step(frame)
        else:
            answer = super().step(frame)
            took_ns = time.perf_counter_ns() - began
            self._bare()
        with self._config.times.open("a") as file:
            file.write(f"{bare_first} {took_ns / 1e3}\n")
        return answer


def in_worker(seconds: float) -> Any:
    """Times of steps and bare calls in the decoder process of the simulated rig, (2, frames), microseconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        installed = folder / "beside_bare-0.dist-info"  # what Python finds entry points in
        installed.mkdir()
        (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: beside_bare\nVersion: 0\n")
        entry = f"beside_bare = {__spec__.name}:{BesideBare.__name__}"
        (installed / "entry_points.txt").write_text(f"[rig.decoders]\n{entry}\n")
        config, times = folder / "rig.yaml", folder / "times"
        demo = (CONFIGS / "simulated_mouse.yaml").read_text()
        config.write_text(demo.replace("decoder: causal\n", f"decoder: beside_bare\n    times: {times}\n"))
        output, here = folder / "session.nwb", Path(__file__).parents[1]
        rig("run", config, "--duration", seconds, "--output", output, python_path=(folder, here))
        first, took_us = np.loadtxt(times).T
    steps, bare = took_us[first == 0], took_us[first == 1]
    count = min(len(steps), len(bare))
    return np.stack([steps[:count], bare[:count]])


def main() -> None:
    """Time both sides, then a run of the whole rig."""
    asked = arguments(__doc__, steps=3000, seconds=30.0)
    checkpoint = resolve("shipped", "behavior.npz")
    causal = decoder(checkpoint)
    bare = bare_call(checkpoint, causal.Config(decoder="causal", camera="widefield").threads)
    gc.disable()  # a collection belongs to neither side
    report: dict[str, Any] = {
        "data": "random frames, 128x128, uint16; the shipped checkpoint",
        "steps": {"back_to_back": asked.steps, "paced": int(asked.seconds * _RATE_HZ)},
        "back_to_back": compared(interleaved(causal, bare, asked.steps, 0.0)),
        "paced": compared(interleaved(causal, bare, int(asked.seconds * _RATE_HZ), 0.5 / _RATE_HZ)),
    }
    gc.enable()
    if asked.seconds > 0:
        report["worker"] = compared(in_worker(asked.seconds))
    tell(asked, report)


if __name__ == "__main__":
    main()
