"""Whole runs of the simulated mouse through the command line, on real processes, ports, bus and files."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pynwb
import pytest
from nwbinspector import Importance, inspect_nwbfile

from rig.bus import Bus
from rig.messages import Event
from rig.recording.reader import SessionReader
from tests.rig_command import CONFIGS, rig, rig_json, simulated_mouse, start_rig


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One run of six seconds with both decoders, and its report."""
    session = tmp_path_factory.mktemp("live") / "session.nwb"
    report = rig_json(
        "run", CONFIGS / "simulated_mouse.yaml", "--duration", 6, "--no-gui", "--output", session
    )
    return session, report


def wait_for_children(engine: subprocess.Popen[str], what: str, timeout_s: float = 60) -> psutil.Process:
    """Wait for the engine's child whose command line contains `what`."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        for child in psutil.Process(engine.pid).children():
            if what in " ".join(child.cmdline()):
                return child
        time.sleep(0.1)
    raise AssertionError(f"no child {what!r}")


def wait_until_running(session: Path, timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not session.exists():
        assert time.monotonic() < end, "the run did not begin"
        time.sleep(0.1)


def finish(engine: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = engine.communicate(timeout=90)
    assert out, err
    report: dict[str, Any] = json.loads(out)
    return report


def test_the_report_is_what_scripts_rely_on(live: tuple[Path, dict[str, Any]]) -> None:
    session, report = live
    assert report["session"] == str(session)
    assert report["finish_reason"] == "completed"
    assert set(report["streams"]) == {"widefield", "two_photon", "treadmill", "pupil", "stimulus"}
    assert all(stream["lost"] == 0 for stream in report["streams"].values())
    assert report["streams"]["widefield"]["received"] == pytest.approx(180, abs=10)
    assert report["decisions"] == pytest.approx(360, abs=20)
    assert set(report["latency_ms"]) == {"p50", "p99", "max"}


def test_the_file_is_complete_and_good_nwb(live: tuple[Path, dict[str, Any]]) -> None:
    session, report = live
    verified = rig_json("verify", session)
    assert verified["complete"]
    for name, stream in verified["streams"].items():
        assert stream["expected"] == stream["recorded"] == report["streams"][name]["received"]
        assert stream["gaps"] == []
    assert pynwb.validate(path=str(session)) == []
    worst = [
        message
        for message in inspect_nwbfile(nwbfile_path=str(session))
        if message.importance in (Importance.CRITICAL, Importance.ERROR)
    ]
    assert worst == []


def test_paths_that_scripts_rely_on(live: tuple[Path, dict[str, Any]]) -> None:
    with pynwb.NWBHDF5IO(str(live[0]), "r") as io:
        nwb = io.read()
        assert nwb.acquisition["widefield"].data.shape[1:] == (128, 128)
        series = nwb.processing["behavior"].data_interfaces
        speed = [
            s
            for i in series.values()
            for s in getattr(i, "time_series", {}).values()
            if s.name == "running_speed"
        ]
        assert len(speed) == 1
        decoding = nwb.processing["decoding"].data_interfaces
        assert decoding["behavior"].timestamps is not None
        assert decoding["reconstruction"].data.shape[1:] == (36, 64)


def test_replay_decides_the_same_to_the_bit(live: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    session, report = live
    again = tmp_path / "again.nwb"
    replayed = rig_json("replay", session, "--speed", "max", "--output", again)
    for name, compared in replayed["compared"].items():
        assert compared["live"] == compared["identical"] == report["decoders"][name]["decisions"]
        assert compared["first_difference"] is None
        assert compared["same_decoder"]
    assert rig_json("verify", again)["complete"]
    with SessionReader(session) as first, SessionReader(again) as second:
        for camera in ("widefield", "two_photon"):
            a, b = first.frames(camera), second.frames(camera)
            for column in ("index", "device_ticks", "arrival_ns", "session_ns", "uncertainty_ns"):
                assert (getattr(a, column) == getattr(b, column)).all(), column
            assert (a.pixels[:] == b.pixels[:]).all()
        for stream in ("treadmill", "pupil", "stimulus"):
            x, y = first.samples(stream), second.samples(stream)
            assert np.array_equal(x.values, y.values, equal_nan=True)
            assert (x.session_ns == y.session_ns).all()
        switched = [
            (o.on, o.reason, o.prediction_index) for o in first.outputs("laser") if o.prediction_index >= 0
        ]
        assert switched == [
            (o.on, o.reason, o.prediction_index) for o in second.outputs("laser") if o.prediction_index >= 0
        ]


def test_replay_in_time(live: tuple[Path, dict[str, Any]]) -> None:
    begin = time.monotonic()
    replayed = rig_json("replay", live[0], "--speed", "2")
    assert time.monotonic() - begin > 3
    assert replayed["compared"]["behavior"]["first_difference"] is None
    assert replayed["session"] is None


def test_info(live: tuple[Path, dict[str, Any]]) -> None:
    told = rig_json("info", live[0])
    assert told["cameras"]["widefield"]["shape"][1:] == [128, 128]
    assert "widefield" in rig("info", live[0]).stdout


def test_a_killed_decoder_loses_no_frame_and_replays(tmp_path: Path) -> None:
    session = tmp_path / "session.nwb"
    engine = start_rig(
        "run", CONFIGS / "simulated_mouse.yaml", "--duration", 7, "--no-gui", "--output", session, "--json"
    )
    wait_until_running(session)
    time.sleep(1.5)
    wait_for_children(engine, "behavior 0").send_signal(signal.SIGKILL)
    report = finish(engine)
    assert engine.returncode == 0
    assert all(stream["lost"] == 0 for stream in report["streams"].values())
    assert report["decoders"]["behavior"]["generation"] == 1
    with SessionReader(session) as reader:
        told = [event for event in reader.events() if event.kind == "decoder_lost"]
        assert [event.stream for event in told] == ["behavior"]
        assert set(reader.predictions("behavior").generation.tolist()) == {0, 1}
    assert rig_json("verify", session)["complete"]
    compared = rig_json("replay", session, "--speed", "max")["compared"]["behavior"]
    assert compared["live"] == compared["identical"] > 0


def test_a_killed_engine_leaves_what_was_flushed(tmp_path: Path) -> None:
    session, saved = tmp_path / "session.nwb", tmp_path / "saved.nwb"
    engine = start_rig(
        "run", simulated_mouse(tmp_path, without=("decoders", "closed_loop")), "--no-gui", "--output", session
    )
    wait_until_running(session)
    child = wait_for_children(engine, "rig.simulation.devices")
    time.sleep(4)
    os.kill(engine.pid, signal.SIGKILL)
    engine.communicate()
    child.wait(10)  # the simulated devices do not outlive it
    verified = rig("verify", session, "--json")
    assert verified.returncode == 1
    assert not json.loads(verified.stdout)["complete"]
    report = rig_json("recover", session, "--output", saved)
    assert report["streams"]["widefield"]["recovered"] > 60
    assert pynwb.validate(path=str(saved)) == []
    with SessionReader(saved) as reader:
        frames = reader.frames("widefield")
        assert (np.diff(frames.index) == 1).all()
        assert frames.pixels[len(frames.index) - 1].max() > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])  # Ctrl-C, and a terminal that is closed
def test_ctrl_c_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    session = tmp_path / "session.nwb"
    config = simulated_mouse(tmp_path, without=("decoders", "closed_loop"))
    inherited = signal.signal(
        signal.SIGHUP, signal.SIG_DFL
    )  # tests may run under nohup, whose choice a run keeps
    engine = start_rig("run", config, "--no-gui", "--output", session, "--json")
    signal.signal(signal.SIGHUP, inherited)
    wait_until_running(session)
    engine.send_signal(signal.SIGTSTP)  # Ctrl-Z halts nothing: a laser would stay on
    time.sleep(1)
    engine.send_signal(number)
    report = finish(engine)
    assert engine.returncode == 0
    assert report["finish_reason"] == "completed"
    assert rig_json("verify", session)["complete"]


def test_a_camera_that_vanishes_ends_the_run_with_its_file_whole(tmp_path: Path) -> None:
    session = tmp_path / "session.nwb"
    config = simulated_mouse(
        tmp_path, without=("decoders", "closed_loop"), cameras__widefield__vanish_after_s=1.5
    )
    done = rig("run", config, "--duration", 20, "--no-gui", "--output", session, "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["finish_reason"] == "failed"
    assert "vanished" in report["errors"][0]
    assert pynwb.validate(path=str(session)) == []
    verified = json.loads(rig("verify", session, "--json").stdout)
    assert not verified["complete"]
    with SessionReader(session) as reader:
        assert any(e.kind == "device_lost" and e.stream == "widefield" for e in reader.events())
        assert len(reader.frames("two_photon").index) > 30


def test_a_serial_device_that_vanishes_is_recorded_and_the_run_goes_on(tmp_path: Path) -> None:
    first = simulated_mouse(tmp_path, without=("decoders", "closed_loop"))
    ports, program = serve_devices(first, tmp_path, "--vanish", "pupil@2")
    config = simulated_mouse(
        tmp_path,
        without=("decoders", "closed_loop"),
        serial__treadmill__port=ports["treadmill"],
        serial__pupil__port=ports["pupil"],
        serial__stimulus__port=ports["stimulus"],
        outputs__laser__port=ports["laser"],
    )
    session = tmp_path / "session.nwb"
    done = rig("run", config, "--duration", 5, "--no-gui", "--output", session, "--json")
    assert program.stdin is not None
    program.communicate(timeout=10)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["streams"]["widefield"]["received"] >= 140
    with SessionReader(session) as reader:
        lost = [event.stream for event in reader.events() if event.kind == "device_lost"]
        assert lost == ["pupil"]
    verified = json.loads(rig("verify", session, "--json").stdout)
    assert not verified["complete"]
    (reason,) = verified["reasons"]
    assert reason.startswith("pupil: lost after ")


def serve_devices(config: Path, folder: Path, *faults: str) -> tuple[dict[str, str], "subprocess.Popen[str]"]:
    """Serve a rig's simulated devices by hand, as somebody would who wants them to fail."""
    from rig.config import load_config
    from rig.description import SessionDescription
    from rig.sync.clock import SessionClock

    description = folder / "devices.json"
    session = SessionDescription("devices", load_config(config), SessionClock.start())
    description.write_text(session.as_json(), encoding="utf-8")
    command = [sys.executable, "-m", "rig.simulation.devices", str(description), *faults]
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    ports: dict[str, str] = json.loads(program.stdout.readline())
    return ports, program


