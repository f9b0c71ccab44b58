"""Counts what passes: received and lost per stream, skipped and latency per decoder, what waits for the disk."""

import shutil
import threading
from array import array
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rig.messages import Frame, Gap, Message, Prediction, Samples, count_unknown
from rig.recording.recorder import RecorderStatus

_RATE_NS = 2_000_000_000  # rates are over the last two seconds
_RECENT = 4096  # values that live figures are worked out from: how it is now, at a cost that does not grow


@dataclass(slots=True)
class StreamCount:
    """One stream: messages that carry data count one a frame or a sample."""

    received: int = 0
    lost: int = 0
    recent: deque[tuple[int, int]] = field(
        default_factory=lambda: deque(maxlen=_RECENT)
    )  # (arrival ns, how many)

    def rate_hz(self, now_ns: int) -> float:
        """Data per second over the last two seconds."""
        return sum(n for at_ns, n in self.recent if now_ns - at_ns <= _RATE_NS) / (_RATE_NS / 1e9)


@dataclass(slots=True)
class DecoderCount:
    """One decoder: its answers, what it skipped, and how long after a frame's arrival answers were in hand.

    `statuses` also counts what it said when no frame came. `latency_ns` has every answer of the run, eight bytes each.
    """

    decisions: int = 0
    skipped: int = 0
    generation: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    # quoted: an array's type takes no parameter in Python 3.11
    latency_ns: "array[int]" = field(default_factory=lambda: array("q"))
    recent_latency_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def add_latency(self, latency_ns: int) -> None:
        """Keep the time one answer took."""
        self.latency_ns.append(latency_ns)
        self.recent_latency_ns.append(latency_ns)

    def copy_latency_ns(self, whole_run: bool) -> NDArray[np.int64]:
        """Latest latencies (n,), or those of all answers; a copy."""
        return np.array(self.latency_ns if whole_run else self.recent_latency_ns, np.int64)


class Statistics:
    """All counts of one run; any thread may add."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.streams: dict[str, StreamCount] = {}
        self.decoders: dict[str, DecoderCount] = {}

    def add_stream(self, name: str) -> None:
        """Begin to count a stream, so that one that never speaks is seen."""
        self.streams[name] = StreamCount()

    def add_decoder(self, name: str) -> None:
        """Begin to count a decoder."""
        self.decoders[name] = DecoderCount()

    def count(self, message: Message) -> None:
        """Count a source's message."""
        with self._lock:
            if isinstance(message, Frame | Samples):
                how_many = 1 if isinstance(message, Frame) else len(message.device_ticks)
                stream = self.streams[message.stream]
                stream.received += how_many
                stream.recent.append((message.arrival_ns, how_many))
            elif isinstance(message, Gap):
                self.streams[message.stream].lost += message.count

    def count_prediction(self, prediction: Prediction, received_ns: int) -> None:
        """Count a decoder's answer, in hand at `received_ns`."""
        with self._lock:
            decoder = self.decoders[prediction.stream]
            decoder.statuses[prediction.status] += 1
            if not prediction.answers_frame:
                return
            decoder.decisions += 1
            decoder.skipped += prediction.skipped
            decoder.generation = prediction.generation
            decoder.add_latency(received_ns - prediction.frame_arrival_ns)

    def stream_report(self, now_ns: int) -> dict[str, dict[str, float]]:
        """Received, lost and present rate of every stream."""
        with self._lock:
            return {
                name: {"received": s.received, "lost": s.lost, "rate_hz": round(s.rate_hz(now_ns), 2)}
                for name, s in self.streams.items()
            }

    def decoder_report(self, whole_run: bool = False) -> dict[str, dict[str, object]]:
        """Decisions, skipped frames, starts, unknown answers and latency of every decoder.

        Latency is that of the latest answers, or with `whole_run` that of all, which takes longer the longer the run.
        """
        with self._lock:
            counts: dict[str, dict[str, object]] = {
                name: {
                    "decisions": d.decisions,
                    "skipped": d.skipped,
                    "generation": d.generation,
                    "unknown": count_unknown(d.statuses),
                }
                for name, d in self.decoders.items()
            }
            latency_ns = {name: d.copy_latency_ns(whole_run) for name, d in self.decoders.items()}
        # sorted after the lock is let go: every frame needs it
        return {name: {**counts[name], "latency_ms": _latency_ms(latency_ns[name])} for name in counts}

    def all_latencies_ms(self) -> dict[str, float] | None:
        """Latency over all decoders' answers, of the whole run."""
        with self._lock:
            every = [decoder.copy_latency_ns(whole_run=True) for decoder in self.decoders.values()]
        return _latency_ms(np.concatenate([np.empty(0, np.int64), *every]))


def _latency_ms(latency_ns: NDArray[np.int64]) -> dict[str, float] | None:
    """Median, 99th percentile and maximum, None before the first answer."""
    if not len(latency_ns):
        return None
    p50, p99, largest = np.percentile(latency_ns / 1e6, [50, 99, 100])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "max": round(float(largest), 3)}


def recorder_report(
    status: RecorderStatus, output: Path, elapsed_s: float, min_free_gb: float
) -> dict[str, float]:
    """How the recorder keeps up, and how long the disk will last at the file's mean rate.

    `min_free_gb` is what is to stay free: the run stops when less is left.
    """
    free_bytes = shutil.disk_usage(output.parent).free
    usable_bytes = max(0.0, free_bytes - min_free_gb * 1e9)
    bytes_per_s = output.stat().st_size / max(elapsed_s, 1.0)
    return {
        "queued_messages": status.queued_messages,
        "queued_mb": round(status.queued_bytes / 1e6, 2),
        "high_water_mb": round(status.high_water_bytes / 1e6, 2),
        "disk_free_gb": round(free_bytes / 1e9, 2),
        "minutes_left": round(usable_bytes / max(bytes_per_s, 1.0) / 60, 1),
    }
