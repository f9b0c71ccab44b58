"""Bad input: one clear line, exit code 2, no traceback, nothing half-written."""

import os
from pathlib import Path

import pytest

from decoders.checkpoint import SHIPPED
from rig.acquisition.readiness import decoder_problems
from rig.config import load_config
from tests.rig_command import (
    CONFIGS,
    ROOT,
    assert_one_clear_line,
    rig,
    rig_json,
    simulated_mouse,
    two_photon_alone,
)

ALONE = ("decoders", "closed_loop")
CHEAPEST = ROOT / "docs" / "training" / "behavior.yaml"


def test_unknown_key(tmp_path: Path) -> None:
    done = rig("check", simulated_mouse(tmp_path, recording={"flush": 1}))
    assert_one_clear_line(done, "rig.yaml", "recording.flush: unknown key; did you mean flush_s?")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (two_photon_alone() | {"serial__treadmill__port": "/dev/none"}, "treadmill: "),
        (two_photon_alone() | {"outputs__laser__port": "/dev/none"}, "laser: "),
        (two_photon_alone() | {"serial__pupil__port": "usb:0000:0000:none"}, "pupil: "),
        ({"cameras__widefield__bits": 8}, "widefield: gives frames of 128 x 128 pixels, 16 bits"),
        ({"stimulus__movie": {"file": "/none.npy"}}, "/none.npy: cannot be read as movies"),
    ],
)
def test_devices_that_cannot_be_opened(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    session = tmp_path / "session.nwb"
    done = rig(
        "run", simulated_mouse(tmp_path, ALONE, **changes), "--duration", 1, "--no-gui", "--output", session
    )
    assert_one_clear_line(done, said)
    assert not session.exists()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("mm_app_path", "/none", "demo_camera"),
        ("camera", "Kamera", "Kamera"),
        ("properties", {"Camera": {"Mode": "Loud"}}, "Loud"),
    ],
)
def test_micromanager_cameras_that_cannot_be_opened(
    tmp_path: Path, key: str, value: object, said: str
) -> None:
    import yaml

    content = yaml.safe_load((CONFIGS / "micromanager_demo.yaml").read_text(encoding="utf-8"))
    content.pop("decoders")
    content["cameras"]["demo_camera"][key] = value
    file = tmp_path / "rig.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    done = rig("run", file, "--duration", 1, "--no-gui", "--output", tmp_path / "session.nwb")
    assert_one_clear_line(done, said)
    assert not (tmp_path / "session.nwb").exists()


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    session = tmp_path / "session.nwb"
    session.write_bytes(b"precious")
    done = rig("run", simulated_mouse(tmp_path, ALONE), "--duration", 1, "--no-gui", "--output", session)
    assert_one_clear_line(done, "exists and is never overwritten")
    assert session.read_bytes() == b"precious"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    done = rig(
        "run", simulated_mouse(tmp_path, ALONE), "--duration", 1, "--no-gui", "--output", "/proc/none/x.nwb"
    )
    assert_one_clear_line(done, "/proc/none")


def test_a_disk_that_is_too_full(tmp_path: Path) -> None:
    config = simulated_mouse(tmp_path, ALONE, recording={"min_free_gb": 1e9})
    done = rig("run", config, "--duration", 1, "--no-gui", "--output", tmp_path / "session.nwb")
    assert_one_clear_line(done, "min_free_gb")
    assert not (tmp_path / "session.nwb").exists()


def test_a_checkpoint_that_is_none(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.npz"
    wrong.write_bytes(b"no checkpoint")
    config = simulated_mouse(tmp_path, decoders__behavior__checkpoint=str(wrong))
    done = rig("run", config, "--duration", 1, "--no-gui", "--output", tmp_path / "session.nwb")
    assert_one_clear_line(done, "decoder 'behavior'", "wrong.npz")
    assert done.stderr.count("wrong.npz") == 1
    assert not (tmp_path / "session.nwb").exists()


def test_decoders_that_cannot_begin_are_told_by_check(tmp_path: Path) -> None:
    changes: dict[str, object] = {
        "decoders__behavior__checkpoint": str(SHIPPED / "reconstruction.npz"),
        "decoders__reconstruction__checkpoint": "none.npz",
    }
    done = rig("check", simulated_mouse(tmp_path, **changes))
    assert done.returncode == 2
    behavior, reconstruction = done.stderr.splitlines()
    assert "rig.yaml: decoder 'behavior': " in behavior
    assert "holds a 'reconstruction-linear' decoder; valid here is 'behavior-cnn-gru'" in behavior
    assert "rig.yaml: decoder 'reconstruction': none.npz: no such checkpoint" in reconstruction


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"imaging__landmarks_px": {}}, "needs cameras.widefield.imaging.landmarks_px: 0 landmarks_px"),
        ({"rate_hz": 15}, "camera 'widefield' runs at 15 Hz; valid is 30 Hz"),
    ],
)
def test_cameras_that_a_decoder_refuses(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    changed = {f"cameras__widefield__{key}": value for key, value in changes.items()}
    (problem,) = decoder_problems(load_config(simulated_mouse(tmp_path, **changed)))
    assert problem.startswith("decoder 'behavior': ")
    assert said in problem


@pytest.mark.parametrize("command", ["verify", "info", "replay"])
def test_a_session_that_is_none(tmp_path: Path, command: str) -> None:
    missing = rig(command, tmp_path / "none.nwb")
    assert_one_clear_line(missing, "none.nwb")
    wrong = tmp_path / "wrong.nwb"
    wrong.write_bytes(os.urandom(4096))
    assert_one_clear_line(rig(command, wrong), "wrong.nwb")


def test_a_truncated_session(tmp_path: Path) -> None:
    session = tmp_path / "session.nwb"
    rig_json("simulate", CHEAPEST, "--out", tmp_path, "--mice", 1, "--minutes", 0.05)
    next(tmp_path.glob("*.nwb")).rename(session)
    os.truncate(session, session.stat().st_size // 2)
    assert_one_clear_line(rig("verify", session), "session.nwb")
    assert_one_clear_line(rig("recover", session, "--output", tmp_path / "out.nwb"), "session.nwb")
    assert not (tmp_path / "out.nwb").exists()


@pytest.mark.parametrize("speed", ["0", "-1", "fast", "inf", "nan"])
def test_a_speed_that_is_none(tmp_path: Path, speed: str) -> None:
    assert_one_clear_line(rig("replay", tmp_path / "x.nwb", f"--speed={speed}"), "valid is a number above 0")
