import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rig.config import SimulationConfig
from rig.description import SessionDescription
from rig.drivers.protocols import EventSource
from rig.errors import DeviceLost
from rig.messages import Event, Gap, Samples
from rig.simulation.devices import DeviceClock
from rig.simulation.mouse import Mouse
from rig.stimulus import shown_at
from rig.sync.clock import SessionClock
from tests.simulated_rig import SEED, YAML, SimulatedRig

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals need POSIX")
PATIENCE_S = 20.0
TURN = 2**32


def the_mouse():
    return Mouse(SEED, SimulationConfig(seed=SEED).run_fraction)


class Stream:
    """What one device said, put together."""

    def __init__(self, source: EventSource) -> None:
        self.source = source
        self.description = source.open()
        self.messages: list[object] = []
        source.start()

    def read_until(self, samples: int) -> None:
        end = time.monotonic() + PATIENCE_S
        while len(self.ticks) < samples:
            assert time.monotonic() < end, f"only {self.messages}"
            self.messages += self.source.read(0.2)

    def of(self, kind: type) -> list[object]:
        return [m for m in self.messages if isinstance(m, kind)]

    @property
    def batches(self) -> list[Samples]:
        return [m for m in self.messages if isinstance(m, Samples)]

    @property
    def ticks(self) -> NDArray[np.int64]:
        return np.concatenate([np.empty(0, np.int64), *(b.device_ticks for b in self.batches)])

    @property
    def index(self) -> NDArray[np.int64]:
        return np.concatenate([b.index + np.arange(len(b.device_ticks)) for b in self.batches])

    def column(self, name: str) -> NDArray[np.float64]:
        return np.concatenate([b.values for b in self.batches])[:, self.description.columns.index(name)]

    def sent_s(self) -> NDArray[np.float64]:
        """Session seconds at which the samples were true: each is due at a whole number of periods, and comes after."""
        period_ns = 1e9 / self.description.rate_hz
        lags = [b.arrival_ns / period_ns - (b.index + len(b.device_ticks) - 1) for b in self.batches]
        sent_s: NDArray[np.float64] = (np.floor(min(lags)) + self.index) / self.description.rate_hz
        return sent_s


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedRig]:
    with SimulatedRig(tmp_path_factory.mktemp("rig")) as rig:
        yield rig


def test_a_port_for_every_simulated_device(rig: SimulatedRig) -> None:
    assert sorted(rig.ports) == ["laser", "pupil", "stimulus", "treadmill"]
    assert all(Path(port).is_char_device() for port in rig.ports.values())


def test_the_treadmill_turns_as_the_mouse_runs(tmp_path: Path) -> None:
    mouse = the_mouse()
    running_s = np.flatnonzero(mouse.running(np.arange(0, 600, 1.0)))
    start_s = next(t for t in running_s if mouse.running(t + np.arange(0, 15, 1.0)).all())  # a long bout
    now = SessionClock.start()
    clock = SessionClock(now.zero_ns - int(start_s * 1e9), now.started_at)
    with SimulatedRig(tmp_path, clock=clock) as rig:
        stream = Stream(rig.source("treadmill"))
        stream.read_until(150)
        stream.source.close()
    t_s = stream.sent_s()
    mm_per_count = np.pi * 150 / 4096
    np.testing.assert_array_equal(
        stream.column("count"), np.floor(mouse.wheel_position_mm(t_s) / mm_per_count)
    )
    speed = stream.column("running_speed")
    known = np.isfinite(speed)
    truth = (mouse.wheel_position_mm(t_s) - mouse.wheel_position_mm(t_s - 0.05)) / 0.05
    assert known.sum() >= 140
    assert np.abs(speed - truth)[known].max() <= 1.1 * mm_per_count / 0.05
    assert np.median(truth) > 50


def test_the_pupil_is_the_mouses(rig: SimulatedRig) -> None:
    stream = Stream(rig.source("pupil"))
    stream.read_until(40)
    stream.source.close()
    mouse, t_s = the_mouse(), stream.sent_s()
    np.testing.assert_allclose(stream.column("diameter"), mouse.pupil_diameter_mm(t_s), atol=1e-4)
    position = np.stack([stream.column("x"), stream.column("y")], axis=-1)
    np.testing.assert_allclose(position, mouse.pupil_position_mm(t_s), atol=1e-4)


def test_the_stimulus_follows_the_schedule_that_the_neurons_see(rig: SimulatedRig) -> None:
    stream = Stream(rig.source("stimulus"))
    stream.read_until(40)
    stream.source.close()
    shown = [shown_at(round(t * 30), 2, 30, 30.0) for t in stream.sent_s()]
    assert np.stack([stream.column("clip"), stream.column("movie_frame")], axis=-1).tolist() == [
        list(s) for s in shown
    ]
    assert len(set(shown)) > 10


def test_every_device_has_its_own_drifting_clock_that_will_turn_over(rig: SimulatedRig) -> None:
    offsets = []
    for name in ("treadmill", "pupil"):
        stream = Stream(rig.source(name))
        stream.read_until(60)
        stream.source.close()
        assert not stream.of(Gap)
        lag_ms = np.array([(b.arrival_ns / 1e6 - b.device_ticks[-1] / 1e3) for b in stream.batches])
        assert np.ptp(lag_ms) > 0.5  # the delays of USB
        offsets.append(round(float(stream.ticks[0] / 1e6 - stream.sent_s()[0]), 3))
    assert offsets[0] != offsets[1]


