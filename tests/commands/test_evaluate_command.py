"""`rig evaluate behavior`, from session files and the published layout to a report."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.io import savemat

from decoders.behavior.causal import load
from decoders.commands.evaluate import evaluate
from decoders.datasets.recordings import open_recordings
from rig.config import load_config
from rig.errors import ConfigError, DataError
from rig.simulation.sessions import simulate_session
from tests.rig_command import assert_one_clear_line, rig, rig_json, succeed

TRAINING = Path(__file__).parents[2] / "docs" / "training"
BASELINES = {"majority", "brightness", "logistic", "svm"}


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sessions")
    config = load_config(TRAINING / "behavior.yaml")
    camera = config.cameras["widefield"]
    imaging = camera.imaging.model_copy(update={"pixel_size_um": 2 * camera.imaging.pixel_size_um})
    camera = camera.model_copy(update={"height_px": 64, "width_px": 64, "imaging": imaging})
    for seed in (6000, 6001, 6002):
        simulation = config.simulation.model_copy(update={"seed": seed})
        own = config.model_copy(update={"simulation": simulation, "cameras": {"widefield": camera}})
        simulate_session(folder / f"mouse{seed}.nwb", own, 40.0, lambda count: None)
    return folder


@pytest.fixture(scope="module")
def reported(sessions, tmp_path_factory):
    """Report and folder of one evaluation by the real command."""
    out = tmp_path_factory.mktemp("evaluation") / "report"
    report = rig_json("evaluate", "behavior", "--data", sessions, "--layout", "sessions", "--model", "logistic",
                      "--scheme", "leave-one-animal-out", "--out", out)  # fmt: skip
    return report, out


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Write three mice of two sessions in the published layout; the last session never runs."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "data_of_image_64_5mice").mkdir()
    (folder / "data_of_behavior_64_5mice").mkdir()
    lines = ["Data_ID,Mouse_#"]
    rng = np.random.default_rng(3)
    for number in range(6):
        name, mouse = f"2018012{number}_Emx1G6_LR_1", number // 2 + 1
        running = np.repeat(rng.random(15) < 0.5, 40) if number < 5 else np.zeros(600, np.bool_)
        frames = 1000 + rng.normal(0, 20, (600, 32, 32))
        frames[:, 4:12, 4:12] += 30 * running[:, None, None]
        tifffile.imwrite(folder / "data_of_image_64_5mice" / f"{name}.tif", frames.astype(np.uint16))
        behavior = {"runrest": running[None].astype(float), "speed_rs": 5.0 * running[None]}
        savemat(folder / "data_of_behavior_64_5mice" / f"{name}_behavior.mat", behavior)
        lines.append(f"{name},{mouse}")
    (folder / "data_64_5mice.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def command(*arguments):
    return succeed(evaluate, "behavior", *arguments)


def report_of(*arguments):
    return json.loads(command(*arguments, "--json").stdout)


def numbers(content):
    """Every number in a report."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        return [number for part in content for number in numbers(part)]
    return [content] if isinstance(content, float | int) else []


def test_the_fixed_keys_by_the_real_command(reported):
    report = reported[0]
    assert sorted(report["mice"]) == ["simulated-6000", "simulated-6001", "simulated-6002"]
    assert set(report["baselines"]) == BASELINES
    for figures in (*report["mice"].values(), report["mean"], *report["baselines"].values()):
        assert 0 <= figures["auc"] <= 1
        assert 0 <= figures["accuracy"] <= 1
    assert report["mean"]["auc"] == pytest.approx(
        np.mean([m["auc"] for m in report["mice"].values()]), abs=1e-5
    )
    assert report["provenance"]["data"] == "simulated"
    assert report["provenance"]["command"].startswith("rig evaluate behavior --data")
    assert np.isfinite(numbers(report)).all()


def test_a_report_folder_is_gone_on_with(sessions, reported, tmp_path):
    first, out = reported[0], shutil.copytree(reported[1], tmp_path / "report")
    asked = ("--data", sessions, "--model", "logistic", "--out", out)
    assert {path.name for path in out.iterdir()} == {
        "request.json", "folds", "checkpoints", "report.json", "report.html", "predictions.npz",
    }  # fmt: skip
    assert json.loads((out / "report.json").read_text()) == first
    for fold in first["folds"]:
        assert (out / fold["checkpoints"][0]).exists()
        assert fold["test_mouse"] not in fold["trained_on"]
    (out / "folds" / "simulated-6001__logistic.npz").unlink()  # as if it had been broken off
    kept = (out / "folds" / "simulated-6000__logistic.npz").stat().st_mtime_ns
    again = report_of(*asked)
    assert again["mice"] == first["mice"]
    assert (out / "folds" / "simulated-6000__logistic.npz").stat().st_mtime_ns == kept
    with pytest.raises(DataError, match=r"report: an evaluation with other seed \(0, not 1\)"):
        report_of(*asked, "--seed", 1)
    with pytest.raises(DataError, match=r"other scheme \(\"leave-one-animal-out\", not \"published\"\)"):
        report_of(*asked, "--scheme", "published")


