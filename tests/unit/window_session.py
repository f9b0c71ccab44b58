"""A session as the engine would describe it, and plausible messages of it, for the window's tests."""

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np

from rig.acquisition.states import STATUS
from rig.config import (
    CameraConfig,
    Imaging,
    MovieConfig,
    PolicyConfig,
    RecordingConfig,
    RigConfig,
    RunningConfig,
    SerialConfig,
    StimulusConfig,
    WindowConfig,
)
from rig.description import SessionDescription
from rig.messages import Event, Frame, FrameStream, Prediction, PredictionStream, Samples, SampleStream
from rig.sync.clock import SessionClock

MS = 1_000_000
S = 1_000_000_000
CLOCK = SessionClock(0, datetime(2026, 11, 20, tzinfo=UTC))
CAMERAS = tuple(FrameStream(name, 64, 64, "uint16", 30.0, 0.0) for name in ("widefield", "two_photon"))
SAMPLES = (
    SampleStream("treadmill", ("count", "running_speed"), ("count", "mm/s"), 100.0, 1e6),
    SampleStream("pupil", ("diameter", "x", "y"), ("mm", "mm", "mm"), 60.0, 1e6),
    SampleStream("stimulus", ("clip", "movie_frame"), ("", ""), 30.0, 1e6),
)
PREDICTIONS = (
    PredictionStream("behavior", "widefield", (), "probability", "", importance=True),
    PredictionStream("reconstruction", "two_photon", (36, 64), "grey level", "", {"lag_frames": "3"}),
)
RATES_HZ = {s.name: s.rate_hz for s in CAMERAS} | {s.name: s.rate_hz for s in SAMPLES}


def camera(stream: FrameStream) -> CameraConfig:
    """What every camera has in a rig's configuration."""
    imaging = Imaging(
        indicator="GCaMP6f", location="VISp", excitation_nm=920.0, emission_nm=525.0, pixel_size_um=5.0
    )
    height_px, width_px, rate_hz = stream.height_px, stream.width_px, stream.rate_hz
    return CameraConfig(
        driver="any", rate_hz=rate_hz, height_px=height_px, width_px=width_px, imaging=imaging
    )


def rig_config(**window: Any) -> RigConfig:
    """What the window reads of a rig's configuration, without the drivers' own settings."""
    return RigConfig.model_construct(
        rig="simulated_mouse",
        cameras={s.name: camera(s) for s in CAMERAS},
        serial={s.name: SerialConfig(driver="any", rate_hz=s.rate_hz) for s in SAMPLES},
        closed_loop=[PolicyConfig(decoder="behavior", output="laser", threshold_on=0.7, threshold_off=0.4)],
        running=RunningConfig(),
        stimulus=StimulusConfig(source="stimulus", movie=MovieConfig(seed=7, clips=2, frames=40)),
        recording=RecordingConfig(),
        window=WindowConfig(**window),
    )


def describe(identifier: str = "window-test", **parts: Any) -> SessionDescription:
    """A whole session; `parts` replaces frames, samples, predictions or config."""
    everything: dict[str, Any] = {
        "config": rig_config(),
        "clock": CLOCK,
        "frames": CAMERAS,
        "samples": SAMPLES,
        "predictions": PREDICTIONS,
        **parts,
    }
    return SessionDescription(identifier, **everything)


def status_event(state: str = "running", at_ns: int = 0, **more: Any) -> Event:
    """A status as the engine publishes it."""
    lost = more.pop("lost", 0)
    content = {
        "state": state,
        "finish_reason": None,
        "elapsed_s": 12.3,
        "file": "sessions/mouse.nwb",
        "error": None,
        "streams": {
            name: {"received": 361, "lost": lost, "rate_hz": rate_hz, "clock_residual_ms": 0.03}
            for name, rate_hz in RATES_HZ.items()
        },
        "decoders": {
            "behavior": {
                "decisions": 300,
                "skipped": 0,
                "generation": 0,
                "latency_ms": {"p50": 3.1, "p99": 6.0, "max": 9.9},
            }
        },
        "recorder": {
            "queued_messages": 0,
            "queued_mb": 0.1,
            "high_water_mb": 3.0,
            "disk_free_gb": 80.2,
            "minutes_left": 410.0,
        },
        "outputs": {"laser": {"on": False, "commands": 4, "safe": False}},
        "window": True,
    }
    return Event(STATUS, "status", json.dumps(content | more), at_ns, at_ns)


def frame(stream: str, index: int, pixels: np.ndarray, at_ns: int = 0) -> Frame:
    """One camera image."""
    return Frame(stream, index, -1, at_ns, pixels, at_ns, 0)


def samples(stream: str, times_ns: list[int], rows: list[tuple[float, ...]]) -> Samples:
    """A batch of one serial stream."""
    times = np.array(times_ns, np.int64)
    return Samples(stream, 0, int(times[-1]), times, np.array(rows, float), times, 0)


def prediction(stream: str, index: int, values: Any, at_ns: int, generation: int = 0) -> Prediction:
    """One answer of a decoder."""
    return Prediction(
        stream,
        index,
        generation,
        index,
        0,
        np.asarray(values, np.float32),
        at_ns,
        at_ns,
        at_ns,
        at_ns,
        at_ns,
    )
