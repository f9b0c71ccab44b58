"""The published layout: what is read, and what is said of files that contradict each other."""

import h5py
import numpy as np
import pytest
import tifffile
from scipy.io import savemat

from decoders.datasets.behavior import LabelRule
from decoders.datasets.kobe import published_mouse
from decoders.datasets.reading import ReadingOptions
from decoders.datasets.recordings import open_recordings
from rig.errors import DataError
from tests.unit.kobe_layout import (
    BEHAVIOR,
    FRAMES,
    HEIGHT,
    IMAGES,
    ROIS,
    WIDTH,
    kobe_folder,
    pixels,
    write_session,
    write_table,
)


@pytest.fixture
def folder(tmp_path):
    return kobe_folder(tmp_path / "kobe")


def refused(folder, **options):
    with pytest.raises(DataError) as caught, open_recordings([folder], "kobe", **options):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_names_of_series_are_of_no_use_here(folder):
    assert refused(folder, options=ReadingOptions(series="widefield")).startswith(
        "series 'widefield' is of no use"
    )


def test_the_published_layout(folder):
    with open_recordings([folder], "kobe") as recordings:
        assert [(r.mouse, r.session) for r in recordings] == [("1", "b"), ("2", "a")]
        of_b = recordings[0]
        assert of_b.frames.shape == (FRAMES, HEIGHT, WIDTH)
        np.testing.assert_array_equal(of_b.frames[10:20], pixels(2)[10:20])
        np.testing.assert_array_equal(of_b.running, np.arange(FRAMES) >= FRAMES // 3)
        np.testing.assert_allclose(of_b.speed_mm_s, 30.0 * of_b.running)  # 3 cm/s
        assert (of_b.rate_hz, of_b.origin, of_b.rule, of_b.roi_traces) == (30.0, "recorded", None, None)


def test_unit_and_rate_are_options(folder):
    options = ReadingOptions(speed_unit="m/s", rate_hz=25.0)
    with open_recordings([folder], "kobe", options=options) as recordings:
        assert recordings[0].speed_mm_s.max() == 3000.0
        assert recordings[0].rate_hz == 25.0


def test_labels_by_a_rule_come_from_the_speed(folder):
    rule = LabelRule(threshold_mm_s=20.0, smoothing_s=0.0, min_bout_s=0.1)
    speed = np.zeros((1, FRAMES))
    speed[0, 5:15] = 2.5  # cm/s
    write_session(folder, "a", speed_rs=speed)
    with open_recordings([folder], "kobe", rule) as recordings:
        np.testing.assert_array_equal(np.flatnonzero(recordings[1].running), np.arange(5, 15))
        assert recordings[1].rule == rule


def test_everything_in_a_folder_that_an_archive_made(folder, tmp_path):
    (tmp_path / "outer").mkdir()
    folder.rename(tmp_path / "outer" / "kobe_data")
    with open_recordings([tmp_path / "outer"], "kobe") as recordings:
        assert len(recordings) == 2


def test_roi_traces_beside_the_behaviour_or_in_their_own_files(folder):
    traces = np.random.default_rng(3).random((50, FRAMES))
    write_session(folder, "a", dat_roi=traces)
    (folder / ROIS).mkdir()
    savemat(folder / ROIS / "b_roi.mat", {"dat_roi": 2 * traces})
    with open_recordings([folder], "kobe") as recordings:
        by_session = {r.session: r.roi_traces for r in recordings}
    np.testing.assert_allclose(by_session["a"], traces.T, rtol=1e-6)
    np.testing.assert_allclose(by_session["b"], 2 * traces.T, rtol=1e-6)
    assert by_session["a"].dtype == np.float32


def test_roi_traces_of_a_session_whose_name_begins_like_another(folder):
    write_table(folder, "Data_ID,Mouse_#\na,1\na1,2\n")
    write_session(folder, "a1", 4, dat_roi=None)
    (folder / "0").mkdir()
    savemat(folder / "0" / "a1.mat", {"dat_roi": np.ones((50, FRAMES))})
    with open_recordings([folder], "kobe") as recordings:
        assert [r.roi_traces is None for r in recordings] == [True, False]


def test_roi_traces_of_another_length(folder):
    write_session(folder, "a", dat_roi=np.ones((50, FRAMES - 1)))
    assert f"dat_roi is (50, {FRAMES - 1}); valid is (ROIs, {FRAMES})" in refused(folder)


def test_roi_traces_that_are_no_numbers(folder):
    write_session(folder, "a", dat_roi=np.full((50, FRAMES), np.nan))
    assert "a_behavior.mat: dat_roi holds NaN" in refused(folder)


def test_matlab_7_3(folder):
    path = folder / BEHAVIOR / "a_behavior.mat"
    runs = np.arange(FRAMES) % 2
    with h5py.File(path, "w", userblock_size=512) as file:  # MATLAB's matrices stand in HDF5 turned
        file["runrest"] = runs[:, None].astype(np.float64)
        file["speed_rs"] = 4.0 * runs[:, None]
        file["dat_roi"] = np.tile(np.arange(50.0), (FRAMES, 1))
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file")
    with open_recordings([folder], "kobe") as recordings:
        np.testing.assert_array_equal(recordings[1].running, runs == 1)
        np.testing.assert_array_equal(recordings[1].roi_traces[7], np.arange(50.0))


def test_sessions_that_are_not_there_are_named(folder, caplog):
    write_table(folder, "Data_ID,Mouse_#\na,2\nb,1\n" + "".join(f"c{k},3\n" for k in range(7)))
    with open_recordings([folder], "kobe") as recordings:
        assert len(recordings) == 2
    assert "7 of 9 sessions are not there and left out: c0, c1, c2, c3, c4, ..." in caplog.text


def test_a_stack_that_the_table_does_not_list_is_named(folder, caplog):
    write_table(folder, "Data_ID,Mouse_#\na,2\n")
    with open_recordings([folder], "kobe") as recordings:
        assert [r.session for r in recordings] == ["a"]
    assert "left out, not in data_64_5mice.csv: b.tif" in caplog.text


def test_the_file_that_a_session_lacks_is_named(folder, caplog):
    (folder / BEHAVIOR / "a_behavior.mat").unlink()
    with open_recordings([folder], "kobe") as recordings:
        assert [r.session for r in recordings] == ["b"]
    assert "1 of 2 sessions are left out, without their file: a_behavior.mat" in caplog.text


def test_none_of_the_sessions(tmp_path):
    folder = write_table(tmp_path / "kobe")
    assert "none of the 2 sessions has its <id>.tif" in refused(folder)
    assert "no such folder" in refused(tmp_path / "gone")


def test_mice_by_published_names_without_the_table(tmp_path, caplog):
    for name in ("20180125_Emx1G6_LR_1", "20180321_Emx1G6_non_1", "20180125_Emx1G6_non_1"):
        write_session(tmp_path, name)
    with open_recordings([tmp_path], "kobe") as recordings:
        assert [r.mouse for r in recordings] == ["1", "2", "5"]
    assert "no data_64_5mice.csv" in caplog.text


@pytest.mark.parametrize(
    ("name", "mouse"),
    [
        ("20180216_Emx1G6_non_1", "2"),
        ("20180216_Emx1G6_R_1", "3"),
        ("20180413_Emx1G6_L_1", "4"),
        ("20180413_Emx1G6_non_1", "5"),
        ("20180413_Emx1G6_X_1", None),
        ("mouse", None),
    ],
)
def test_published_names(name, mouse):
    assert published_mouse(name) == mouse


def test_no_table_and_no_published_name(folder):
    (folder / "data_64_5mice.csv").unlink()
    assert "no data_64_5mice.csv; valid is a table with columns Data_ID,Mouse_#" in refused(folder)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("Data_ID,Mouse_#\na,2\nb,\n", "data_64_5mice.csv: row 3: mouse id missing"),
        ("Data_ID,Mouse_#\na,2\nb\n", "row 3: mouse id missing"),
        ("Data_ID,Mouse_#\n,2\n", "row 2: session id missing"),
        (
            "Data_ID,Mouse\na,2\n",
            "csv: its header is Data_ID,Mouse, without Mouse_#; valid is Data_ID,Mouse_#",
        ),
        ("", "its header is empty, without Data_ID, Mouse_#"),
        ("Data_ID,Mouse_#\na,2\na,2\n", "row 3: a is there twice"),
        ("Data_ID,Mouse_#\n", "none of the 0 sessions"),
    ],
)
def test_a_table_that_lacks_something(folder, table, said):
    write_table(folder, table)
    assert said in refused(folder)


