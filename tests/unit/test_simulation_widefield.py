"""The simulated widefield cortex: reproducible frames, and a signal whose truth is known."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from rig.config import SimulationConfig, load_config
from rig.dorsal_cortex import AREAS, LANDMARKS_MM
from rig.errors import ConfigError
from rig.simulation.mouse import Mouse
from rig.simulation.widefield import WidefieldCortex, indicator_response, shift_canvas

FRAMES = 4500
DEMO = Path(__file__).parents[2] / "hardware_configs" / "simulated_mouse.yaml"


@pytest.fixture(scope="module")
def mouse() -> Mouse:
    return Mouse(seed=11, run_fraction=0.5, duration_s=600.0)


@pytest.fixture(scope="module")
def cortex(mouse: Mouse) -> WidefieldCortex:
    return WidefieldCortex(mouse, seed=11)


@pytest.fixture(scope="module")
def traces(cortex: WidefieldCortex) -> dict[str, NDArray[np.float64]]:
    """Mean counts of each area and of the whole image ("mean"), (FRAMES,)."""
    masks = np.stack([mask.ravel() / mask.sum() for mask in cortex.area_masks().values()])
    average = sparse.csr_array(np.where(masks > 1e-6, masks, 0.0))
    values = np.empty((FRAMES, len(masks) + 1))
    for k in range(FRAMES):
        image = cortex.frame(k).ravel()
        values[k] = [*(average @ image.astype(float)), image.mean()]
    return dict(zip([*cortex.area_masks(), "mean"], values.T, strict=True))


@pytest.fixture(scope="module")
def running(mouse: Mouse) -> NDArray[np.bool_]:
    return mouse.running(np.arange(FRAMES) / 30.0)


def test_instances_agree_and_seeds_differ(mouse: Mouse, cortex: WidefieldCortex) -> None:
    np.testing.assert_array_equal(WidefieldCortex(mouse, 11).frame(123), cortex.frame(123))
    assert np.any(WidefieldCortex(mouse, 12).frame(123) != cortex.frame(123))


def test_any_order_gives_the_same_frames(mouse: Mouse) -> None:
    forwards, backwards = WidefieldCortex(mouse, 1), WidefieldCortex(mouse, 1)
    last_first = [backwards.frame(k) for k in (40_000, 7, 3, 0)]
    np.testing.assert_array_equal([forwards.frame(k) for k in (0, 3, 7, 40_000)], last_first[::-1])


def test_noise_differs_when_behaviour_repeats(mouse: Mouse, cortex: WidefieldCortex) -> None:
    period = round(mouse.duration_s * 30)
    assert np.any(cortex.frame(5) != cortex.frame(5 + period))


def test_period_closes_without_a_seam(mouse: Mouse, cortex: WidefieldCortex) -> None:
    period = round(mouse.duration_s * 30)
    dff = cortex.area_activity(period - 300, 600)["L-V1"]
    assert np.abs(np.diff(dff))[299] < 4 * np.abs(np.diff(dff)).std()


def test_counts_are_a_cameras(cortex: WidefieldCortex) -> None:
    image = cortex.frame(0)
    assert image.shape == (128, 128)
    assert image.dtype == np.uint16
    assert image.min() > 60  # near the camera's offset, never below its noise
    assert 15_000 < image.max() < 35_000


def test_shot_noise_grows_with_light(cortex: WidefieldCortex) -> None:
    pair = np.stack([cortex.frame(k).astype(float) for k in range(60)])
    noise = np.diff(pair, axis=0).var(axis=0) / 2
    mean = pair.mean(axis=0) - 100
    bright = mean > 0.5 * mean.max()
    assert 0.8 < np.median(noise[bright] / mean[bright]) < 2.5  # photons, and some physiology


def test_other_shapes(mouse: Mouse) -> None:
    cortex = WidefieldCortex(mouse, 2, height_px=48, width_px=64, rate_hz=15.0)
    assert cortex.frame(9).shape == (48, 64)
    with pytest.raises(ConfigError, match="too small"):
        WidefieldCortex(mouse, 2, height_px=4)


def test_masks_partition_the_cortex(cortex: WidefieldCortex) -> None:
    masks = cortex.area_masks()
    total = np.sum(list(masks.values()), axis=0)
    assert len(masks) == 48
    assert total.max() <= 1 + 1e-9
    assert 0.35 < total.mean() < 0.8
    assert all(mask.sum() > 5 for mask in masks.values())


def test_anatomy_is_the_right_way_round(cortex: WidefieldCortex) -> None:
    rows, columns = np.indices((128, 128))
    centre = {
        name: (np.average(rows, weights=mask), np.average(columns, weights=mask))
        for name, mask in cortex.area_masks().items()
    }
    assert centre["L-M2"][0] < centre["L-FL"][0] < centre["L-V1"][0]  # front is up
    assert centre["L-FL"][1] < centre["L-RS"][1] < centre["R-RS"][1] < centre["R-FL"][1]


def test_limbs_follow_running_more_than_vision(
    traces: dict[str, NDArray[np.float64]], running: NDArray[np.bool_]
) -> None:
    limb, vision = (abs(np.corrcoef(traces[name], running)[0, 1]) for name in ("L-FL", "L-V1"))
    assert limb > vision + 0.1
    assert roc_auc_score(running, traces["L-FL"]) > 0.7


def test_truth_orders_the_areas() -> None:
    truth: dict[str, float] = {}
    for seed in range(4):  # mice differ; the order is that of their mean
        mouse = Mouse(seed, 0.5, 300.0)
        running = mouse.running(np.arange(9000) / 30.0)
        cortex = WidefieldCortex(mouse, seed, height_px=16, width_px=16)
        for name, dff in cortex.area_activity(0, 9000).items():
            truth[name] = truth.get(name, 0.0) + float(np.corrcoef(dff, running)[0, 1])
    limb, motor, rest = (
        np.mean([truth[f"{side}-{name}"] for side in "LR" for name in names])
        for names in (("FL", "HL"), ("M1", "M2"), ("RS", "A", "V1"))
    )
    assert limb > motor > rest


def test_mean_brightness_is_a_poor_decoder(
    traces: dict[str, NDArray[np.float64]],
    running: NDArray[np.bool_],
    capsys: pytest.CaptureFixture[str],
) -> None:
    auc = roc_auc_score(running, traces["mean"])
    with capsys.disabled():
        print(f"\nmean brightness: AUC {auc:.3f}")  # noqa: T201
    assert auc < 0.8


def test_areas_together_decode_running(
    traces: dict[str, NDArray[np.float64]],
    running: NDArray[np.bool_],
    capsys: pytest.CaptureFixture[str],
) -> None:
    areas = (
        np.stack([trace / trace.mean() - 1 for name, trace in traces.items() if name != "mean"], axis=1) * 30
    )
    half = FRAMES // 2
    model = LogisticRegression(max_iter=300).fit(areas[:half], running[:half])
    auc = roc_auc_score(running[half:], model.decision_function(areas[half:]))
    with capsys.disabled():
        print(f"\nlinear in 48 areas: AUC {auc:.3f}")  # noqa: T201
    assert auc > 0.85


def test_landmarks_are_where_the_anatomy_is(mouse: Mouse) -> None:
    for seed in range(5):
        cortex = WidefieldCortex(mouse, seed, height_px=96, width_px=128)
        ml, ap = (place[2:-2, 2:-2] for place in cortex._places_mm)
        for name in ("bregma", "lambda"):
            column, row = (round(value) for value in cortex.landmarks_px()[name])
            exact = (ml[row, column], ap[row, column])
            np.testing.assert_allclose(exact, LANDMARKS_MM[name], atol=0.06)  # half a pixel of 0.086 mm


def test_an_area_lies_where_the_landmarks_say(cortex: WidefieldCortex) -> None:
    points = np.array([cortex.landmarks_px()[name] for name in ("bregma", "lambda")])
    back = (points[1] - points[0]) / 4.2  # pixels for a mm towards the tail
    right = np.array([-back[1], back[0]]) * -1
    rows, columns = np.indices((128, 128))
    area = next(area for area in AREAS if area.name == "BC")
    mask = cortex.area_masks()["R-BC"]
    expected = points[0] + right * area.ml_mm - back * area.ap_mm
    centre = [np.average(columns, weights=mask), np.average(rows, weights=mask)]
    np.testing.assert_allclose(centre, expected, atol=3)


def test_the_demo_names_its_mouses_landmarks() -> None:
    config = load_config(DEMO)
    assert config.simulation is not None
    truth = WidefieldCortex(Mouse(config.simulation.seed), config.simulation.seed).landmarks_px()
    for name, place in config.cameras["widefield"].imaging.landmarks_px.items():
        np.testing.assert_allclose(place, truth[name], atol=0.06)


def test_sessions_share_the_brain_and_nothing_else(mouse: Mouse) -> None:
    first, second = (WidefieldCortex(mouse, 3, session=session) for session in (0, 1))
    assert first.landmarks_px() == second.landmarks_px()
    np.testing.assert_array_equal(first.area_masks()["L-FL"], second.area_masks()["L-FL"])
    one, other = (cortex.area_activity(0, 3000)["L-V1"] for cortex in (first, second))
    assert np.corrcoef(one, other)[0, 1] < 0.95  # the same movement, other spontaneous activity
    times_s = np.arange(0.0, 600.0, 0.1)
    assert np.mean(Mouse(3).running(times_s) != Mouse(3, session=1).running(times_s)) > 0.1


def test_mice_run_as_the_published_ones_unless_told() -> None:
    fractions = [SimulationConfig(seed=seed).run_fraction for seed in range(100, 105)]
    assert fractions == [0.37, 0.66, 0.65, 0.58, 0.80]
    assert SimulationConfig(seed=100, run_fraction=0.5).run_fraction == 0.5


def test_area_light_is_what_a_region_of_frames_shows(cortex: WidefieldCortex) -> None:
    mask = cortex.area_masks()["R-FL"]
    dark = cortex.parameters.offset_counts
    shown = np.array([np.average(cortex.frame(k) - dark, weights=mask) for k in range(600)])
    light = cortex.area_light(0, 600)["R-FL"]
    assert np.corrcoef(shown, light)[0, 1] > 0.95


def test_spontaneous_activity_does_not_know_of_running() -> None:
    still = WidefieldCortex(Mouse(1, 0.5, 600.0), 5).area_activity(0, 3000)["L-BC"]
    other = WidefieldCortex(Mouse(2, 0.5, 600.0), 5).area_activity(0, 3000)["L-BC"]
    assert np.corrcoef(still, other)[0, 1] > 0.5  # same seed, another behaviour: the rest is the same


def test_indicator_peaks_when_it_should() -> None:
    spike = np.zeros(3000)
    spike[0] = 1.0
    response = indicator_response(spike, rise_s=0.179, half_decay_s=0.550, rate_hz=1000.0)
    assert np.argmax(response) / 1000 == pytest.approx(0.179, abs=0.005)
    assert response.sum() == pytest.approx(1.0, abs=0.05)


def test_shift_moves_down_and_right() -> None:
    canvas = np.zeros((14, 16), np.float32)
    canvas[6, 7] = 1.0
    shifted = shift_canvas(canvas, np.array([1.0, -0.5], np.float32))
    assert shifted.shape == (10, 12)
    assert shifted[5, 4] == pytest.approx(0.5)
    assert shifted[5, 5] == pytest.approx(0.5)
