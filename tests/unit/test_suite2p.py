import datetime
import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoders.traces.live import RoiActivity
from decoders.traces.pickled import read_npy
from decoders.traces.rois import WeightedMeans
from decoders.traces.suite2p import read_suite2p
from rig.errors import DataError
from rig.messages import Frame, FrameStream

SHAPE = (20, 24)


def entry(row, column, lam=None, **more):
    row, column = np.array(row), np.array(column)
    lam = np.ones(len(row), np.float32) if lam is None else np.array(lam, np.float32)
    overlap = np.zeros(len(row), bool)
    return {"ypix": row, "xpix": column, "lam": lam, "overlap": overlap, "med": [1.0, 2.0], **more}


def write(folder: Path, stat, is_cell=None, **options) -> Path:
    options = {"Ly": SHAPE[0], "Lx": np.int64(SHAPE[1]), "tau": 1.25, "neucoeff": np.float32(0.6), **options}
    options["date_proc"] = datetime.datetime(2026, 11, 23, 12, 0)
    np.save(folder / "ops.npy", np.array(options, object), allow_pickle=True)
    np.save(folder / "stat.npy", np.array(stat, object), allow_pickle=True)
    if is_cell is not None:
        np.save(folder / "iscell.npy", np.array(is_cell, np.float64))
    return folder


def test_cells_weights_and_what_suite2p_knows(tmp_path):
    reference = np.arange(480, dtype=np.int16).reshape(SHAPE)
    stat = [
        entry([1, 1], [2, 3], [1.0, 3.0], neuropil_mask=np.array([0, 1])),
        entry([5], [5], neuropil_mask=np.array([2])),
        entry([19, 19, 0], [23, 22, 0], neuropil_mask=np.array([479])),
    ]
    found = read_suite2p(write(tmp_path, stat, [[1, 0.9], [0, 0.1], [1, 0.8]], refImg=reference))
    assert found.cells.count == 2
    assert (found.tau_s, found.neuropil_share) == (1.25, pytest.approx(0.6))
    np.testing.assert_array_equal(found.reference, reference)
    frame = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    expected = [0.25 * frame[1, 2] + 0.75 * frame[1, 3], (frame[19, 23] + frame[19, 22] + frame[0, 0]) / 3]
    np.testing.assert_allclose(WeightedMeans(found.cells)(frame), expected, rtol=1e-6)
    np.testing.assert_allclose(
        WeightedMeans(found.neuropil)(frame), [frame.ravel()[:2].mean(), frame[19, 23]], rtol=1e-6
    )
    assert read_suite2p(tmp_path, all_rois=True).cells.count == 3


def test_shared_pixels_are_left_out_unless_asked_for_or_all_there_is(tmp_path):
    stat = [
        entry([1, 1], [2, 3], overlap=np.array([False, True])),
        entry([1, 2], [3, 3], overlap=np.array([True, False])),
        entry([1], [3], overlap=np.array([True])),
    ]
    folder = write(tmp_path, stat)
    assert read_suite2p(folder).cells.pixel.tolist() == [26, 51, 27]
    assert read_suite2p(folder, overlapping=True).cells.pixel.tolist() == [26, 27, 27, 51, 27]


def test_a_live_decoder_takes_weights_surround_reference_and_constants_from_the_folder(tmp_path):
    reference = np.random.default_rng(0).integers(0, 900, SHAPE)
    stat = [entry([8, 8], [9, 10], [1.0, 3.0], neuropil_mask=np.array([0, 1]))]
    config = RoiActivity.Config(
        decoder="traces",
        camera="two_photon",
        rois=str(write(tmp_path, stat, refImg=reference)),
        signal="fluorescence",
        max_shift_px=3,
    )
    made = RoiActivity("neurons", config)
    described = made.load(FrameStream("two_photon", *SHAPE, "uint16", 30.0, 0.0))
    assert (described.provenance["tau_s"], described.provenance["neuropil_share"][:3]) == ("1.25", "0.6")
    found = made.step(Frame("two_photon", 0, -1, 0, reference.astype(np.uint16)))
    expected = 0.25 * reference[8, 9] + 0.75 * reference[8, 10] - 0.6 * reference[0, :2].mean()
    np.testing.assert_allclose(found, [expected], rtol=1e-5)


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
@pytest.mark.parametrize("module", [b"numpy.core.", b"numpy._core."])
def test_every_way_numpy_has_pickled_arrays(protocol, module, tmp_path):
    content = {
        "floats": np.arange(6, dtype=np.float32).reshape(2, 3),
        "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "other bytes": np.arange(3, dtype=">i2"),
        "flags": np.array([True, False]),
        "texts": np.array(["a", "bc"]),
        "none": np.zeros((0, 2)),
        "lists": np.array([[1, 2], None], object),
        "plain": [1, 2.5, "x", None, (True, b"y")],
        "number": np.float64(0.1),
    }
    data = pickle.dumps(np.array([content], object), protocol)
    current = b"numpy._core." if b"numpy._core." in data else b"numpy.core."
    if protocol < 4 or module == current:  # later protocols count the letters of a name
        data = data.replace(current, module)
    path = save_pickle(tmp_path / "stat.npy", data, (1,))
    (found,) = read_npy(path)
    for name, value in content.items():
        if isinstance(value, np.ndarray):
            assert found[name].dtype == value.dtype
            np.testing.assert_array_equal(found[name], value)
        else:
            assert found[name] == value


