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


@pytest.mark.parametrize(("mounted", "all_seen"), [(placement(7, 0.8), True), (placement(7, 1.1), False)])
def test_a_pixel_is_the_mean_of_those_of_its_samples_that_the_camera_sees(mounted, all_seen):
    frame = np.random.default_rng(0).integers(0, 4000, (128, 128)).astype(np.uint16)
    at_mm = ((np.arange(128) + 0.5) / 128 - 0.5) * FIELD_MM  # four a pixel each way
    column, row = mounted.to_px(at_mm[None, :], -1.6 - at_mm[:, None])
    apart = np.where(np.arange(128) % 2, 0.25, -0.25)  # so that not all are off in one direction
    column, row = (np.rint(px).astype(int) for px in (column + apart, row + apart[:, None]))
    inside = (column >= 0) & (column < 128) & (row >= 0) & (row < 128)
    value = np.where(inside, frame[row.clip(0, 127), column.clip(0, 127)], 0.0)
    total, seen = (a.reshape(32, 4, 32, 4).sum(axis=(1, 3)) for a in (value, inside))
    assert inside.all() == all_seen
    expected = total / np.maximum(seen, 1)
    np.testing.assert_allclose(StandardView(mounted, 128, 128)(frame), expected, rtol=1e-6)


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
