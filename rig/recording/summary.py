"""What is in a session file, in a few numbers."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rig.messages import count_unknown
from rig.recording import layout
from rig.recording.reader import SessionReader
from rig.recording.verify import latency_summary


def summary(path: Path) -> dict[str, Any]:
    """List streams with shapes and rates, decoders, outputs, events, configuration and versions, for JSON.

    Raises
    ------
    SessionFileError
        When the file cannot be read.
    """
    with SessionReader(path) as session:
        described = session.described
        return {
            "file": str(path),
            "size_mb": round(path.stat().st_size / 1e6, 3),
            "identifier": described["identifier"],
            "origin": described["origin"],
            "started_at": described["clock"]["started_at"],
            "description": described["config"]["session"]["description"],
            "subject": described["config"]["session"]["subject"],
            "finish_reason": session.finish_reason.value if session.finish_reason else None,
            "errors": session.errors,
            "cameras": {name: _camera(session, name) for name in session.names(layout.FRAMES)},
            "serial": {name: _serial(session, name) for name in session.names(layout.SAMPLES)},
            "decoders": {name: _decoder(session, name) for name in session.names(layout.PREDICTIONS)},
            "outputs": {name: len(session.outputs(name)) for name in session.names(layout.OUTPUTS)},
            "running_s": {name: _running_s(session, name) for name in session.names(layout.INTERVALS)},
            "events": _events(session),
            "configuration_sha256": session.text(layout.CONFIGURATION_SHA256),
            "provenance": json.loads(session.text(layout.PROVENANCE)),
        }


def _camera(session: SessionReader, name: str) -> dict[str, Any]:
    table = session.frames(name)
    shape, dtype = table.pixels.shape, str(table.pixels.dtype)
    return {"shape": list(shape), "dtype": dtype, "lost": _lost(session, name), **_timing(table.session_ns)}


def _serial(session: SessionReader, name: str) -> dict[str, Any]:
    table = session.samples(name)
    content = {"columns": list(table.columns), "samples": len(table.index), "lost": _lost(session, name)}
    return {**content, **_timing(table.session_ns)}


def _decoder(session: SessionReader, name: str) -> dict[str, Any]:
    table = session.predictions(name)
    latency_ms = (table.received_ns - table.frame_arrival_ns)[table.answers] / 1e6
    return {
        "decisions": int(table.answers.sum()),
        "shape": list(table.values.shape[1:]),
        "skipped": int(table.skipped.sum()),
        "unknown": count_unknown(Counter(table.status.tolist())),
        "latency_ms": latency_summary(latency_ms) if len(latency_ms) else None,
    }


def _lost(session: SessionReader, name: str) -> int:
    return sum(gap.count for gap in session.gaps(name))


def _timing(session_ns: NDArray[np.int64]) -> dict[str, float]:
    """Duration and mean rate from first to last."""
    duration_s = float(session_ns[-1] - session_ns[0]) / 1e9 if len(session_ns) else 0.0
    rate_hz = (len(session_ns) - 1) / duration_s if duration_s > 0 else 0.0
    return {"duration_s": round(duration_s, 6), "rate_hz": round(rate_hz, 3)}


def _running_s(session: SessionReader, name: str) -> float:
    return round(sum(stop - start for start, stop, state in session.intervals(name) if state == "run"), 3)


def _events(session: SessionReader) -> dict[str, int]:
    """How many events of each kind."""
    kinds = [event.kind for event in session.events()]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}
