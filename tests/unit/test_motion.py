import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from decoders.traces.motion import RigidMotion, RunningReference, moved_back
from rig.errors import DataError

HEIGHT, WIDTH, MARGIN = 96, 120, 40
BOUND = 12
shifts = st.integers(-BOUND, BOUND)


@pytest.fixture(scope="module")
def field():
    """A field of view larger than the camera sees, photons a frame."""
    size = (HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN)
    smooth = gaussian_filter(np.random.default_rng(0).random(size), 1.5)
    return 40.0 * (smooth - smooth.min()) / np.ptp(smooth)


@pytest.fixture(scope="module")
def motion(field):
    return RigidMotion(seen(field, 0, 0), BOUND)


def seen(field, down, right):
    """What the camera sees of the field when the image has moved so far."""
    top, left = MARGIN - down, MARGIN - right
    return field[top : top + HEIGHT, left : left + WIDTH]


@settings(max_examples=40)
@given(down=shifts, right=shifts, seed=st.integers(0, 1000))
def test_a_known_shift_is_found_in_photon_noise_and_undone(field, motion, down, right, seed):
    frame = np.random.default_rng(seed).poisson(seen(field, down, right)).astype(np.uint16)
    found = motion(frame)
    assert (found.shift_px, found.is_lost) == ((down, right), False)
    inner = slice(BOUND, -BOUND)
    expected = frame[BOUND + down : HEIGHT - BOUND + down, BOUND + right : WIDTH - BOUND + right]
    np.testing.assert_array_equal(found.frame[inner, inner], expected)


def test_the_reference_itself_is_in_place(field, motion):
    found = motion(seen(field, 0, 0))
    assert (found.shift_px, found.is_lost) == ((0, 0), False)
    assert found.peak == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("shift", [(BOUND + 1, 0), (0, -BOUND - 1), (25, -30)])
def test_a_jump_beyond_the_bound_is_flagged_and_not_corrected(field, motion, shift):
    frame = seen(field, *shift)
    found = motion(frame)
    assert found.is_lost
    assert found.shift_px == shift
    np.testing.assert_array_equal(found.frame, frame.astype(np.float32))


@pytest.mark.parametrize("level", [0, 20])
def test_a_dark_or_empty_frame_has_no_place(motion, level):
    frame = np.random.default_rng(1).poisson(level, (HEIGHT, WIDTH)).astype(np.uint16)
    assert motion(frame).is_lost


@settings(max_examples=40)
@given(st.integers(-9, 9), st.integers(-9, 9))
def test_nothing_wraps_around(down, right):
    frame = np.arange(1.0, 36.0, dtype=np.float32).reshape(5, 7)
    moved = moved_back(frame, (down, right), np.float32(-1.0))
    for row in range(5):
        for column in range(7):
            y, x = row + down, column + right
            inside = 0 <= y < 5 and 0 <= x < 7
            assert moved[row, column] == (frame[y, x] if inside else -1.0)


def test_a_reference_is_the_mean_of_the_first_frames():
    frames = np.random.default_rng(0).integers(0, 9, (3, 4, 5), dtype=np.uint16)
    running = RunningReference(3)
    assert [running.add(frame) is None for frame in frames[:2]] == [True, True]
    np.testing.assert_allclose(running.add(frames[2]), frames.mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("image", "bound", "said"),
    [
        (np.zeros((64, 64)), 5, "structured image"),
        (np.full((64, 64), np.nan), 5, "finite"),
        (np.arange(64.0), 5, r"shape \(64,\)"),
        (np.arange(4096.0).reshape(64, 64), 32, "valid is 1 to 31"),
    ],
)
def test_references_that_are_none(image, bound, said):
    with pytest.raises(DataError, match=said):
        RigidMotion(image, bound)
