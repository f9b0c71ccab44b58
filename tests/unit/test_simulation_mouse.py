"""The simulated mouse's behaviour: the same everywhere, and consistent with itself."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from rig.errors import ConfigError
from rig.simulation.mouse import Mouse

TIMES_S = np.arange(0.0, 3600.0, 0.05)

DIGEST = """
import hashlib, numpy as np
from rig.simulation.mouse import Mouse
mouse, t = Mouse(7, 0.4, 600.0), np.linspace(0, 1300, 5001)
parts = (mouse.running(t), mouse.running_speed_mm_s(t), mouse.wheel_position_mm(t),
         mouse.pupil_diameter_mm(t), mouse.pupil_position_mm(t))
print(hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest())
"""


@pytest.fixture(scope="module")
def mouse() -> Mouse:
    return Mouse(seed=3)


def test_two_processes_agree() -> None:
    first, second = (
        subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert len(first.strip()) == len(hashlib.sha256().hexdigest())
    assert first == second


def test_seeds_make_different_mice(mouse: Mouse) -> None:
    assert np.any(mouse.running(TIMES_S) != Mouse(4).running(TIMES_S))


@pytest.mark.parametrize("fraction", [0.1, 0.37, 0.8, 0.95])
@pytest.mark.parametrize("duration_s", [60.0, 1800.0])
def test_run_fraction_is_the_asked_one(fraction: float, duration_s: float) -> None:
    mouse = Mouse(1, fraction, duration_s)
    assert mouse.running(np.arange(0, duration_s, 0.01)).mean() == pytest.approx(fraction, abs=0.01)


def test_position_is_the_integral_of_speed(mouse: Mouse) -> None:
    t_s = np.arange(100.0, 160.0, 0.001)
    speed, position = mouse.running_speed_mm_s(t_s), mouse.wheel_position_mm(t_s)
    integral = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2 * 0.001)])
    np.testing.assert_allclose(position - position[0], integral, atol=0.01)
    assert mouse.wheel_position_mm(0.0) == 0.0


def test_speed_tells_running_from_rest(mouse: Mouse) -> None:
    speed, running = mouse.running_speed_mm_s(TIMES_S), mouse.running(TIMES_S)
    assert np.abs(speed[~running]).max() <= 5.0
    assert np.abs(speed[~running]).max() > 1.0  # it fidgets
    assert (speed[running] > 10.0).mean() > 0.95
    assert 50.0 < speed[running].mean() < 300.0
    assert speed.max() < 700.0


def test_speed_has_no_jumps(mouse: Mouse) -> None:
    speed = mouse.running_speed_mm_s(np.arange(0, 600, 0.01))
    assert np.abs(np.diff(speed)).max() < 40.0


def test_pupil_follows_running_late(mouse: Mouse) -> None:
    running, pupil = mouse.running(TIMES_S).astype(float), mouse.pupil_diameter_mm(TIMES_S)
    lagged = [np.corrcoef(running[: len(running) - k], pupil[k:])[0, 1] for k in range(80)]
    assert 0.8 <= np.argmax(lagged) * 0.05 <= 2.0
    assert pupil[running > 0].mean() > pupil[running == 0].mean() + 0.2
    assert pupil.min() >= 0.3
    assert pupil.max() <= 2.0


def test_gaze_is_mostly_horizontal_and_small(mouse: Mouse) -> None:
    gaze = mouse.pupil_position_mm(TIMES_S)
    assert gaze.shape == (*TIMES_S.shape, 2)
    assert 0.05 < gaze[:, 0].std() < 0.3
    assert gaze[:, 1].std() < gaze[:, 0].std()


def test_shape_follows_the_question(mouse: Mouse) -> None:
    assert mouse.running(1.5).shape == ()
    assert mouse.running_speed_mm_s(np.zeros((2, 3))).shape == (2, 3)
    assert mouse.pupil_position_mm(np.zeros((2, 3))).shape == (2, 3, 2)


def test_one_time_equals_the_same_time_among_many(mouse: Mouse) -> None:
    many: NDArray[np.float64] = mouse.running_speed_mm_s(TIMES_S[:50])
    assert [float(mouse.running_speed_mm_s(t)) for t in TIMES_S[:50]] == many.tolist()


def test_repeats_without_a_seam() -> None:
    mouse = Mouse(2, 0.5, 30.0)
    t_s = np.arange(0, 30, 0.01)
    np.testing.assert_allclose(mouse.running_speed_mm_s(t_s + 90.0), mouse.running_speed_mm_s(t_s), atol=1e-6)
    across = np.arange(29.5, 30.5, 0.001)
    assert np.abs(np.diff(mouse.running_speed_mm_s(across))).max() < 5.0
    assert np.abs(np.diff(mouse.wheel_position_mm(across))).max() < 1.0
    assert np.abs(np.diff(mouse.pupil_diameter_mm(across))).max() < 0.01


@pytest.mark.parametrize(("run_fraction", "duration_s"), [(0.0, 60.0), (1.0, 60.0), (0.5, 1.0)])
def test_impossible_mice_are_refused(run_fraction: float, duration_s: float) -> None:
    with pytest.raises(ConfigError, match=r"valid|between"):
        Mouse(0, run_fraction, duration_s)
