"""The colours of an importance map."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gui.overlay import colours, full_scale, legend

DROPS = hnp.arrays(np.float32, (4, 5), elements=st.floats(-1, 1, width=32) | st.just(np.nan))


@given(DROPS)
def test_the_scale_holds_every_drop_and_is_no_magnifying_glass(drops: np.ndarray) -> None:
    scale = full_scale(drops)
    assert scale >= 0.02
    assert not (drops > scale).any()


@given(DROPS)
def test_no_drop_has_no_colour_and_more_is_never_fainter(drops: np.ndarray) -> None:
    opacity = colours(drops, full_scale(drops))[..., 3]
    known = np.nan_to_num(drops, nan=0.0).ravel()
    assert (opacity.ravel()[known <= 0] == 0).all()
    assert (np.diff(opacity.ravel()[np.argsort(known)].astype(int)) >= 0).all()


def test_more_is_brighter_so_that_no_colour_vision_is_needed() -> None:
    strip = legend(100, 2)
    assert strip.shape == (2, 100, 4)
    luminance = strip[0, :, :3] @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(luminance) >= -1).all()
    assert luminance[-1] > 1.5 * luminance[0]