def test_the_same_seed_gives_the_same_clocks(tmp_path: Path) -> None:
    one, again, other = (DeviceClock(1e6, 32, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.ticks(10**9) == again.ticks(10**9) != other.ticks(10**9)
    for clock in (one, other):
        passed = (clock.ticks(10**11) - clock.ticks(0)) % TURN
        assert 0 < abs(passed - 10**8) <= 5001  # 50 ppm of 100 s
        assert clock.ticks(31 * 10**9) < clock.ticks(0)


def test_a_stream_across_the_turn_of_its_clock_has_neither_gap_nor_jump(tmp_path: Path) -> None:
    yaml = YAML.replace("rate_hz: 100,", "rate_hz: 100, tick_bits: 20,")  # over every 1.05 s
    with SimulatedRig(tmp_path, yaml=yaml) as rig:
        stream = Stream(rig.source("treadmill"))
        stream.read_until(250)
        stream.source.close()
    assert stream.messages == list(stream.batches)
    assert np.diff(stream.ticks).min() > 9900
    assert np.diff(stream.ticks).max() < 10100


def test_faults_are_told_as_gaps_and_junk_and_what_is_left_is_right(tmp_path: Path) -> None:
    with SimulatedRig(tmp_path, "--corrupt", "0.05", "--drop", "0.1") as rig:
        stream = Stream(rig.source("treadmill"))
        stream.read_until(250)
        stream.source.close()
    gaps = [m for m in stream.messages if isinstance(m, Gap)]
    assert sum(gap.count for gap in gaps) > 10
    expected = 0
    for message in (m for m in stream.messages if isinstance(m, Samples | Gap)):
        assert expected == (message.first if isinstance(message, Gap) else message.index)
        expected += message.count if isinstance(message, Gap) else len(message.device_ticks)
    events = [m for m in stream.messages if isinstance(m, Event)]
    assert {event.kind for event in events} == {"serial_junk"}
    # a sample's index still tells its time, whatever was lost before it
    steps = np.diff(stream.ticks) / np.diff(stream.index)
    assert np.abs(steps - 10_000).max() < 2
    position = np.floor(the_mouse().wheel_position_mm(stream.sent_s()) / (np.pi * 150 / 4096))
    np.testing.assert_array_equal(stream.column("count"), position)


def test_one_device_vanishes_one_falls_silent_and_the_third_goes_on(tmp_path: Path) -> None:
    now = SessionClock.start()
    long_ago = SessionClock(now.zero_ns - 60 * 10**9, now.started_at)  # faults wait for the host's first word
    with SimulatedRig(tmp_path, "--vanish", "pupil@2", "--silence", "stimulus@2", clock=long_ago) as rig:
        pupil, stimulus, treadmill = (Stream(rig.source(name)) for name in ("pupil", "stimulus", "treadmill"))
        with pytest.raises(DeviceLost, match=r"^pupil: "):
            pupil.read_until(10_000)
        assert len(pupil.ticks) > 10
        while not stimulus.of(Event):
            stimulus.messages += stimulus.source.read(0.5)
        (event,) = stimulus.of(Event)
        assert isinstance(event, Event)
        assert event.kind == "serial_silent"
        before = len(treadmill.ticks)
        treadmill.read_until(before + 100)
        assert not treadmill.of(Event)
        assert not treadmill.of(Gap)
        for stream in (pupil, stimulus, treadmill):
            stream.source.close()
    assert all(b.arrival_ns > 0 for b in pupil.batches)


def test_quiet_until_hello_and_after_goodbye(rig: SimulatedRig) -> None:
    source = rig.source("treadmill")
    source.open()
    assert list(source.read(0.1)) == []
    source.close()


def test_it_ends_when_its_input_closes(tmp_path: Path) -> None:
    assert SimulatedRig(tmp_path).close() == 0


def test_it_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    """Also when somebody else still holds its standard input open."""
    with SimulatedRig(tmp_path) as rig:
        arguments = [str(tmp_path / "session.json")]
        assert rig.ports
    reader, writer = os.pipe()
    parent = (
        "import subprocess, sys\n"
        "command = [sys.executable, '-m', 'rig.simulation.devices', *sys.argv[1:]]\n"
        "child = subprocess.Popen(command, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", parent, *arguments], stdin=reader, stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    pid = int(started.stdout.readline())
    started.stdout.close()
    started.wait(PATIENCE_S)
    end = time.monotonic() + PATIENCE_S
    while _alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    os.close(writer)
    os.close(reader)
    if _alive(pid):
        os.kill(pid, signal.SIGKILL)
        pytest.fail("it outlived its parent")


def _alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped yet does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.json"], "nowhere.json"),
        (
            ["session.json", "--vanish", "lamp@3"],
            "no simulated device is called lamp; valid: pupil, stimulus",
        ),
        (["session.json", "--silence", "pupil@soon"], "pupil@soon"),
    ],
)
def test_what_it_cannot_do_is_explained(
    rig: SimulatedRig, arguments: list[str], says: str, tmp_path: Path
) -> None:
    (tmp_path / "session.json").write_text(SessionDescription("x", rig.config, rig.clock).as_json())
    found = subprocess.run(
        [sys.executable, "-m", "rig.simulation.devices", *arguments],
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert found.returncode == 2
    assert says in found.stderr
    assert "Traceback" not in found.stderr