def save_pickle(path: Path, data: bytes, shape: tuple[int, ...]) -> Path:
    file = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    path.write_bytes(file.getvalue() + data)
    return path


class Malicious:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("name", ["stat.npy", "ops.npy"])
@pytest.mark.parametrize("call", [(os.system, "posix.system"), (eval, "builtins.eval")])
def test_a_file_that_would_execute_something_is_refused_and_does_not(name, call, tmp_path):
    write(tmp_path, [entry([1], [1])])
    trace = tmp_path / "executed"
    command = f"touch {trace}" if call[0] is os.system else f"open({str(trace)!r}, 'w')"
    np.save(tmp_path / name, np.array([Malicious(call[0], command)], object), allow_pickle=True)
    with pytest.raises(DataError, match=rf"{name}: refused, it would call {call[1]}"):
        read_suite2p(tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("stat", "options", "said"),
    [
        ([entry([20], [1])], {}, r"stat\.npy: ROI 0 has ypix 20; valid is 0 to 19"),
        ([entry([1], [-1])], {}, r"ROI 0 has xpix -1; valid is 0 to 23"),
        ([entry([1], [1]), entry([1], [1, 2])], {}, r"ROI 1 has 1 ypix, 2 xpix, 1 lam"),
        ([entry([1], [1], [0.0])], {}, r"ROI 0 has no finite lam above 0"),
        ([entry([1], [1], [np.inf])], {}, r"ROI 0 has no finite lam above 0"),
        ([entry([1], [1], neuropil_mask=np.array([480]))], {}, r"neuropil_mask of ROI 0 leaves the frame"),
        ([{"xpix": np.array([1])}], {}, r"ROI 0 has no list of numbers ypix"),
        ([[1, 2]], {}, r"stat\.npy: an array of shape \(1, 2\)"),
        ([entry([1], [1])], {"Ly": "20"}, r"ops\.npy: Ly is '20'"),
        ([entry([1], [1])], {"refImg": np.zeros((3, 3))}, r"refImg has shape \(3, 3\); valid is \(20, 24\)"),
    ],
)
def test_what_is_not_suite2p_s(stat, options, said, tmp_path):
    with pytest.raises(DataError, match=said):
        read_suite2p(write(tmp_path, stat, **options))


def test_files_that_disagree_or_are_missing(tmp_path):
    folder = write(tmp_path, [entry([1], [1])], [[1, 1], [1, 1]])
    with pytest.raises(DataError, match=r"iscell\.npy: shape \(2, 2\) of float64; valid is \(1, 2\)"):
        read_suite2p(folder)
    np.save(folder / "iscell.npy", np.array([[0.0, 0.1]]))
    with pytest.raises(DataError, match="no ROI is a cell"):
        read_suite2p(folder)
    (folder / "stat.npy").unlink()
    with pytest.raises(DataError, match=r"stat\.npy: no such file"):
        read_suite2p(folder)
    np.save(folder / "ops.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"ops\.npy: an array of shape \(3,\)"):
        read_suite2p(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("suite2p"), [entry([1, 2], [1, 3])])
    return folder / "stat.npy", (folder / "stat.npy").read_bytes()


@settings(max_examples=40)
@given(st.data())
def test_a_file_cut_anywhere_is_one_clear_error(whole, data):
    path, content = whole
    cut = path.with_name("cut.npy")
    cut.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(DataError, match=r"cut\.npy: cut short, damaged or no \.npy file"):
        read_npy(cut)
