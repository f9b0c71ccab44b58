"""`rig explain behavior` on simulated mice, with a model that reads forelimb S1 and nothing else."""

import json
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console

from decoders.atlas import area_masks
from decoders.behavior.baselines import LinearBaseline, normalised_frames
from decoders.behavior.explained import tables
from decoders.datasets.recordings import open_recordings
from decoders.normalise import bin_area
from rig.cli import main
from tests.rig_command import ROOT, assert_one_clear_line, rig_json

Here = Callable[..., subprocess.CompletedProcess[str]]
SIZE_PX = 64
FEW = ("--mask-px", 16, "--stride-px", 16, "--no-sides", "--no-controls")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    content = yaml.safe_load((ROOT / "docs" / "training" / "behavior.yaml").read_text(encoding="utf-8"))
    camera = content["cameras"]["widefield"]
    camera |= {"height_px": SIZE_PX, "width_px": SIZE_PX}
    camera["imaging"]["pixel_size_um"] *= 2
    (folder / "rig.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    made = folder / "sessions"
    rig_json("simulate", folder / "rig.yaml", "--out", made, "--mice", 2, "--minutes", 0.75)
    return made


def forelimb_reader(folder: Path, data: Path, mouse: str) -> Path:
    """Write a checkpoint that weighs the pixels of forelimb S1."""
    with open_recordings([data], "sessions") as recordings:
        (recording,) = [recording for recording in recordings if recording.mouse == mouse]
        masks = area_masks(recording)
        seen_px = normalised_frames(recording, data).shape[1:]
    forelimbs = bin_area(masks["L-FL"] | masks["R-FL"], *seen_px)
    pixels = (forelimbs / forelimbs.sum()).reshape(1, -1).astype(np.float32)
    weights, path = np.full((3, 1), 2, np.float32), folder / f"{mouse}.npz"
    LinearBaseline("logistic", weights, 0.0, pixels, (SIZE_PX, SIZE_PX), 30.0, data).save(path)
    return path


@pytest.fixture(scope="module")
def evaluation(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay out a folder as `rig evaluate behavior --out` leaves it."""
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "checkpoints").mkdir()
    mice = ["simulated-100", "simulated-101"]
    for mouse in mice:
        forelimb_reader(folder / "checkpoints", data, mouse)
    folds = [{"test_mouse": mouse, "checkpoints": [f"checkpoints/{mouse}.npz"]} for mouse in mice]
    (folder / "report.json").write_text(json.dumps({"scheme": "leave-one-animal-out", "folds": folds}))
    return folder


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """Run `rig explain behavior` in this process, with its exit code and what it prints; importing takes a second."""

    def run(*options: object) -> subprocess.CompletedProcess[str]:
        arguments = ["rig", "explain", "behavior", *map(str, options)]
        monkeypatch.setattr(sys, "argv", arguments)
        monkeypatch.chdir(ROOT)
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return subprocess.CompletedProcess(arguments, ended.value.code, output.out, output.err)

    return run


@pytest.fixture(scope="module")
def explained(data: Path, evaluation: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("out") / "explained"
    report = rig_json("explain", "behavior", "--data", data, "--models", evaluation, "--out", out, *FEW)
    return report, out


def test_forelimbs_come_first_on_the_mice_that_models_were_kept_from(explained: tuple[dict, Path]) -> None:
    report, _ = explained
    assert sorted(report["mice"]) == ["simulated-100", "simulated-101"]
    for name, mouse in report["mice"].items():
        assert mouse["models"] == [name]
        assert mouse["auc"]["mean"] > 0.6
        forelimb, *others = mouse["areas"]
        assert forelimb["name"] == "FL"
        # the model bins pixels, so that a neighbour's border takes a little of the forelimb's
        assert all(area["drop"]["mean"] < forelimb["drop"]["mean"] / 3 for area in others)
        assert sum(area["drop"]["mean"] == 0 for area in others) > 15
        assert mouse["limbs_first"]["ranks"]["FL"] == 1
        assert not mouse["limbs_first"]["apart"]
        assert np.shape(mouse["grid"]["drop"]) == (4, 4)
        assert np.max(mouse["grid"]["drop"]) > 0
    assert report["limbs"]["limbs_first"]["mice"] == 2
    assert set(report["placements"]) == {"training_behavior-100", "training_behavior-101"}
    assert report["provenance"]["data"] == "simulated"


def test_the_report_and_its_pictures_are_written(explained: tuple[dict, Path]) -> None:
    report, out = explained
    assert json.loads((out / "importance.json").read_text(encoding="utf-8")) == report
    for picture in ("importance.png", "areas.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")


def test_tables_for_people(explained: tuple[dict, Path]) -> None:
    console = Console(width=100, file=StringIO(), record=True)
    for table in tables(explained[0]):
        console.print(table)
    lines = console.export_text().splitlines()
    (mouse,) = (line for line in lines if "simulated-100" in line)
    assert f"{explained[0]['mice']['simulated-100']['auc']['mean']:.3f}" in mouse
    assert " FL " in mouse
    assert any(" 1 FL " in line for line in lines)
    assert sum(" 1 FL&HL " in line for line in lines) == 2  # by AUC and by evidence


def test_the_page_needs_nothing_else(explained: tuple[dict, Path]) -> None:
    page = (explained[1] / "importance.html").read_text(encoding="utf-8")
    assert "http" not in page
    assert page.count('<path class="area"') > 60
    assert 'data-name="L-FL"' in page
    for group in ("areas", "parts"):
        for found in explained[0]["mean"]["evidence"][group]:
            assert f"<td>{found['drop']['mean']:+.3f} [" in page


def test_a_report_is_never_overwritten(
    data: Path, evaluation: Path, explained: tuple[dict, Path], here: Here
) -> None:
    done = here("--data", data, "--models", evaluation, "--out", explained[1])
    assert_one_clear_line(done, "importance.json: exists already")


def test_without_areas_no_landmarks_are_needed(data: Path, evaluation: Path, here: Here) -> None:
    model = evaluation / "checkpoints" / "simulated-101.npz"
    asked = ("--data", data, "--models", model, "--mask-px", 32, "--no-areas", "--shape", "circle")
    report = json.loads(here(*asked, "--json").stdout)
    assert "areas" not in report["mean"]
    assert report["masks"] == {**report["masks"], "shape": "circle", "size_px": 32, "stride_px": 8}
    assert len(report["mean"]["border"]) == 7


def test_retraining_on_parts(data: Path, here: Here) -> None:
    asked = ("--data", data, "--retrain", "logistic", "--part", "FL&HL", "--part", "V1&medial visual")
    parts = json.loads(here(*asked, "--json").stdout)["retraining"]["parts"]
    assert set(parts) == {"FL&HL", "V1&medial visual"}
    assert parts["FL&HL"]["published_auc"] == 0.966
    assert set(parts["FL&HL"]["mice"]) == {"simulated-100", "simulated-101"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], ["nothing to explain", "--models"]),
        (["--models", "missing.npz"], ["missing.npz"]),
        (["--models", "decoders/checkpoints/reconstruction.npz"], ["reconstruction", "valid"]),
        (["--models", "MODEL", "--mask-px", 65], ["65 px", "valid is 1 to 64"]),
        (["--models", "MODEL", "--mask-px", 8, "--stride-px", 9], ["stride of 9 px", "valid is 1 to 8"]),
        (
            ["--models", "MODEL", "--landmarks", "bregma=1,2"],
            ["1 landmarks_px", "valid is two or three", "--landmarks"],
        ),
        (["--models", "MODEL", "--landmarks", "nose=1,2"], ["nose", "valid is [column, row]"]),
        (
            ["--models", "MODEL", "--landmarks", "bregma=900,900", "--landmarks", "lambda=900,930"],
            ["outside the frame of 64x64 px", "valid is"],
        ),
        (
            ["--models", "MODEL", "--atlas", "docs"],
            ["dorsal_cortex_projection.npy", "valid is a label image"],
        ),
        (["--retrain", "nonsense"], ["nonsense", "valid"]),
        (["--retrain", "logistic", "--part", "toes"], ["toes", "FL&HL"]),
        (["--models", "MODEL", "--out", "missing/folder"], ["there is no folder"]),
    ],
)
def test_bad_input(data: Path, evaluation: Path, options: list[object], said: list[str], here: Here) -> None:
    model = evaluation / "checkpoints" / "simulated-100.npz"
    given = [model if option == "MODEL" else option for option in options]
    assert_one_clear_line(here("--data", data, *given), *said)


def test_models_of_within_session_are_refused(
    data: Path, evaluation: Path, tmp_path: Path, here: Here
) -> None:
    (tmp_path / "checkpoints").mkdir()
    model = evaluation / "checkpoints" / "simulated-100.npz"
    (tmp_path / "checkpoints" / "a_block1.npz").write_bytes(model.read_bytes())
    (tmp_path / "report.json").write_text(json.dumps({"scheme": "within-session", "folds": []}))
    done = here("--data", data, "--models", tmp_path)
    assert_one_clear_line(done, "other blocks of the session", "leave-one-animal-out")


def test_an_unfinished_evaluation_is_refused(
    data: Path, evaluation: Path, tmp_path: Path, here: Here
) -> None:
    (tmp_path / "checkpoints").mkdir()
    model = tmp_path / "checkpoints" / "simulated-100.npz"
    model.write_bytes((evaluation / "checkpoints" / "simulated-100.npz").read_bytes())
    (tmp_path / "request.json").write_text("{}")
    for given in (tmp_path, model):
        done = here("--data", data, "--models", given)
        assert_one_clear_line(
            done, "an unfinished evaluation", f"rig evaluate behavior` with --out {tmp_path}"
        )


def test_frames_of_another_size_are_refused(data: Path, evaluation: Path, tmp_path: Path, here: Here) -> None:
    pixels = np.zeros((1, 32 * 32), np.float32)
    model = LinearBaseline("logistic", np.ones((1, 1), np.float32), 0.0, pixels, (32, 32), 30.0, data)
    model.save(tmp_path / "small.npz")
    done = here("--data", data, "--models", tmp_path / "small.npz")
    assert_one_clear_line(done, "frames of 64x64 pixels; this logistic model was trained on 32x32 pixels")


def test_models_of_other_mice_are_refused(data: Path, evaluation: Path, here: Here) -> None:
    (one,) = data.glob("*-100.nwb")
    done = here("--data", one, "--models", evaluation)
    assert_one_clear_line(done, "simulated-101", "kept from simulated-100")
