"""What the engine says of the run, what of it deserves attention, and how it is put in words. No Qt."""

import json
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Self

from rig.acquisition.states import FinishReason, RunState
from rig.config import RigConfig

SILENT_S = 2.0
_MINUTES_LOW = 10.0
_QUEUE_HIGH = 0.5
_STEADY_HZ = 2.0  # slower and event-driven streams may well be silent over the engine's two-second rate
_BUSY_STATES = (RunState.PREPARING, RunState.RUNNING, RunState.STOPPING)


class Severity(IntEnum):
    """How much a line deserves attention."""

    GOOD = 0
    NOTICE = 1
    WARNING = 2
    ERROR = 3


@dataclass(frozen=True, slots=True)
class Alert:
    """One line and how bad it is."""

    severity: Severity
    text: str


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One stream; the residual is None while its device clock is not yet fitted."""

    received: int
    lost: int
    rate_hz: float
    clock_residual_ms: float | None


@dataclass(frozen=True, slots=True)
class DecoderStatus:
    """One decoder; latencies are None before its first answer."""

    decisions: int
    skipped: int
    generation: int
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class OutputStatus:
    """One output device; `safe` when it was switched off for lack of a fresh prediction."""

    on: bool
    commands: int
    safe: bool


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """The recorder's queue and disk; minutes are None while the data rate is unknown."""

    queued_mb: float
    high_water_mb: float
    disk_free_gb: float
    minutes_left: float | None


@dataclass(frozen=True, slots=True)
class RunStatus:
    """One status message of the engine."""

    state: RunState
    finish_reason: FinishReason | None
    elapsed_s: float
    file: str | None
    error: str | None
    streams: dict[str, StreamStatus] = field(default_factory=dict)
    decoders: dict[str, DecoderStatus] = field(default_factory=dict)
    outputs: dict[str, OutputStatus] = field(default_factory=dict)
    recorder: RecorderStatus | None = None

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the text of a status event."""
        content: dict[str, Any] = json.loads(text)
        reason = content.get("finish_reason")
        return cls(
            state=RunState(content["state"]),
            finish_reason=FinishReason(reason) if reason else None,
            elapsed_s=float(content.get("elapsed_s", 0.0)),
            file=content.get("file"),
            error=content.get("error"),
            streams={name: _stream(entry) for name, entry in (content.get("streams") or {}).items()},
            decoders={name: _decoder(entry) for name, entry in (content.get("decoders") or {}).items()},
            outputs={name: _output(entry) for name, entry in (content.get("outputs") or {}).items()},
            recorder=_recorder(content["recorder"]) if content.get("recorder") else None,
        )


def _stream(entry: dict[str, Any]) -> StreamStatus:
    residual = entry.get("clock_residual_ms")
    fitted = residual is not None and residual >= 0  # the engine says -1 before the first fit
    return StreamStatus(entry["received"], entry["lost"], entry["rate_hz"], residual if fitted else None)


def _decoder(entry: dict[str, Any]) -> DecoderStatus:
    latency = entry.get("latency_ms") or {}
    counts = (entry["decisions"], entry["skipped"], entry["generation"])
    return DecoderStatus(*counts, latency.get("p50"), latency.get("p99"))


def _output(entry: dict[str, Any]) -> OutputStatus:
    return OutputStatus(entry["on"], entry["commands"], entry["safe"])


def _recorder(entry: dict[str, Any]) -> RecorderStatus:
    megabytes = (entry.get("queued_mb", 0.0), entry.get("high_water_mb", 0.0))
    return RecorderStatus(*megabytes, entry.get("disk_free_gb", 0.0), entry.get("minutes_left"))


def headline(status: RunStatus | None, silent_s: float) -> Alert:
    """Say in a few words what the run is doing."""
    if status is not None and status.state is RunState.FINISHED:
        return _finished(status)
    if silent_s > SILENT_S:
        return Alert(Severity.WARNING, f"engine silent for {silent_s:.0f} s")
    if status is None:
        return Alert(Severity.NOTICE, "waiting for the engine")
    if status.state is RunState.RUNNING:
        return Alert(Severity.GOOD, "running")
    waiting = "ready: press Start" if status.state is RunState.IDLE else str(status.state)
    return Alert(Severity.NOTICE, waiting)


def _finished(status: RunStatus) -> Alert:
    severity = {
        FinishReason.COMPLETED: Severity.GOOD,
        FinishReason.CANCELLED: Severity.NOTICE,
        FinishReason.FAILED: Severity.ERROR,
        None: Severity.ERROR,
    }[status.finish_reason]
    words = {FinishReason.CANCELLED: "stopped by request", None: "for an unknown reason"}
    reason = words.get(status.finish_reason, str(status.finish_reason))
    return Alert(severity, f"finished: {reason}")


def alerts(status: RunStatus | None, config: RigConfig) -> list[Alert]:
    """List everything a person should know, the worst first."""
    if status is None:
        return []
    found = [Alert(Severity.ERROR, status.error)] if status.error else []
    found += _stream_alerts(status, config)
    found += _recorder_alerts(status, config)
    found += _decoder_alerts(status)
    return sorted(found, key=lambda alert: -alert.severity)


def _stream_alerts(status: RunStatus, config: RigConfig) -> list[Alert]:
    lost = [Alert(Severity.ERROR, f"{n}: {s.lost} lost") for n, s in status.streams.items() if s.lost]
    if status.state is not RunState.RUNNING or status.elapsed_s < 2 * SILENT_S:
        return lost
    nominal_hz = {name: camera.rate_hz for name, camera in config.cameras.items()}
    nominal_hz |= {name: source.rate_hz for name, source in config.serial.items()}
    steady = [n for n, rate_hz in nominal_hz.items() if rate_hz >= _STEADY_HZ and n in status.streams]
    silent = [name for name in steady if not status.streams[name].rate_hz]
    return lost + [Alert(Severity.ERROR, f"{name}: no data") for name in silent]


def _recorder_alerts(status: RunStatus, config: RigConfig) -> list[Alert]:
    recorder = status.recorder
    if recorder is None or status.state not in _BUSY_STATES:
        return []
    found = []
    if recorder.minutes_left is not None and recorder.minutes_left < _MINUTES_LOW:
        found.append(Alert(Severity.ERROR, f"disk full in {max(recorder.minutes_left, 0.0):.0f} min"))
    if recorder.queued_mb > _QUEUE_HIGH * config.recording.queue_mb:
        text = f"disk too slow: {recorder.queued_mb:.0f} of {config.recording.queue_mb} MB queued"
        found.append(Alert(Severity.ERROR, text))
    return found


def _decoder_alerts(status: RunStatus) -> list[Alert]:
    restarted = {name: d.generation for name, d in status.decoders.items() if d.generation}
    safe = [name for name, output in status.outputs.items() if output.safe]
    found = [Alert(Severity.WARNING, f"{name}: restarted {count}x") for name, count in restarted.items()]
    busy = status.state is RunState.RUNNING
    return found + [Alert(Severity.WARNING, f"{name}: held off, no decision") for name in safe if busy]


def duration_text(seconds: float) -> str:
    """Hours, minutes and seconds: 0:01:23."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def minutes_text(minutes: float | None) -> str:
    """Time until the disk is full, as coarse as a person needs it."""
    if minutes is None:
        return "unknown"
    return f"{minutes:.0f} min" if minutes < 180 else f"{minutes / 60:.0f} h"