def test_micromanager_demo_loses_nothing(tmp_path: Path) -> None:
    session = tmp_path / "session.nwb"
    report = rig_json(
        "run", CONFIGS / "micromanager_demo.yaml", "--duration", 4, "--no-gui", "--output", session
    )
    assert report["streams"]["demo_camera"]["lost"] == 0
    assert report["streams"]["demo_camera"]["received"] > 100
    assert rig_json("verify", session)["complete"]


@pytest.mark.gui
def test_a_killed_window_loses_nothing(tmp_path: Path) -> None:
    session = tmp_path / "session.nwb"
    engine = start_rig(
        "run",
        simulated_mouse(tmp_path, without=("decoders", "closed_loop")),
        "--duration", 4, "--output", session, "--screenshots", tmp_path / "pictures", "--json",
    )  # fmt: skip
    wait_until_running(session)
    time.sleep(1)
    wait_for_children(engine, "gui.main_window").send_signal(signal.SIGKILL)
    report = finish(engine)
    assert engine.returncode == 0
    assert all(stream["lost"] == 0 for stream in report["streams"].values())
    with SessionReader(session) as reader:
        assert any(event.kind == "window_closed" for event in reader.events())


def test_check_plans_and_opens(tmp_path: Path) -> None:
    told = rig_json("check", CONFIGS / "simulated_mouse.yaml", "--open")
    assert told["plan"]["mb_per_s"] == pytest.approx(2 * 128 * 128 * 2 * 30 / 1e6, rel=0.02)
    measured = told["measured"]
    assert measured["widefield"]["rate_hz"] == pytest.approx(30, abs=2)
    assert measured["treadmill"]["rate_hz"] == pytest.approx(100, abs=5)


