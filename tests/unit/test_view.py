import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from decoders.atlas import Placement, place
from decoders.view import FIELD_MM, VIEW_PX, BinnedView, StandardView
from rig.errors import DataError

PX_PER_MM = 128 / FIELD_MM


def placement(turn_deg=0.0, scale=1.0, centre=(63.5, 63.5)):
    """A brain turned and scaled about the centre of the standard field, which lies at `centre` in the frame."""
    turn = PX_PER_MM * scale * np.exp(1j * np.deg2rad(turn_deg))
    return Placement(complex(turn), complex(*centre) - complex(turn) * 1.6j, 0.0)


def painted(where, height, width, centre_mm):
    """A frame with a Gaussian spot of 0.8 mm at (ML, AP)."""
    ml, ap = where.to_mm(height, width)
    return 1000 * np.exp(-((ml - centre_mm[0]) ** 2 + (ap - centre_mm[1]) ** 2) / (2 * 0.8**2))


def test_a_brain_in_its_standard_place_is_binned():
    frame = np.random.default_rng(0).integers(0, 4000, (128, 128)).astype(np.uint16)
    seen = StandardView(placement(), 128, 128)(frame)
    np.testing.assert_allclose(seen, BinnedView(32, 32)(frame), rtol=1e-5)


@given(st.floats(-15, 15), st.floats(0.85, 1.1), st.floats(-6, 6), st.floats(-6, 6))
@example(0.0, 1.0, 0.5001, 0.5001)  # not turned: the nearest pixels of all samples lie in one direction
@settings(max_examples=25)
def test_every_mount_gives_the_same_view(turn_deg, scale, right, down):
    spot_mm = (1.5, -0.5)
    expected = StandardView(placement(), 128, 128)(painted(placement(), 128, 128, spot_mm))
    mounted = placement(turn_deg, scale, (63.5 + right, 63.5 + down))
    seen = StandardView(mounted, 128, 128)(painted(mounted, 128, 128, spot_mm))
    assert np.corrcoef(seen.ravel(), expected.ravel())[0, 1] > 0.999


def test_fine_and_oblong_frames_too():
    mounted = Placement(complex(PX_PER_MM * 4), complex(330, 255) - complex(PX_PER_MM * 4) * 1.6j, 0.0)
    seen = StandardView(mounted, 512, 640)(painted(mounted, 512, 640, (0.0, -1.6)))
    assert seen.shape == (VIEW_PX, VIEW_PX)
    assert np.unravel_index(seen.argmax(), seen.shape) in {(r, c) for r in (15, 16) for c in (15, 16)}


def test_back_in_the_frame_and_nothing_outside():
    mounted = placement(10.0, 0.8, (60.0, 70.0))
    view = StandardView(mounted, 128, 128)
    frame = painted(mounted, 128, 128, (2.0, -2.0))
    back = view.back(view(frame)).repeat(2, 0).repeat(2, 1)  # a tile is two pixels of this camera each way
    assert back.shape == frame.shape
    known = np.isfinite(back)
    assert 0.5 < known.mean() < 1.0  # the smaller brain leaves a margin that the view does not show
    assert np.corrcoef(back[known], frame[known])[0, 1] > 0.97


def test_what_the_camera_does_not_see_is_zero():
    view = StandardView(placement(centre=(120.0, 63.5)), 128, 128)
    seen = view(np.full((128, 128), 500, np.uint16))
    assert not seen[:, -10:].any()
    assert (seen[:, :10] == 500).all()


@pytest.mark.parametrize("right", range(4))
def test_between_two_groups_of_four_both_count_by_how_near_they_are(right):
    row = np.random.default_rng(0).integers(0, 4000, 128).astype(np.uint16)
    frame = np.tile(row, (128, 1))
    groups = BinnedView(32, 32)(frame)
    expected = (groups[:, :-1] * (4 - right) + groups[:, 1:] * right) / 4
    seen = StandardView(placement(centre=(63.5 + right, 63.5)), 128, 128)(frame)
    np.testing.assert_allclose(seen[:, :-1], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("mounted", "all_seen"),
    [(placement(7, 0.8), True), (placement(7, 1.1), False), (placement(90, 1.1), False)],
)
@pytest.mark.parametrize("width", [128, 131])  # the last three columns make no group
def test_a_pixel_is_the_mean_of_those_of_its_samples_that_the_camera_sees(mounted, all_seen, width):
    frame = np.random.default_rng(0).integers(0, 4000, (128, width)).astype(np.uint16)
    at_mm = ((np.arange(32) + 0.5) / 32 - 0.5) * FIELD_MM
    column, row = mounted.to_px(at_mm[None, :], -1.6 - at_mm[:, None])
    apart_px = FIELD_MM / 128 / mounted.mm_per_px
    total, seen = np.zeros((32, 32)), np.zeros((32, 32))
    for k, (row_off, group_off) in enumerate(zip((-1, 1, -1, 1), (-3, 1, -1, 3), strict=True)):
        at_row = np.rint(row + (k - 1.5) * apart_px + row_off / 4).astype(int)
        at_group = np.rint((column - 1.5) / 4 + group_off / 8).astype(int)
        inside = (at_row >= 0) & (at_row < 128) & (at_group >= 0) & (at_group < 32)
        fours = frame[:, :128].reshape(128, 32, 4).sum(axis=2)
        total += np.where(inside, fours[at_row.clip(0, 127), at_group.clip(0, 31)], 0.0)
        seen += 4 * inside
    assert (seen == 16).all() == all_seen
    expected = total / np.maximum(seen, 1)
    np.testing.assert_allclose(StandardView(mounted, 128, width)(frame), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, ">u2"])
def test_any_kind_of_number(dtype):
    frame = np.random.default_rng(0).integers(0, 200, (128, 128))
    expected = BinnedView(32, 32)(frame.astype(np.uint16))
    np.testing.assert_allclose(StandardView(placement(), 128, 128)(frame.astype(dtype)), expected, rtol=1e-5)


@pytest.mark.parametrize("centre", [(63.5, 63.5), (120.0, 63.5)])
def test_how_a_frame_lies_in_memory_makes_no_difference(centre):
    view = StandardView(placement(centre=centre), 128, 128)
    frame = np.random.default_rng(0).integers(0, 4000, (128, 128)).astype(np.uint16)
    expected = view(frame)
    alike = (frame.astype(np.float32), np.asfortranarray(frame), frame.repeat(2, 1)[:, ::2])
    for other in alike:
        assert view(other).tobytes() == expected.tobytes()


def test_what_was_seen_stays():
    view = StandardView(placement(centre=(120.0, 63.5)), 128, 128)
    frame = np.full((128, 128), 500, np.float32)
    seen = view(frame)
    before = seen.copy()
    view(2 * frame)
    frame[:] = 0
    np.testing.assert_array_equal(seen, before)


def test_landmarks_are_needed():
    with pytest.raises(DataError, match="1 landmarks_px; valid is two or three"):
        place({"bregma": (1.0, 2.0)}, "rig.yaml")
