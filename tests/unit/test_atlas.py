"""The atlas in a frame: placed by landmarks, against the simulator's own anatomy, and read from wfield's files."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.atlas import LABELS, PROJECTION, Atlas, area_masks, built_in, load_atlas, place, placed_masks
from decoders.datasets.behavior import BehaviorRecording
from decoders.landmarks import read_landmarks
from rig.dorsal_cortex import AREAS, LANDMARKS_MM
from rig.errors import ConfigError, DataError
from rig.simulation.mouse import Mouse
from rig.simulation.widefield import WidefieldCortex

WFIELD = Path(__file__).parents[3] / "shared" / "data" / "atlas"
FRAME = (128, 128)
UPRIGHT = {"bregma": (64.0, 45.0), "lambda": (64.0, 94.0), "olfactory_centre": (64.0, 4.75)}


def recording(landmarks_px: dict | None, size_px: tuple[int, int] = FRAME) -> BehaviorRecording:
    frames = np.zeros((2, *size_px), np.uint16)
    return BehaviorRecording(
        "m", "s", Path("s.nwb"), 30.0, frames, np.zeros(2, np.bool_), np.zeros(2), landmarks_px=landmarks_px
    )


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@given(
    st.floats(-np.pi, np.pi),
    st.floats(2, 60),
    st.complex_numbers(max_magnitude=500),
    st.sampled_from([2, 3]),
)
def test_any_similarity_is_found_again(turn: float, px_per_mm: float, shift: complex, count: int) -> None:
    factor = px_per_mm * np.exp(1j * turn)
    z = {name: factor * complex(ml, -ap) + shift for name, (ml, ap) in LANDMARKS_MM.items()}
    found = place({name: (at.real, at.imag) for name, at in list(z.items())[:count]}, "s.nwb")
    assert found.mm_per_px == pytest.approx(1 / px_per_mm)
    assert found.residual_mm == pytest.approx(0, abs=1e-6)
    for ml, ap in ((2.45, -0.55), (-3.0, 1.0)):
        assert complex(*found.to_px(ml, ap)) == pytest.approx(factor * complex(ml, -ap) + shift, abs=1e-6)
    ml_mm, ap_mm = found.to_mm(4, 5)
    assert found.to_px(ml_mm[3, 2], ap_mm[3, 2]) == pytest.approx((2, 3), abs=1e-6)


def test_a_misplaced_landmark_shows_in_the_residual() -> None:
    found = place(UPRIGHT | {"olfactory_centre": (72.0, 4.75)}, "s.nwb")
    assert 0.1 < found.residual_mm < 0.5
    assert place(UPRIGHT, "s.nwb").residual_mm < 0.01


@pytest.mark.parametrize("seed", [100, 102, 104])
def test_built_in_areas_lie_where_the_simulator_has_them(seed: int) -> None:
    cortex = WidefieldCortex(Mouse(seed, 0.5), seed)
    found = area_masks(recording(cortex.landmarks_px()))
    truth = {name: mask > 0.5 for name, mask in cortex.area_masks().items()}
    overlaps = [
        overlap(found[name], truth[name]) for name in ("L-FL", "R-FL", "L-HL", "R-HL", "L-V1", "R-RS")
    ]
    assert min(overlaps) > 0.7
    assert np.mean([overlap(found[name], mask) for name, mask in truth.items() if name in found]) > 0.8


def test_masks_do_not_overlap_and_scale_with_the_frame() -> None:
    large = area_masks(recording(UPRIGHT))
    assert np.sum(list(large.values()), axis=0).max() == 1
    half = area_masks(recording({k: (c / 2, r / 2) for k, (c, r) in UPRIGHT.items()}, (64, 64)))
    assert half["L-FL"].sum() == pytest.approx(large["L-FL"].sum() / 4, rel=0.2)
    row, column = np.nonzero(large["L-FL"])
    assert column.max() < 64  # left of the midline, nose up
    assert 45 < row.mean() < 60


@pytest.mark.parametrize(
    ("landmarks", "said"),
    [
        (None, "0 landmarks_px"),
        ({"bregma": (64.0, 45.0)}, "1 landmarks_px"),
        ({"bregma": (64.0, 45.0), "lambda": (64.0, 45.2)}, "coincide"),
        ({"bregma": (64.0, 45.0), "lambda": (float("nan"), 90.0)}, "coincide"),
        ({"bregma": (640.0, 450.0), "lambda": (640.0, 940.0)}, "outside the frame of 128x128"),
    ],
)
def test_landmarks_that_place_nothing(landmarks: dict | None, said: str) -> None:
    with pytest.raises(DataError, match=said) as raised:
        area_masks(recording(landmarks))
    assert str(raised.value).startswith("s.nwb: ")
    assert "valid is" in str(raised.value)


def test_the_built_in_outline_knows_every_area() -> None:
    atlas = built_in()
    for area in AREAS:
        if area.name == "LI":  # between L and POR: narrower than its ellipse
            continue
        (label,) = atlas.label_at(np.array([area.ml_mm]), np.array([area.ap_mm]))
        assert atlas.names[label] == area.name
    assert atlas.label_at(np.array([90.0]), np.array([0.0])) == [0]


@pytest.mark.skipif(not WFIELD.is_dir(), reason="wfield's atlas files are not at hand")
def test_wfields_files() -> None:
    atlas = load_atlas(WFIELD)
    assert atlas.mm_per_px == 0.01
    assert atlas.bregma_px == (570, 540)
    found = placed_masks(atlas, place(UPRIGHT, "s.nwb"), FRAME, "s.nwb")
    assert {"L-SSp-ul", "R-SSp-ul", "L-SSp-ll", "R-VISp"} <= set(found)
    ours = area_masks(recording(UPRIGHT))
    for theirs, name in (("L-VISp", "L-V1"), ("R-SSp-bfd", "R-BC"), ("L-SSp-tr", "L-TR")):
        distance = np.subtract(*(np.argwhere(mask).mean(axis=0) for mask in (found[theirs], ours[name])))
        assert np.hypot(*distance) * 0.0857 < 0.9  # mm: two atlases and their borders differ
    left, right = found["L-VISp"], found["R-VISp"]
    assert left[:, :64].any()
    assert not left[:, 64:].any()
    assert left.sum() == pytest.approx(right.sum(), rel=0.05)


def write_atlas(folder: Path, labels: np.ndarray, areas: object) -> Path:
    np.save(folder / PROJECTION, labels)
    (folder / LABELS).write_text(json.dumps(areas), encoding="utf-8")
    return folder


AREA = {"acronym": "A", "label": 1, "resolution": 10, "reference": [3, 4]}


def test_a_small_atlas_is_read(tmp_path: Path) -> None:
    labels = np.zeros((6, 8), np.int16)
    labels[2, 1], labels[2, 7] = 1, -1
    atlas = load_atlas(write_atlas(tmp_path, labels, [AREA]))
    assert isinstance(atlas, Atlas)
    assert atlas.bregma_px == (4, 3)
    assert atlas.label_at(np.array([-0.03, 0.03, 0.0]), np.array([0.01, 0.01, 0.0])).tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("labels", "areas", "said"),
    [
        (np.zeros((4, 4)), [AREA], "no label image"),
        (np.zeros(4, np.int16), [AREA], "no label image"),
        (np.array([[1, 2]], np.int16), [AREA], r"labels \[2\]"),
        (np.array([[1]], np.int16), {}, "no list of areas"),
        (np.array([[1]], np.int16), [{"acronym": "A"}], "not wfield's table"),
        (np.array([[1]], np.int16), [AREA, {**AREA, "label": 2, "resolution": 20}], "not wfield's table"),
        (np.array([{}]), [AREA], "cannot be read"),
    ],
)
def test_files_that_are_no_atlas(tmp_path: Path, labels: np.ndarray, areas: object, said: str) -> None:
    with pytest.raises(DataError, match=said) as raised:
        load_atlas(write_atlas(tmp_path, labels, areas))
    assert "valid is" in str(raised.value)


def test_a_folder_without_an_atlas(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=PROJECTION):
        load_atlas(tmp_path)


def test_landmarks_from_options_and_files(tmp_path: Path) -> None:
    given = ["bregma=64,45", "lambda=64.5,94"]
    assert read_landmarks(given).applied(recording(None)).landmarks_px == {
        "bregma": (64, 45),
        "lambda": (64.5, 94),
    }
    assert read_landmarks([]).applied(recording(UPRIGHT)).landmarks_px == UPRIGHT
    file = tmp_path / "marks.yaml"
    file.write_text("m: {bregma: [1, 2], lambda: [3, 4]}\nother: {bregma: [5, 6], lambda: [7, 8]}\n")
    assert read_landmarks([str(file)]).applied(recording(None)).landmarks_px == {
        "bregma": (1, 2),
        "lambda": (3, 4),
    }
    file.write_text("cameras: {c: {driver: x, imaging: {landmarks_px: {bregma: [9, 2], lambda: [3, 4]}}}}\n")
    assert read_landmarks([str(file)]).applied(recording(UPRIGHT)).landmarks_px["bregma"] == (9, 2)


@pytest.mark.parametrize("given", [["bregma"], ["nose=1,2"], ["bregma=1"], ["bregma=a,b"], ["missing.yaml"]])
def test_landmarks_that_are_none(given: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"valid is \[column, row\]"):
        read_landmarks(given)


@pytest.mark.parametrize(
    "text", ["", "[1]", "cameras: {c: {}}", "bregma: 3", "m: {bregma: [1]}", "a: {b: [1, 2]}"]
)
def test_files_without_landmarks(tmp_path: Path, text: str) -> None:
    file = tmp_path / "marks.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"marks.yaml.*valid is"):
        read_landmarks([str(file)])
