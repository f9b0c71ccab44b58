"""From a frame's arrival to its decision: the whole rig with its window on, beside pycromanager's own hook.

The other side calls the same network, through the same `LiveDecoder`, from the `image_process_fn` of
`pycromanager.Acquisition`, with nothing else running: no window, no file, no second decoder, no serial devices.
"""

import contextlib
import io
import multiprocessing
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import CONFIGS, arguments, rig, tell
from decoders.behavior.live import CausalBehavior
from rig.config import load_config
from rig.drivers.micromanager_core import start_python_core, stop_python_core
from rig.messages import Frame, FrameStream
from rig.recording.reader import SessionReader

_EXPOSURE_MS = 33.0
_WARM_UP = 60  # frames left out on either side: two seconds in which both are still starting


def acquisition(frames: int, results: Any) -> None:
    """Decode the demo camera's frames in the hook; puts latencies from the core's stamp, ms."""
    from pycromanager import Acquisition, multi_d_acquisition_events

    config = load_config(CONFIGS / "simulated_mouse.yaml")
    decoder = CausalBehavior("behavior", config.decoders["behavior"])  # type: ignore[arg-type]
    landmarks_px = {str(k): at for k, at in config.cameras["widefield"].imaging.landmarks_px.items()}
    decoder.load(FrameStream("camera", 128, 128, "uint16", 30.0, 1e6, landmarks_px=landmarks_px))
    latencies: list[float] = []

    def hook(image: Any, tags: dict[str, Any]) -> None:
        decoder.step(Frame("camera", len(latencies), -1, 0, np.asarray(image)))
        received = datetime.fromisoformat(tags["TimeReceivedByCore"])
        latencies.append((datetime.now() - received).total_seconds() * 1e3)

    with contextlib.redirect_stdout(io.StringIO()):
        core = start_python_core("camera", "auto", 256)
        core.load("demo")
        core.set_exposure(core.select_camera(None), _EXPOSURE_MS)
        core.set_roi((192, 192, 128, 128))
        with Acquisition(image_process_fn=hook, show_display=False) as engine:
            engine.acquire(multi_d_acquisition_events(num_time_points=frames))
        results.put(latencies)
        stop_python_core()


def spread(latencies_ms: Any) -> dict[str, float]:
    """Median and 99th percentile."""
    p50, p99 = np.percentile(np.asarray(latencies_ms), [50, 99])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}


def main() -> None:
    """Run both, one after the other."""
    asked = arguments(__doc__, seconds=60.0)
    with tempfile.TemporaryDirectory() as folder:
        session = Path(folder) / "session.nwb"
        rig("run", CONFIGS / "simulated_mouse.yaml", "--duration", asked.seconds, "--output", session)
        with SessionReader(session) as reader:
            table = reader.predictions("behavior")
    ours_ms = (table.received_ns - table.frame_arrival_ns)[_WARM_UP:] / 1e6
    network_ms = (table.inference_end_ns - table.inference_start_ns)[_WARM_UP:] / 1e6
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    other = context.Process(target=acquisition, args=(int(asked.seconds * 30), results))
    other.start()
    other_ms = results.get(timeout=asked.seconds * 3 + 60)[_WARM_UP:]
    other.join()
    tell(
        asked,
        {
            "data": "ours: simulated mouse at 30 Hz, 128x128, window, recorder, serial devices and both decoders on; "
            "other: Micro-Manager DemoCamera at 30 Hz, 128x128, nothing else on",
            "frames": {"ours": len(ours_ms), "other": len(other_ms)},
            "ours_arrival_to_recorded_ms": spread(ours_ms),
            "ours_network_alone_ms": spread(network_ms),
            "other_core_to_decision_ms": spread(other_ms),
            "ratio_p50": round(float(np.median(ours_ms) / np.median(other_ms)), 2),
            "ratio_p99": round(float(np.percentile(ours_ms, 99) / np.percentile(other_ms, 99)), 2),
        },
    )


if __name__ == "__main__":
    main()
