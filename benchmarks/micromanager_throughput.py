"""512x512 16-bit at 100 frames/s from the real Micro-Manager core, window and decoder on: what is lost.

The other side is `pycromanager.Acquisition` on the same core, camera and exposure, saving to NDTiff, with nothing
else on.
"""

import contextlib
import io
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import CONFIGS, arguments, rig, tell
from rig.config import load_config
from rig.drivers.micromanager_core import start_python_core, stop_python_core


def acquisition(folder: str, frames: int, exposure_ms: float, results: Any) -> None:
    """Take frames with pycromanager's own acquisition engine; puts frames per second."""
    from pycromanager import Acquisition, multi_d_acquisition_events

    with contextlib.redirect_stdout(io.StringIO()):
        core = start_python_core("demo_camera", "auto", 256)
        core.load("demo")
        core.set_exposure(core.select_camera(None), exposure_ms)
        begin = time.monotonic()
        with Acquisition(directory=folder, name="other", show_display=False) as engine:
            engine.acquire(multi_d_acquisition_events(num_time_points=frames))
        results.put(frames / (time.monotonic() - begin))
        stop_python_core()


def main() -> None:
    """Run both, one after the other."""
    asked = arguments(__doc__, seconds=60.0, other_frames=1000)
    exposure_ms = float(load_config(CONFIGS / "micromanager_demo.yaml").cameras["demo_camera"].exposure_ms)  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        session = Path(folder) / "session.nwb"
        run = rig("run", CONFIGS / "micromanager_demo.yaml", "--duration", asked.seconds, "--output", session)
        verified = rig("verify", session)
        ours_fps = run["streams"]["demo_camera"]["received"] / asked.seconds
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        other = context.Process(target=acquisition, args=(folder, asked.other_frames, exposure_ms, results))
        other.start()
        other_fps = results.get(timeout=asked.other_frames / 10 + 60)
        other.join()
    tell(
        asked,
        {
            "data": "Micro-Manager DemoCamera, 512x512 16-bit, simulated treadmill and pupil, window and decoder on",
            "seconds": asked.seconds,
            "frames_received": run["streams"]["demo_camera"]["received"],
            "frames_lost": run["streams"]["demo_camera"]["lost"],
            "verify_complete": verified["complete"],
            "decisions": run["decisions"],
            "decoder_skipped": run["decoders"]["behavior"]["skipped"],
            "latency_ms": run["latency_ms"],
            "ours_fps": round(ours_fps, 1),
            "pycromanager_acquisition_ndtiff_fps": round(other_fps, 1),
            "ratio": round(ours_fps / other_fps, 2),
        },
    )


if __name__ == "__main__":
    main()
