"""`rig simulate-movies`, and `rig data sensorium` against a server on this machine."""

import functools
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from decoders.commands.data import data
from decoders.datasets.movies import open_movies
from decoders.datasets.sensorium_download import MICE
from rig.errors import DataError
from tests.rig_command import assert_one_clear_line, rig, rig_json
from tests.unit.sensorium_layout import sensorium_mouse

NEW = next(mouse for mouse in MICE if "29515" in mouse)
OLD = next(mouse for mouse in MICE if "29228" in mouse)


@pytest.fixture
def gin(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Serve a folder as GIN does, (address, folder)."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    served = tmp_path / "gin"
    served.mkdir()
    handler = functools.partial(Quiet, directory=str(served))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", served
    server.shutdown()
    thread.join()
    server.server_close()


def publish(served: Path, mouse: str, files: dict[str, bytes]) -> bytes:
    """Put an archive where the server has it, and return its content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    path = served / MICE[mouse] / "raw" / "master" / f"{mouse}.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def files_of_a_mouse(folder: Path, prefix: str) -> dict[str, bytes]:
    mouse = sensorium_mouse(folder, ["train", "oracle", "train"])
    files = (path for path in sorted(mouse.rglob("*")) if path.is_file())
    return {f"{prefix}{path.relative_to(mouse).as_posix()}": path.read_bytes() for path in files}


def fetch(url: str, folder: Path, *mice: str) -> dict[str, Any]:
    """Run the command in this process, with its errors as they are raised."""
    named = [part for mouse in mice for part in ("--mouse", mouse)]
    arguments = ["sensorium", "--to", str(folder), "--base-url", url, "--json", *named]
    done = CliRunner().invoke(data, arguments, catch_exceptions=False)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_two_mice_from_two_repositories(gin: tuple[str, Path], tmp_path: Path) -> None:
    url, served = gin
    publish(served, NEW, files_of_a_mouse(tmp_path / "a", f"{NEW}/") | {"__MACOSX/._data": b"junk"})
    bare = publish(served, OLD, files_of_a_mouse(tmp_path / "b", ""))
    folder = tmp_path / "to"
    report = fetch(url, folder, "29515-10-12", OLD)
    assert [file["name"] for file in report["files"]] == [f"{NEW}.zip", f"{OLD}.zip"]
    assert report["files"][1]["checksum"] == "sha256:" + hashlib.sha256(bare).hexdigest()
    assert [mouse.name for mouse in open_movies(folder, "sensorium")] == sorted([NEW, OLD])
    assert not (folder / "__MACOSX").exists()
    (folder / OLD / "data" / "responses" / "1.npy").unlink()
    again = fetch(url, folder, "29515-10-12", OLD)
    assert not any(file["fetched"] for file in again["files"])
    assert (folder / OLD / "data" / "responses" / "1.npy").exists()


def test_the_first_checksum_holds(gin: tuple[str, Path], tmp_path: Path) -> None:
    url, served = gin
    content = publish(served, NEW, {"data/a": b"1"})
    fetch(url, tmp_path, NEW)
    kept = (tmp_path / f"{NEW}.zip.sha256").read_text()
    assert kept == f"{hashlib.sha256(content).hexdigest()}  {NEW}.zip\n"
    (tmp_path / f"{NEW}.zip").unlink()
    publish(served, NEW, {"data/a": b"2"})
    with pytest.raises(
        DataError, match=r"checksum is not sha256:\w+ as .*zip.sha256 says; it was thrown away"
    ):
        fetch(url, tmp_path, NEW)
    assert (tmp_path / NEW / "data" / "a").read_bytes() == b"1"


@pytest.mark.parametrize("name", ["../outside", "data/../../outside", "/tmp/cortexrig-outside"])
def test_an_archive_must_stay_in_its_folder(gin: tuple[str, Path], tmp_path: Path, name: str) -> None:
    url, served = gin
    publish(served, NEW, {"data/a": b"1", name: b"2"})
    with pytest.raises(DataError, match="outside its folder; nothing was unpacked"):
        fetch(url, tmp_path / "to", NEW)
    assert {path.name for path in (tmp_path / "to").iterdir()} == {f"{NEW}.zip", f"{NEW}.zip.sha256"}


def test_what_cannot_be_had(gin: tuple[str, Path], tmp_path: Path) -> None:
    url, _ = gin
    with pytest.raises(DataError, match=f"{NEW}.zip: the server answers 404"):
        fetch(url, tmp_path, NEW)
    with pytest.raises(DataError, match="--mouse dynamic2951: could be 3 mice; valid are"):
        fetch(url, tmp_path, "dynamic2951")
    with pytest.raises(DataError, match="--mouse 777: is no mouse; valid are dynamic29515"):
        fetch(url, tmp_path, "777")


def test_simulated_mice(tmp_path: Path) -> None:
    small = ("--neurons", 8, "--clips", 2, "--oracle-clips", 1, "--repeats", 2, "--frames", 40)
    made = rig_json("simulate-movies", "--out", tmp_path, "--mice", 2, *small, "--seed", 30)
    assert made == {"mice": [str(tmp_path / f"simulated-{seed}") for seed in (30, 31)]}
    mice = open_movies(tmp_path, "sensorium")
    assert [(mouse.name, mouse.neurons) for mouse in mice] == [("simulated-30", 8), ("simulated-31", 8)]
    assert sorted(trial.tier for trial in mice[0].trials) == ["oracle"] * 2 + ["train"] * 2
    assert not {trial.clip for trial in mice[0].trials} & {trial.clip for trial in mice[1].trials}
    done = rig("simulate-movies", "--out", tmp_path, *small, "--seed", 31)
    assert_one_clear_line(done, "simulated-31: is there already and not empty")


def test_neurons_that_look_at_a_part_of_the_screen(tmp_path: Path) -> None:
    small = ("--neurons", 200, "--clips", 1, "--oracle-clips", 0, "--frames", 30, "--seed", 30)
    spread = []
    for height, width in ((0.8, 0.8), (0.2, 0.4)):
        out = tmp_path / f"{height}"
        rig_json("simulate-movies", "--out", out, *small, "--screen-share", height, width)
        centres = np.load(out / "simulated-30" / "truth" / "receptive_fields" / "centre_px.npy")
        spread.append(centres.std(axis=0))
    rows, columns = spread[1] / spread[0]
    assert 0.25 <= rows < 0.6  # single neurons scatter beside the map's place
    assert 0.5 <= columns < 0.75
    done = rig("simulate-movies", "--out", tmp_path / "none", *small, "--screen-share", 0, 1)
    assert done.returncode == 2
    assert "--screen-share" in done.stderr
    assert not (tmp_path / "none").exists()
