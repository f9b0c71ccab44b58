"""`rig reconstruct`, from responses to movies in a folder that the same command goes on in."""

import json
import shutil
import time
from dataclasses import replace

import av
import numpy as np
import pytest
import typer

from decoders.commands.reconstruct import reconstruct
from decoders.datasets.movies import open_movies
from decoders.reconstruction.amortized import preview_movie
from decoders.reconstruction.similarity import compare
from rig.errors import CheckpointError, DataError
from tests.rig_command import assert_one_clear_line, rig, rig_json, start_rig, succeed

QUICK = ("--iterations", 2)
ENDINGS = {".mp4", ".npz", ".png"}
app = typer.Typer()
app.command()(reconstruct)


def command(*arguments):
    return json.loads(succeed(app, *arguments, "--json").stdout)


def changed_at(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(small_mice, tmp_path_factory):
    """Report and folder of one run of the real command: the first presentation of two movies by two mice."""
    out = tmp_path_factory.mktemp("reconstructed") / "movies"
    return rig_json("reconstruct", *small_mice.options, "--clips", 1, *QUICK, "--out", out), out


def test_every_presentation_becomes_three_files(small_mice, made):
    report, out = made
    mice = open_movies(small_mice.data, "sensorium")
    shown = {f"{mouse.name}/{trial.name}": trial for mouse in mice for trial in mouse.of_tier("oracle")}
    assert len(report["clips"]) == 4, "both presentations of one movie, to two mice"
    assert report["recipe"] == "fast"
    assert report["models"] == [str(path) for path in small_mice.encoders]
    assert report["provenance"]["data"] == "simulated"
    for name, told in report["clips"].items():
        stem = name.replace("/", "-")
        assert set(told["files"]) == {str(out / (stem + end)) for end in ENDINGS}
        with np.load(out / f"{stem}.npz") as file:
            movie, seen = file["movie"], file["shown"]
            assert str(file["metadata_mouse"]) == shown[name].mouse
            assert str(file["metadata_recipe"]) == "fast"
            assert str(file["metadata_data"]) == "simulated"
        video = np.moveaxis(shown[name].load().video, -1, 0)
        assert (movie.shape, movie.dtype) == ((70, 36, 64), np.float32)
        np.testing.assert_array_equal(seen, np.rint(video))
        assert told["correlation"] == pytest.approx(compare(video, movie).correlation, abs=1e-4)
        with av.open(str(out / f"{stem}.mp4")) as file:
            assert file.streams.video[0].frames == 70
            assert float(file.streams.video[0].average_rate) == 30
        assert (out / f"{stem}.png").read_bytes()[:4] == b"\x89PNG"


def test_the_same_command_twice_does_nothing_twice(small_mice, made):
    report, out = made
    before = changed_at(out)
    again = command(*small_mice.options, "--clips", 1, *QUICK, "--out", out)
    assert changed_at(out) == before
    assert again["clips"] == report["clips"]


def test_a_file_that_went_away_comes_back_without_a_new_reconstruction(small_mice, made, tmp_path):
    out = shutil.copytree(made[1], tmp_path / "movies")
    before = changed_at(out)
    gone = next(out.glob("*simulated-4-*.png"))
    gone.unlink()
    command(*small_mice.options, "--clips", 1, *QUICK, "--out", out)
    after = changed_at(out)
    kept = [name for name in before if gone.stem not in name]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert gone.exists()


def test_another_reconstruction_does_not_go_on_in_the_folder(small_mice, made):
    asked = (*small_mice.options, "--clips", 1, "--out", made[1])
    with pytest.raises(
        DataError, match=r"movies: a reconstruction with other iterations \(2, not 3\); give --out"
    ):
        command(*asked, "--iterations", 3)
    with pytest.raises(DataError, match=r"with other recipe \(\"fast\", not \"published\"\)"):
        command(*asked, *QUICK, "--recipe", "published")
    with pytest.raises(DataError, match=r"with other smoothing_sigma \(0.5, not 0\.0\)"):
        command(*asked, *QUICK, "--smoothing", 0)


@pytest.fixture(scope="module")
def preview(small_mice, tmp_path_factory):
    """A preview of the first mouse."""
    out = tmp_path_factory.mktemp("preview") / "preview.npz"
    sizes = ("generated=0", "epochs=1", "lags=[3]", "components=12", "sums=8", "hidden=8")
    given = [part for size in sizes for part in ("--set", size)]
    data = ("--data", small_mice.data / "simulated-3", "--layout", "sensorium", "--threads", 1)
    rig_json("train", "preview", *data, "--out", out, *given)
    return out


def test_it_begins_at_what_a_preview_reads(small_mice, preview, tmp_path):
    one_mouse = ("--data", small_mice.data / "simulated-3", "--layout", "sensorium", "--threads", 1)
    asked = ("--encoder", small_mice.encoders[0], *one_mouse, "--clips", 1, *QUICK)
    plain = command(*asked, "--out", tmp_path / "plain")
    begun = command(*asked, "--preview", preview, "--out", tmp_path / "begun")
    assert plain["preview"] is None
    assert begun["preview"] == str(preview)
    trial = open_movies(small_mice.data / "simulated-3", "sensorium")[0].of_tier("oracle")[0]
    read = preview_movie(preview, trial.load().responses)

    def found(folder):
        with np.load(tmp_path / folder / f"simulated-3-{trial.name}.npz") as file:
            return file["movie"]

    assert np.abs(found("begun") - read).mean() < np.abs(found("plain") - read).mean()
    assert np.abs(found("begun") - read).max() > 1  # but not all that it finds
    with pytest.raises(DataError, match=r"a reconstruction with other preview \(null, not "):
        command(*asked, "--preview", preview, "--out", tmp_path / "plain")
    with pytest.raises(DataError, match="recipe 'published' begins at grey"):
        command(*asked, "--preview", preview, "--recipe", "published", "--out", tmp_path / "published")


def test_a_preview_of_other_neurons_or_of_none(small_mice, preview, tmp_path):
    asked = (*small_mice.options, "--out", tmp_path / "out")
    done = rig("reconstruct", *asked, "--preview", preview)
    told = "preview.npz: a preview of one mouse with 24 neurons; the data have simulated-3 (24 neurons), sim"
    assert_one_clear_line(done, told)
    with pytest.raises(CheckpointError, match=r"encoder-0\.npz: "):
        command(*asked, "--preview", small_mice.encoders[0])
    with pytest.raises(CheckpointError, match=r"nowhere\.npz: "):
        command(*asked, "--preview", tmp_path / "nowhere.npz")
    assert not (tmp_path / "out").exists()


def test_killed_it_goes_on_where_it_was(small_mice, tmp_path):
    one_mouse = small_mice.with_one_encoder(small_mice.data / "simulated-3")
    asked = (*one_mouse.options, "--iterations", 12, "--out", tmp_path / "out")
    running = start_rig("reconstruct", *asked)
    deadline_s = time.monotonic() + 90
    while not (finished := list((tmp_path / "out").glob("[!.]*.png"))) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    running.kill()
    running.communicate()
    assert 1 <= len(finished) < 4
    before = changed_at(tmp_path / "out")
    report = command(*asked)
    assert len(report["clips"]) == 4
    after = changed_at(tmp_path / "out")
    stem = finished[0].stem
    assert {stem + end: after[stem + end] for end in ENDINGS} == {
        stem + end: before[stem + end] for end in ENDINGS
    }
    assert not list((tmp_path / "out" / "unfinished").iterdir())


def test_single_trials_of_any_tier(small_mice, tmp_path):
    data = small_mice.data / "simulated-3"
    trial = open_movies(data, "sensorium")[0].of_tier("train")[1].name
    options = (*small_mice.with_one_encoder(data).options, *QUICK)
    report = command(*options, "--trial", trial, "--out", tmp_path / "out")
    assert list(report["clips"]) == [f"simulated-3/{trial}"]
    with pytest.raises(DataError, match="no trial '99'; valid: 0, 1, 2"):
        command(*options, "--trial", trial, "--trial", 99, "--out", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_session_of_ours(small_session, tmp_path):
    report = command(*small_session.options, *QUICK, "--out", tmp_path / "out")
    assert [name.split("/")[0] for name in report["clips"]] == ["tuesday"] * len(report["clips"])
    assert report["provenance"]["data"] == "simulated"
    with np.load(next((tmp_path / "out").glob("*.npz"))) as file:
        assert file["movie"].shape[1:] == (36, 64)
        assert str(file["metadata_rate_hz"]) == "30.0"


def test_movies_along_the_motion_and_not_are_kept_apart(small_mice, made, tmp_path):
    moving, out = made
    assert moving["motion"]
    with pytest.raises(DataError, match="motion"):
        command(*small_mice.options, "--clips", 1, *QUICK, "--no-motion", "--out", out)
    one_mouse = replace(small_mice, data=small_mice.data / "simulated-3")
    still = command(*one_mouse.options, "--clips", 1, *QUICK, "--no-motion", "--out", tmp_path / "still")
    assert not still["motion"]
    assert still["clips"]
    for name, told in still["clips"].items():
        assert told["correlation"] != moving["clips"][name]["correlation"]


def test_what_was_finished_stays_when_a_later_trial_cannot_be_read(small_mice, tmp_path):
    data = shutil.copytree(small_mice.data / "simulated-3", tmp_path / "simulated-3")
    bad = open_movies(data, "sensorium")[0].of_tier("oracle")[1]
    file = data / "data" / "responses" / f"{bad.name}.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    asked = (*small_mice.with_one_encoder(data).options, *QUICK, "--out", tmp_path / "out")
    done = rig("reconstruct", *asked)
    assert_one_clear_line(done, f"data/responses/{bad.name}.npy: cut short, or no array of numbers")
    (first,) = (tmp_path / "out").glob("*.png")
    at_ns = first.stat().st_mtime_ns
    file.write_bytes(whole)
    assert len(command(*asked)["clips"]) == 4
    assert first.stat().st_mtime_ns == at_ns


def test_a_folder_of_somebody_elses_is_left_alone(small_mice, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(DataError, match="exists already and is no reconstruction; give --out another name"):
        command(*small_mice.options, *QUICK, "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
