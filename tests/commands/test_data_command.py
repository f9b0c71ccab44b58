"""`rig data kobe` against a server on this machine, from an empty folder to recordings."""

import io
import json
import zipfile

import numpy as np
import pytest
from typer.testing import CliRunner

from decoders.commands.data import data
from decoders.datasets.recordings import open_recordings
from rig.errors import DataError
from tests.commands.zenodo_server import RECORD, Zenodo, serve
from tests.rig_command import assert_one_clear_line, rig, rig_json
from tests.unit.kobe_layout import kobe_folder

BIG = np.random.default_rng(1).bytes(300_000)


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def published(tmp_path):
    """The published layout as archives and a table."""
    folder = kobe_folder(tmp_path / "published")
    files = {"data_64_5mice.csv": (folder / "data_64_5mice.csv").read_bytes()}
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        inside = {f"{place.name}/{path.name}": path.read_bytes() for path in place.iterdir()}
        files[f"{place.name}.zip"] = zipped(inside)
    return files


def fetch(zenodo: Zenodo, folder) -> dict:
    """Run the command in this process, with its errors as they are raised."""
    arguments = ["kobe", "--to", str(folder), "--base-url", zenodo.url, "--json"]
    done = CliRunner().invoke(data, arguments, catch_exceptions=False)
    report: dict = json.loads(done.stdout)
    return report


def test_from_an_empty_folder_to_recordings(published, tmp_path):
    folder = tmp_path / "new" / "kobe"
    with serve(Zenodo(published)) as zenodo:
        report = rig_json("data", "kobe", "--to", folder, "--base-url", zenodo.url + "/")
    assert (report["record"], report["folder"]) == (RECORD, str(folder))
    assert {file["name"]: file["unpacked"] for file in report["files"]} == {
        "data_64_5mice.csv": 0,
        "data_of_behavior_64_5mice.zip": 2,
        "data_of_image_64_5mice.zip": 2,
    }
    assert all(file["fetched"] for file in report["files"])
    with open_recordings([folder], "kobe") as recordings:
        assert [(r.mouse, r.session) for r in recordings] == [("1", "b"), ("2", "a")]


def test_what_is_there_is_not_fetched_again(published, tmp_path):
    with serve(Zenodo(published)) as zenodo:
        fetch(zenodo, tmp_path / "kobe")
        zenodo.asked.clear()
        (tmp_path / "kobe" / "data_of_image_64_5mice" / "a.tif").write_bytes(b"broken off")
        report = fetch(zenodo, tmp_path / "kobe")
    assert zenodo.asked == []
    assert not any(file["fetched"] for file in report["files"])
    with open_recordings([tmp_path / "kobe"], "kobe") as recordings:
        assert len(recordings) == 2


def test_a_line_that_breaks_is_gone_on_with(tmp_path):
    with serve(Zenodo({"big.bin": BIG}, break_after={"big.bin": 120_000})) as zenodo:
        fetch(zenodo, tmp_path)
    assert (tmp_path / "big.bin").read_bytes() == BIG
    assert zenodo.ranges_of("big.bin") == [None, "bytes=65536-", "bytes=131072-", "bytes=196608-"]
    assert [path.name for path in tmp_path.iterdir()] == ["big.bin"]


def test_a_download_broken_off_is_gone_on_with_by_the_same_command(tmp_path):
    (tmp_path / "big.bin.part").write_bytes(BIG[:1000])
    with serve(Zenodo({"big.bin": BIG})) as zenodo:
        fetch(zenodo, tmp_path)
    assert zenodo.ranges_of("big.bin") == ["bytes=1000-"]
    assert (tmp_path / "big.bin").read_bytes() == BIG


def test_a_server_that_cannot_go_on_sends_all_again(tmp_path):
    (tmp_path / "big.bin.part").write_bytes(BIG[:1000])
    with serve(Zenodo({"big.bin": BIG}, ranges=False)) as zenodo:
        fetch(zenodo, tmp_path)
    assert (tmp_path / "big.bin").read_bytes() == BIG


