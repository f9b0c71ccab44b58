"""Perturbation of predictors whose answer is known to come from known pixels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from decoders.atlas import area_masks, built_in
from decoders.behavior.explain import (
    LEAST_PROBABILITY,
    MaskOptions,
    Model,
    cell_name,
    evidence,
    masks_of,
    perturb,
)
from decoders.behavior.metrics import area_under_curve
from decoders.behavior.parts import part_rois
from decoders.behavior.predictor import FitOptions
from decoders.behavior.ranking import limbs, rank_areas, summary
from decoders.behavior.resampling import block_weights, blocked_auc, blocked_mean, interval_over_mice
from decoders.behavior.retraining import _seen, retrain
from decoders.datasets.behavior import BehaviorRecording
from decoders.occlusion import border_masks, occlusion_grid, starts
from rig.errors import DataError

RATE_HZ, SECONDS, SIZE_PX = 10.0, 120, 64
LANDMARKS = {"bregma": (32.0, 22.0), "lambda": (32.0, 46.0), "olfactory_centre": (32.0, 2.3)}


def recording(mouse: str = "a", session: str = "a1", seed: int = 0) -> BehaviorRecording:
    """Frames of noise in which the animal runs every other ten seconds."""
    frames = round(RATE_HZ * SECONDS)
    rng = np.random.default_rng(seed)
    running = np.arange(frames) // 70 % 2 == 1
    pixels = rng.standard_normal((frames, SIZE_PX, SIZE_PX)).astype(np.float32)
    speed = np.where(running, 100.0, 0.0)
    return BehaviorRecording(
        mouse, session, Path("none.nwb"), RATE_HZ, pixels, running, speed, landmarks_px=LANDMARKS
    )


class Reader:
    """Reads running from `useful` pixels only, each weighted; the first frames it does not answer."""

    def __init__(self, useful: NDArray[np.float64], noise: float = 1.0) -> None:
        self.useful, self.noise = useful, noise

    def predict(
        self, recording: BehaviorRecording, occluded: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        left = self.useful if occluded is None else np.where(occluded, 0, self.useful)
        signal = (recording.running - 0.5) * left.sum() / self.useful.sum()
        rng = np.random.default_rng(5)
        logit = signal + self.noise * rng.standard_normal(len(recording))
        answers = (1 / (1 + np.exp(-logit))).astype(np.float32)
        answers[:10] = np.nan
        return answers

    def save(self, path: Path) -> None:
        raise NotImplementedError


def test_the_published_grid_and_border() -> None:
    grid = occlusion_grid(128, 128, 32, 16)
    assert len(grid) == 49
    assert {(cell.row, cell.column) for cell in grid} == {(r, c) for r in range(7) for c in range(7)}
    assert all(cell.mask.sum() == 32 * 32 for cell in grid)
    border = border_masks(128, 128, 32)
    assert len(border) == 15
    assert border[0][:16, :16].all()
    assert border[0].sum() == 4 * 16 * 16
    assert border[1][:16, :32].all()
    assert border[1][112:, :32].all()
    assert border[8][:32, :16].all()


def test_circles_have_the_squares_diameter() -> None:
    (first, *_), (square, *_) = occlusion_grid(128, 128, 32, 16, "circle"), occlusion_grid(128, 128, 32, 16)
    assert abs(first.mask.sum() - np.pi * 16**2) < 20
    assert not (first.mask & ~square.mask).any()


@given(st.integers(8, 90), st.integers(8, 90), st.data())
def test_a_grid_leaves_no_pixel_out(height: int, width: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, min(height, width)))
    stride = data.draw(st.integers(max(1, size // 3), size))
    grid = occlusion_grid(height, width, size, stride)
    assert np.any([cell.mask for cell in grid], axis=0).all()
    assert all(cell.mask.sum() == size**2 for cell in grid)
    assert len(grid) == len(starts(height, size, stride)) * len(starts(width, size, stride))


@pytest.mark.parametrize(("size", "stride"), [(0, 1), (65, 1), (8, 0), (8, 9)])
def test_masks_that_do_not_fit(size: int, stride: int) -> None:
    with pytest.raises(DataError, match="valid is 1 to"):
        occlusion_grid(64, 80, size, stride)


@given(st.integers(0, 2**32 - 1))
def test_a_blocked_auc_is_the_plain_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, running = rng.integers(0, 9, 60).astype(float), rng.random(60) < 0.4
    block = np.arange(60) // 7
    weights = block_weights(9, seed, replicates=20)
    samples = blocked_auc(values, running, block, weights)
    for found, weight in zip(samples, weights, strict=True):
        times = weight[block].astype(int)
        expected = area_under_curve(np.repeat(values, times), np.repeat(running, times))
        assert found == pytest.approx(expected, nan_ok=True)


def test_the_map_peaks_where_the_pixels_are_and_is_zero_elsewhere() -> None:
    useful = np.zeros((SIZE_PX, SIZE_PX))
    useful[40:48, 16:24] = 1
    found = perturb(
        Model("m", Reader(useful)), recording(), masks := masks_of(recording(), MaskOptions(), built_in())
    )
    drops = {name: samples[0] for name, samples in found.measured["auc"].drops["grid"].items()}
    assert max(drops, key=drops.get) in {cell_name(4, 1), cell_name(4, 2), cell_name(5, 1), cell_name(5, 2)}
    for name, mask in masks["grid"].items():
        if not (mask & (useful > 0)).any():
            assert drops[name] == 0
            assert not found.measured["auc"].drops["grid"][name].any()
    assert max(drops.values()) > 0.15
    assert all(samples[0] == 0 for samples in found.measured["auc"].drops["border"].values())
    assert found.measured["auc"].unmasked[0] > 0.7


def test_areas_that_are_read_come_first_and_apart() -> None:
    sides = area_masks(recording())
    useful = sum(
        weight * (sides[f"{side}-{area}"] / sides[f"{side}-{area}"].sum())
        for side in "LR"
        for area, weight in (("FL", 1.0), ("HL", 0.8))
    )
    mice = [recording(mouse, f"{mouse}{k}", seed) for seed, mouse in enumerate("abc") for k in (1, 2)]
    options = MaskOptions(size_px=32, stride_px=16)
    runs = [perturb(Model("m", Reader(useful, 1.0)), one, masks_of(one, options, built_in())) for one in mice]
    report = summary(runs)
    assert report["mean"]["limbs_first"] == {"ranks": {"FL": 1, "HL": 2}, "first": True, "apart": True}
    for mouse in report["mice"].values():
        assert mouse["limbs_first"]["first"]
        assert mouse["limbs_first"]["apart"]
        assert mouse["limbs_first_of_parts"] == {"ranks": {"FL&HL": 1}, "first": True, "apart": True}
        assert mouse["sessions"] == sorted(mouse["sessions"])
    first = report["mean"]["areas"][0]
    assert first["drop_per_mm2"]["mean"] == pytest.approx(first["drop"]["mean"] / first["mm2"], rel=0.01)
    assert first["circle_drop"]["mean"] > 0
    assert np.shape(report["mean"]["grid"]["drop"]) == (3, 3)


def test_areas_that_stand_in_for_each_other_count_as_one_part() -> None:
    """Either limb area is enough for a perfect AUC: no area is missed, both together are."""
    sides = area_masks(recording())
    useful = sum(
        sides[f"{side}-{area}"] / sides[f"{side}-{area}"].sum() for side in "LR" for area in ("FL", "HL")
    )
    masks = masks_of(recording(), MaskOptions(), built_in())
    report = summary([perturb(Model("m", Reader(useful, 0.05)), recording(), masks)])
    assert report["mean"]["auc"]["mean"] == 1
    assert {area["drop"]["mean"] for area in report["mean"]["areas"]} == {0}
    first, *others = report["mean"]["parts"]
    assert first["name"] == "FL&HL"
    assert first["drop"]["mean"] > 0.4
    assert {part["drop"]["mean"] for part in others} == {0}
    assert len(others) == 4
    assert np.array_equal(masks["parts"]["M1&M2"], masks["areas"]["M1"] | masks["areas"]["M2"])


def test_one_side_counts_alone() -> None:
    sides = area_masks(recording())
    useful = sides["R-V1"].astype(float)
    report = summary(
        [perturb(Model("m", Reader(useful)), recording(), masks_of(recording(), MaskOptions(), built_in()))]
    )
    assert report["mean"]["sides"]["R-V1"]["mean"] > 0.1
    assert report["mean"]["sides"]["L-V1"]["mean"] == 0
    assert report["mean"]["areas"][0]["name"] == "V1"
    assert not report["mean"]["limbs_first"]["first"]


def test_no_running_no_auc() -> None:
    resting = replace(recording(), running=np.zeros(round(RATE_HZ * SECONDS), np.bool_))
    with pytest.raises(DataError, match="no running in the frames"):
        perturb(Model("m", Reader(np.ones((SIZE_PX, SIZE_PX)))), resting, {})


def test_an_interval_over_mice_is_students() -> None:
    found = interval_over_mice([np.array([value, 0.0]) for value in (0.1, 0.2, 0.3)])
    assert found.mean == pytest.approx(0.2)
    assert found.high - found.mean == pytest.approx(4.3027 * 0.1 / np.sqrt(3), rel=1e-4)


def test_ranks_of_one_mouse_come_from_its_bootstrap() -> None:
    rng = np.random.default_rng(0)
    common = 0.1 * rng.standard_normal(501)  # what all areas share does not blur their difference
    areas = {"FL": [0.30 + common], "HL": [0.25 + common], "V1": [0.05 + common]}
    for samples in areas.values():
        samples[0][0] -= common[0]
    ranked = rank_areas(areas, {}, dict.fromkeys(areas, 1.0))
    assert [area.name for area in ranked] == ["FL", "HL", "V1"]
    assert ranked[1].above == ("V1",)
    assert ranked[0].drop.low < 0.2
    found = limbs(ranked)
    assert found is not None
    assert found.apart


def test_parts_by_area_and_by_the_published_numbers() -> None:
    names = [f"{side}-{area}" for side in "LR" for area in ("FL", "HL", "M1", "V1", "BC")]
    assert part_rois(names, "FL&HL") == ("L-FL", "L-HL", "R-FL", "R-HL")
    assert part_rois(names, "all but FL&HL") == ("L-M1", "L-V1", "L-BC", "R-M1", "R-V1", "R-BC")
    published = [str(k + 1) for k in range(50)]
    assert part_rois(published, "FL&HL") == tuple(map(str, (6, 7, 8, 9, 31, 32, 33, 34)))
    assert len(part_rois(published, "all but FL&HL")) == 46
    assert part_rois(published, "all") == tuple(published)
    grid = [f"{side}-{k}{m}" for side in "LR" for k in range(5) for m in range(5)]
    assert part_rois(grid, "FL&HL") == part_rois(grid, "all but FL&HL") == ()


def test_retraining_knows_what_a_part_holds(tmp_path: Path) -> None:
    """Brightness that only the forelimb areas change: they tell run from rest, the visual ones do not."""
    forelimb = area_masks(recording())["L-FL"]
    mice = []
    for seed, mouse in enumerate("ab"):
        found = recording(mouse, f"{mouse}1", seed)
        pixels = 100 + found.frames[:] + found.running[:, None, None] * forelimb * 0.5
        mice.append(replace(found, path=tmp_path / mouse, frames=pixels.astype(np.float32)))
    parts = retrain("brightness", mice, ["FL&HL", "V1&medial visual"], FitOptions(tmp_path), built_in())
    assert parts["FL&HL"]["auc"]["mean"] > 0.8
    assert abs(parts["V1&medial visual"]["auc"]["mean"] - 0.5) < 0.1
    assert parts["FL&HL"]["mice"].keys() == {"a", "b"}


def test_traces_that_came_with_the_data_do_not_show_what_is_hidden() -> None:
    plain = recording()
    whole = replace(plain, roi_traces=np.zeros((len(plain), 50), np.float32))
    assert _seen(whole, "FL&HL", built_in()).roi_traces is None


def test_retraining_without_named_regions(tmp_path: Path) -> None:
    bare = [replace(recording(mouse, mouse), landmarks_px=None) for mouse in "ab"]
    with pytest.raises(DataError, match="none of its ROIs belongs to M1&M2"):
        retrain("roi-gru", bare, ["M1&M2"], FitOptions(tmp_path), built_in())
    with pytest.raises(DataError, match="no part 'toes'"):
        retrain("roi-gru", bare, ["toes"], FitOptions(tmp_path), built_in())


def test_evidence_is_the_log_odds_of_the_truth_and_is_bounded() -> None:
    running = np.array([True, True, False, False, True])
    probability = np.array([0.5, 0.8, 0.8, 0.0, 1.0], np.float32)
    most = np.log((1 - LEAST_PROBABILITY) / LEAST_PROBABILITY)
    np.testing.assert_allclose(
        evidence(probability, running), [0, np.log(4), -np.log(4), most, most], rtol=1e-5, atol=1e-6
    )


def test_a_mean_over_blocks_and_its_resamplings() -> None:
    values, block = np.array([1.0, 3.0, 10.0]), np.array([0, 0, 1])
    weights = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 0.0]])
    found = blocked_mean(values, block, weights)
    np.testing.assert_allclose(found[:2], [14 / 3, 2.0])
    assert np.isnan(found[2])


def test_a_decoder_at_its_ceiling_still_loses_evidence_where_it_reads() -> None:
    useful = np.zeros((SIZE_PX, SIZE_PX))
    useful[40:48, 16:24], useful[8:16, 40:48] = 1, 1  # either half is enough for a perfect AUC
    found = perturb(
        Model("m", Reader(useful, 0.05)), recording(), masks_of(recording(), MaskOptions(), built_in())
    )
    assert found.measured["auc"].unmasked[0] == 1
    assert max(samples[0] for samples in found.measured["auc"].drops["grid"].values()) == 0
    drops = {name: samples[0] for name, samples in found.measured["evidence"].drops["grid"].items()}
    assert max(drops.values()) == pytest.approx(found.measured["evidence"].unmasked[0] / 2, rel=0.01)
    assert drops[cell_name(0, 0)] == 0
