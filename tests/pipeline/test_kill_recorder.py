"""A recorder's process killed at random times: everything that it had flushed comes back, and is what was sent."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pynwb
import pytest
from numpy.typing import NDArray
from pynwb import NWBHDF5IO

from rig.errors import SessionFileError
from rig.recording.reader import SessionReader
from rig.recording.recover import recover
from rig.recording.verify import verify

SIDE = 96
YAML = """
schema_version: 1
rig: killed
session: {description: Killed session, subject: {subject_id: killed-1}}
cameras:
  widefield:
    driver: simulated_widefield
    rate_hz: 30
    imaging: {kind: one_photon, indicator: GCaMP6f, excitation_nm: 470, emission_nm: 525,
              location: Isocortex, pixel_size_um: 78.0}
serial:
  treadmill: {driver: treadmill, port: simulated, columns: [ticks, count], wheel_diameter_mm: 150.0,
              counts_per_revolution: 4096}
running: {source: treadmill}
recording: {min_free_gb: 0.0, flush_s: 0.02, compression: COMPRESSION}
"""


def pixels_of(index: int) -> NDArray[np.uint16]:
    """A frame known from its index alone."""
    noise: NDArray[np.uint16] = np.random.default_rng(index).integers(0, 4000, (SIDE, SIDE)).astype(np.uint16)
    return noise


def write_until_killed(path: Path, compression: str) -> None:
    """The child: record as fast as it goes, and tell every hundredth frame."""
    from datetime import UTC, datetime

    from rig.config import parse_config
    from rig.description import SessionDescription
    from rig.messages import Event, Frame, FrameStream, Samples, SampleStream
    from rig.recording.recorder import Recorder
    from rig.sync.clock import SessionClock

    session = SessionDescription(
        "killed-session",
        parse_config(YAML.replace("COMPRESSION", compression), "killed.yaml"),
        SessionClock(0, datetime(2026, 11, 20, tzinfo=UTC)),
        (FrameStream("widefield", SIDE, SIDE, "uint16", 30.0, 1e6),),
        (SampleStream("treadmill", ("count", "running_speed"), ("count", "mm/s"), 100.0, 1e6),),
    )
    failed: list[Exception] = []
    recorder = Recorder(path, session, failed.append)
    index = 0
    while not failed:
        at_ns = index * 1_000_000
        if recorder.status().queued_messages >= 100:
            time.sleep(0.001)
        else:
            recorder.put(Frame("widefield", index, index, at_ns, pixels_of(index), at_ns, 0))
            ticks = np.array([2 * index, 2 * index + 1])
            values = np.array([[2.0 * index, 50.0], [2.0 * index + 1, 50.0]])
            recorder.put(Samples("treadmill", 2 * index, at_ns, ticks, values, ticks * 500_000, 0))
            recorder.put(Event("treadmill", "junk", f"line {index}", at_ns, at_ns))
            index += 1
            if index % 100 == 0:
                sys.stdout.write(f"{index}\n")
                sys.stdout.flush()


def kill_at(path: Path, frames: int, compression: str) -> None:
    """Run the child until it has sent so many frames, and kill it."""
    command = [sys.executable, __file__, str(path), compression]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) >= frames:
                break
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "trial", [0, 1, 2, *(pytest.param(trial, marks=pytest.mark.slow) for trial in (3, 4, 5))]
)
def test_everything_flushed_comes_back(tmp_path: Path, trial: int) -> None:
    frames = random.Random(trial).randrange(100, 1000)
    path, out = tmp_path / "killed.nwb", tmp_path / "recovered.nwb"
    kill_at(path, frames, "bitshuffle-lz4" if trial % 2 else "none")
    with SessionReader(path) as killed:
        assert killed.finish_reason is None
        flushed = len(killed.frames("widefield").index)
        with NWBHDF5IO(file=killed.file, mode="r") as io:
            assert pynwb.validate(io=io) == []
    assert not verify(path).complete
    report = recover(path, out)
    assert report.streams["widefield"].recovered == flushed
    assert flushed >= frames - 300  # what was sent before the last flushes, and what waited in the queue
    with SessionReader(out) as session:
        table = session.frames("widefield")
        assert table.index.tolist() == list(range(flushed))
        for k in range(flushed):
            np.testing.assert_array_equal(table.pixels[k], pixels_of(k))
        treadmill = session.samples("treadmill")
        assert treadmill.values[:, 0].tolist() == list(range(len(treadmill.index)))
        junk = [event.text for event in session.events() if event.kind == "junk"]
        assert junk == [f"line {k}" for k in range(len(junk))]
        assert abs(len(treadmill.index) - 2 * flushed) <= 2
    with NWBHDF5IO(out, "r") as io:
        assert pynwb.validate(io=io) == []
    problems = [
        r for r in verify(out).reasons if not r.startswith("the run failed: recovered from killed.nwb")
    ]
    assert problems == []


def test_a_killed_file_that_is_then_cut_off_gets_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "killed.nwb"
    kill_at(path, 200, "none")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(SessionFileError, match=r"killed\.nwb") as caught:
        recover(path, tmp_path / "out.nwb")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.nwb").exists()


if __name__ == "__main__":
    write_until_killed(Path(sys.argv[1]), sys.argv[2])
