"""From a frame's arrival to its decision, with and without the live importance map: one process, one run.

A real decoder process follows a camera on a real bus at 30 Hz. Every five seconds a reader of its importance maps comes
or goes: the decoder works on them only while somebody looks.
"""

import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks import CONFIGS, arguments, tell
from rig.bus import Bus, Publisher, Subscriber
from rig.config import load_config
from rig.description import SessionDescription
from rig.messages import EndOfStream, Frame, FrameStream, ImportanceMap, Message, Prediction
from rig.sync.clock import SessionClock

_RATE_HZ = 30.0
_BLOCK_FRAMES = 150
_SETTLE_FRAMES = 10  # after a change, left out
_READY_S = 60.0


@dataclass(slots=True)
class Side:
    """Latencies of one side, ms, and the maps that came meanwhile."""

    decision_ms: list[float] = field(default_factory=list)
    network_ms: list[float] = field(default_factory=list)
    maps: int = 0

    def report(self) -> dict[str, float]:
        """Median and 99th percentile of arrival to decision, and the network's share."""
        p50, p99, worst = np.percentile(self.decision_ms, [50, 99, 100])
        network = float(np.median(self.network_ms))
        figures = {"p50_ms": p50, "p99_ms": p99, "max_ms": worst, "network_p50_ms": network}
        rounded = {name: round(float(value), 3) for name, value in figures.items()}
        return {**rounded, "decisions": len(self.decision_ms), "maps": self.maps}


class Bench:
    """The engine's side of the bus."""

    def __init__(self, bus: Bus, session: SessionDescription, camera: Publisher, answers: Subscriber) -> None:
        self._bus, self._clock = bus, session.clock
        self._camera, self._answers = camera, answers
        self._pixels = np.random.default_rng(0).integers(100, 4000, (60, 128, 128), np.uint16)
        self._index = 0
        self._due_s = time.monotonic()

    def block(self, side: Side, with_map: bool) -> None:
        """Send one block's frames, and gather its answers."""
        maps = self._bus.subscriber("behavior.importance", 64) if with_map else None
        for k in range(_BLOCK_FRAMES):
            answer = self.decide()
            if k >= _SETTLE_FRAMES and answer is not None:
                side.decision_ms.append((answer.inference_end_ns - answer.frame_arrival_ns) / 1e6)
                side.network_ms.append((answer.inference_end_ns - answer.inference_start_ns) / 1e6)
            while maps is not None and isinstance(maps.receive(), ImportanceMap):
                side.maps += 1
        if maps is not None:
            maps.close()

    def decide(self) -> Prediction | None:
        """Send a frame when it is due, and wait until just before the next for the answer to it."""
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        self._due_s = max(self._due_s, time.monotonic() - 1.0) + 1 / _RATE_HZ
        index, self._index = self._index, self._index + 1
        now_ns = self._clock.now_ns()
        self._camera.send(Frame("widefield", index, -1, now_ns, self._pixels[index % 60], now_ns))
        end_s = time.monotonic() + 0.8 / _RATE_HZ
        while (left_s := end_s - time.monotonic()) > 0:
            message: Message | None = self._answers.receive(left_s)
            if isinstance(message, Prediction) and message.source_index == index:
                return message
        return None


def run(bus: Bus, session: SessionDescription, folder: Path, seconds: float) -> tuple[Side, Side]:
    """Alternate for so long; return what was measured without and with the map."""
    description = folder / "session.json"
    description.write_text(session.as_json(), encoding="utf-8")
    camera = bus.publisher("widefield", 1 << 16)
    answers, ready = bus.subscriber("behavior", 64), bus.subscriber("behavior.ready", 4)
    command = [sys.executable, "-m", "decoders.worker", str(description), "behavior", "0"]
    decoder = subprocess.Popen(command)
    without, with_map = Side(), Side()
    try:
        if ready.receive(_READY_S) is None:
            raise RuntimeError("the decoder was not ready in time")
        bench = Bench(bus, session, camera, answers)
        bench.block(Side(), with_map=False)  # warming up
        for _ in range(max(1, round(seconds * _RATE_HZ / _BLOCK_FRAMES / 2))):
            bench.block(without, with_map=False)
            bench.block(with_map, with_map=True)
        camera.send(EndOfStream("widefield", 0, "the end"))
        decoder.wait(10)
    finally:
        decoder.kill()
        decoder.wait()
        for port in (camera, answers, ready):
            port.close()
    return without, with_map


def main() -> None:
    """Run, and print both sides."""
    asked = arguments(__doc__, seconds=60.0)
    config = load_config(CONFIGS / "simulated_mouse.yaml")
    identifier = f"bench-{uuid.uuid4().hex[:8]}"
    frames = (FrameStream("widefield", 128, 128, "uint16", _RATE_HZ, 0.0),)
    session = SessionDescription(identifier, config, SessionClock.start(), frames=frames)
    with tempfile.TemporaryDirectory() as folder, Bus(identifier) as bus:
        without, with_map = run(bus, session, Path(folder), asked.seconds)
    off, on = without.report(), with_map.report()
    tell(
        asked,
        {
            "data": "noise frames 128x128 at 30 Hz, one decoder process, blocks of 5 s with and without a reader",
            "arrival_to_decision": {"map_off": off, "map_on": on},
            "ratio_p50": round(on["p50_ms"] / off["p50_ms"], 3),
            "ratio_p99": round(on["p99_ms"] / off["p99_ms"], 3),
        },
    )


if __name__ == "__main__":
    main()