def test_a_server_that_sends_nothing_keeps_what_came(tmp_path):
    (tmp_path / "big.bin.part").write_bytes(BIG[:1000])
    with (
        serve(Zenodo({"big.bin": BIG}, break_after={"big.bin": 0})) as zenodo,
        pytest.raises(DataError, match="what has come is kept, the same command goes on"),
    ):
        fetch(zenodo, tmp_path)
    assert (tmp_path / "big.bin.part").read_bytes() == BIG[:1000]
    assert not (tmp_path / "big.bin").exists()


def test_a_file_that_was_corrupted_here_is_fetched_again(tmp_path):
    (tmp_path / "big.bin").write_bytes(BIG[:-1] + b"x")
    with serve(Zenodo({"big.bin": BIG})) as zenodo:
        report = fetch(zenodo, tmp_path)
    assert report["files"][0]["fetched"]
    assert (tmp_path / "big.bin").read_bytes() == BIG


@pytest.mark.parametrize("have", [b"", b"something else that lies there" * 20_000])
def test_a_wrong_checksum(tmp_path, have):
    if have:
        (tmp_path / "big.bin.part").write_bytes(have)
    wrong = {} if have else {"big.bin": "md5:" + "0" * 32}
    with (
        serve(Zenodo({"big.bin": BIG}, checksums=wrong)) as zenodo,
        pytest.raises(
            DataError, match=r"big\.bin/content: checksum is not md5:\w+ as the record says; it was thrown"
        ),
    ):
        fetch(zenodo, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_there(published, tmp_path):
    with serve(Zenodo(published, missing={"data_of_image_64_5mice.zip"})) as zenodo:
        done = rig("data", "kobe", "--to", tmp_path / "kobe", "--base-url", zenodo.url)
        assert_one_clear_line(
            done, "data_of_image_64_5mice.zip/content: the server answers 404", "--base-url"
        )
        zenodo.missing.clear()
        report = fetch(zenodo, tmp_path / "kobe")
    assert [file["fetched"] for file in report["files"]] == [False, False, True]


@pytest.mark.parametrize("record", ["no JSON", "[]", "{}", '{"files": [{"key": "a"}]}', '{"files": []}'])
def test_a_server_that_is_no_zenodo(tmp_path, record):
    with serve(Zenodo({}, record=record)) as zenodo, pytest.raises(DataError, match="record") as caught:
        fetch(zenodo, tmp_path)
    assert f"{zenodo.url}/api/records/{RECORD}: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_record_that_would_write_elsewhere(tmp_path):
    with serve(Zenodo({"../evil": b"x"})) as zenodo, pytest.raises(DataError, match=r"file name '\.\./evil'"):
        fetch(zenodo, tmp_path / "kobe")
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_would_write_elsewhere_is_refused(tmp_path):
    with (
        serve(Zenodo({"a.zip": zipped({"good.txt": b"x", "../evil.txt": b"x"})})) as zenodo,
        pytest.raises(DataError, match=r"a\.zip: holds '\.\./evil\.txt', outside its folder"),
    ):
        fetch(zenodo, tmp_path / "kobe")
    assert [path.name for path in tmp_path.rglob("*")] == ["kobe", "a.zip"]


def test_an_archive_that_is_none(tmp_path):
    with (
        serve(Zenodo({"a.zip": b"nothing"})) as zenodo,
        pytest.raises(DataError, match=r"a\.zip: cannot be unpacked"),
    ):
        fetch(zenodo, tmp_path)


def test_no_server_and_no_folder(tmp_path):
    with serve(Zenodo({})) as zenodo:
        address = zenodo.url
    with pytest.raises(DataError, match=f"{address}/api/records/{RECORD}: cannot be reached"):
        fetch(zenodo, tmp_path / "kobe")
    with pytest.raises(DataError, match="nonsense/api/records"):
        fetch(Zenodo({}, url="nonsense"), tmp_path / "kobe")
    (tmp_path / "file").write_text("x")
    with serve(Zenodo({"big.bin": BIG})) as zenodo, pytest.raises(DataError, match="cannot be made"):
        fetch(zenodo, tmp_path / "file")


def test_a_disk_that_is_too_small(tmp_path):
    entry = {"key": "a.bin", "size": 10**18, "checksum": "md5:0", "links": {"self": "/a.bin"}}
    record = json.dumps({"files": [entry]})
    with (
        serve(Zenodo({}, record=record)) as zenodo,
        pytest.raises(DataError, match=r"1000000000\.0 GB needed"),
    ):
        fetch(zenodo, tmp_path)