def test_labels_and_frames_of_different_number(folder):
    write_session(folder, "a", frames=FRAMES - 1)
    assert f"a.tif: {FRAMES} frames, {FRAMES - 1} labels, {FRAMES - 1} speeds" in refused(folder)
    write_session(folder, "a", speed_rs=np.ones((1, FRAMES + 2)))
    assert f"{FRAMES} frames, {FRAMES} labels, {FRAMES + 2} speeds" in refused(folder)


def with_nan(value):
    values = np.ones((1, FRAMES))
    values[0, 9] = value
    return values


@pytest.mark.parametrize(
    ("behavior", "said"),
    [
        (
            {"speed_rs": with_nan(np.nan)},
            "speed_rs is NaN or infinite at 1 of 60 frames, the first is frame 9",
        ),
        ({"speed_rs": with_nan(np.inf)}, "speed_rs is NaN or infinite"),
        ({"runrest": with_nan(np.nan)}, "runrest is NaN or infinite at 1 of 60 frames"),
        ({"runrest": with_nan(2.0)}, "runrest holds 2; valid are 0 (rest) and 1 (run)"),
        ({"runrest": None}, "no variable 'runrest'"),
        ({"speed_rs": None}, "no variable 'speed_rs'"),
        ({"speed_rs": np.ones((2, FRAMES))}, "speed_rs is (2, 60); valid is one row"),
        ({"runrest": "running"}, "no MATLAB file of numbers"),
    ],
)
def test_a_behaviour_file_that_cannot_be_used(folder, behavior, said):
    write_session(folder, "a", **behavior)
    text = refused(folder)
    assert said in text
    assert "a_behavior.mat" in text


@pytest.mark.parametrize("left", [0, 3, 60, 150, 200, 300])
def test_a_behaviour_file_cut_short(folder, left):
    path = folder / BEHAVIOR / "a_behavior.mat"
    path.write_bytes(path.read_bytes()[:left])
    assert "a_behavior.mat" in refused(folder)


def test_a_tiff_cut_short(folder):
    path = folder / IMAGES / "a.tif"
    path.write_bytes(path.read_bytes()[:5000])
    assert f"{path}: TIFF cut short or damaged" in refused(folder)


def test_files_are_closed_when_a_later_one_is_bad(folder):
    """A ResourceWarning would be an error."""
    tifffile.imwrite(folder / IMAGES / "a.tif", pixels(1), compression="zlib")
    write_session(folder, "b", frames=FRAMES - 1)
    assert "b.tif" in refused(folder)


def test_the_same_session_twice(folder):
    with (
        pytest.raises(DataError, match="the same session name 'a'"),
        open_recordings([folder, folder], "kobe"),
    ):
        pass