def test_the_page_needs_nothing_else_and_says_what_the_data_are(reported):
    out = reported[1]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 6
    assert "simulated data" in page
    assert not re.search(r"(src|href)=[\"']?https?:", page.replace('xlink:href="#', ""))
    assert "<script" not in page
    with np.load(out / "predictions.npz") as stored:
        assert stored["simulated-6000/mouse6000/probability"].shape == (1200,)


def test_within_session_of_a_single_mouse(sessions):
    report = report_of("--data", sessions / "mouse6000.nwb", "--scheme", "within-session", "--model", "logistic",
                       "--blocks", 3, "--guard-s", 1)  # fmt: skip
    assert list(report["mice"]) == ["simulated-6000"]
    assert len(report["folds"]) == 3
    assert report["mice"]["simulated-6000"]["null"]["auc"] is None, "40 s are too short for a null"
    assert report["mice"]["simulated-6000"]["null"]["reason"]


def test_the_published_layout_and_scheme(published):
    report = report_of("--data", published, "--layout", "kobe", "--scheme", "published", "--model", "svm",
                       "--window-s", 0.5)  # fmt: skip
    assert len(report["folds"]) == 6
    assert list(report["mice"]) == ["1", "2", "3"]
    assert set(report["other_models"]) == {"logistic@0.5s"}
    assert report["provenance"]["data"] == "recorded"
    assert report["provenance"]["labels"] == "brought by the data"
    still = report["mice"]["3"]["sessions"]["20180125_Emx1G6_LR_1"]
    assert still["auc"] is None
    assert still["reasons"]["auc"] == "no running in the scored frames"
    assert report["mice"]["3"]["auc"] > 0.9, "of its other session, and pooled"
    assert report["tests"]["against"]["majority"]["runs"] == 6


def test_labels_made_anew(published):
    asked = ("--data", published, "--layout", "kobe", "--model", "majority", "--label-min-bout-s", 2)
    report = report_of(*asked)
    assert "'min_bout_s': 2.0" in report["provenance"]["labels"]
    with pytest.raises(DataError, match="without any running"):
        report_of(*asked, "--label-threshold-mm-s", 900)


def test_a_table_for_people(sessions, reported, tmp_path):
    out = shutil.copytree(reported[1], tmp_path / "report")
    shown = command("--data", sessions, "--model", "logistic", "--out", out).stdout
    assert "simulated-6001" in shown
    assert "logistic, leave-one-animal-out, simulated data" in shown


def test_the_causal_model_of_every_fold_decodes_the_mouse_it_never_saw(sessions, tmp_path):
    small = ("--epochs", 1, "--set", "channels=[4, 4]", "--set", "features=4", "--set", "hidden=4")
    out = tmp_path / "report"
    report = report_of(
        "--data", sessions, *small, "--threads", 1, "--out", out, "--cache", tmp_path / "cache"
    )
    assert report["model"] == "causal"
    assert set(report["mice"]) == {"simulated-6000", "simulated-6001", "simulated-6002"}
    assert set(report["baselines"]) == BASELINES
    for figures in (*report["mice"].values(), report["mean"]):
        assert 0 <= figures["auc"] <= 1
        assert 0 <= figures["accuracy"] <= 1
    assert len(list((tmp_path / "cache").glob("*-normalised-standard-*.npy"))) == 3
    with open_recordings([sessions], "sessions") as recordings, np.load(out / "predictions.npz") as stored:
        for fold, recording in zip(report["folds"], recordings, strict=True):
            assert fold["test_mouse"] == recording.mouse
            assert recording.session not in fold["trained_on"]
            answers = load(out / fold["checkpoints"][0]).predict(recording)
            kept = stored[f"{fold['fold']}/{recording.session}/probability"]
            np.testing.assert_allclose(answers, kept, atol=1e-6)


def test_bad_input_on_one_line(sessions):
    asked = ("evaluate", "behavior", "--data", sessions / "mouse6000.nwb")
    assert_one_clear_line(
        rig(*asked), "leave-one-animal-out with mice simulated-6000 only; valid are 2 or more"
    )
    unwritable = rig("evaluate", "behavior", "--data", sessions, "--out", "/proc/report")
    assert_one_clear_line(unwritable, "/proc/report: No such file or directory")


def test_a_folder_of_somebody_elses_is_left_alone(sessions, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(DataError, match="exists already and is no evaluation"):
        report_of("--data", sessions, "--out", tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_bad_options(sessions, tmp_path):
    with pytest.raises(DataError, match="no model 'best'; valid: causal, "):
        report_of("--data", sessions, "--model", "best")
    with pytest.raises(ConfigError, match="--set depth: valid is KEY=VALUE"):
        report_of("--data", sessions, "--set", "depth")
    nowhere = tmp_path / "none"  # refused before any data are looked for
    with pytest.raises(ConfigError, match=r"setting memory=none: valid is carried or windowed"):
        report_of("--data", nowhere, "--set", "memory=none")
    with pytest.raises(
        ConfigError, match=r"setting epochs=9: svm has no settings; those that have: causal, "
    ):
        report_of("--data", nowhere, "--model", "svm", "--set", "epochs=9")
    with pytest.raises(DataError, match="there is no folder"):
        report_of("--data", sessions, "--model", "majority", "--out", tmp_path / "none" / "report")
    with pytest.raises(DataError, match=r"40 s in 5 blocks with guards of 5 s; valid are 2 blocks or more"):
        report_of("--data", sessions, "--scheme", "within-session")