def test_logs_go_to_standard_error_and_reports_to_standard_output(tmp_path: Path) -> None:
    done = rig("check", CONFIGS / "simulated_mouse.yaml", "--json")
    assert re.fullmatch(r"\{.*\}\n", done.stdout)


@pytest.mark.gui
def test_the_window_starts_stops_and_notes(tmp_path: Path) -> None:
    """What the window's buttons send, over the real bus, to a run that waits for them."""
    session = tmp_path / "session.nwb"
    config = simulated_mouse(tmp_path, without=("decoders", "closed_loop"))
    engine = start_rig(
        "run", config, "--wait", "--screenshots", tmp_path / "pictures", "--output", session, "--json"
    )
    window = wait_for_children(engine, "gui.main_window")
    description = next(part for part in window.cmdline() if part.endswith(".json"))
    identifier = json.loads(Path(description).read_text(encoding="utf-8"))["identifier"]
    assert not session.exists()
    with Bus(identifier) as bus:
        commands = bus.publisher("commands", 1000)
        commands.send(Event("commands", "start", "", 0))
        wait_until_running(session)
        commands.send(Event("commands", "note", "whisker twitch, left", 123_456))
        time.sleep(2)
        commands.send(Event("commands", "stop", "", 0))
        report = finish(engine)
        commands.close()
    assert report["finish_reason"] == "completed"
    with SessionReader(session) as reader:
        notes = [event for event in reader.events() if event.kind == "note"]
        assert [(note.text, note.session_ns) for note in notes] == [("whisker twitch, left", 123_456)]
