"""The live importance map against a network whose use of the image is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoders.behavior.importance import LiveImportance, Pixels, State
from decoders.behavior.live import CausalBehavior
from rig.messages import Frame, FrameStream

SIZE = 32  # squares of 8, stride 4
RATE_HZ = 10.0
START = np.zeros(1, np.float32)


def uses(rows: slice, columns: slice):  # type: ignore[no-untyped-def]
    """A network that runs where these pixels are bright, and carries half of what it saw before."""

    def step(pixels: Pixels, state: State) -> tuple[float, State]:
        after = 0.5 * state + pixels[rows, columns].mean(dtype=np.float32)
        return float(1 / (1 + np.exp(-after[0]))), after

    return step


def follow(importance: LiveImportance, step, frames, calls_a_frame: int, busy: int = 0) -> int:  # type: ignore[no-untyped-def]
    """Decode frames as the decoder would, with calls to spare after each but the first; return the maps made."""
    state, maps = START, 0
    for number, pixels in enumerate(frames):
        probability, after = step(pixels, state)
        importance.follow(pixels, state, probability)
        state = after
        for _ in range(calls_a_frame if number >= busy else 0):
            if importance.has_work:
                maps += importance.work()
    return maps


def bright(count: int, seed: int = 0) -> list[Pixels]:
    return list(np.random.default_rng(seed).uniform(0.5, 1.5, (count, SIZE, SIZE)).astype(np.float32))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_place_that_is_used_stands_out_whatever_the_decoder_says(sign: float) -> None:
    step = uses(slice(8, 16), slice(20, 28))
    importance = LiveImportance(step, SIZE, SIZE, RATE_HZ)
    frames = [np.float32(sign) * frame for frame in bright(100)]
    assert follow(importance, step, frames, 20) > 49
    image = importance.image()
    used = np.zeros((SIZE, SIZE), bool)
    used[8:16, 20:28] = True
    near = np.zeros((SIZE, SIZE), bool)
    near[1:23, 13:32] = True  # within one square of it
    assert image[used].min() > 0.02
    assert abs(image[~near]).max() < 1e-6
    assert np.unravel_index(image.argmax(), image.shape)[0] in range(8, 16)


def test_before_a_second_of_frames_there_is_nothing_to_do_and_then_one_square_a_frame() -> None:
    step = uses(slice(0, 4), slice(0, 4))
    importance = LiveImportance(step, SIZE, SIZE, RATE_HZ)
    assert follow(importance, step, bright(9), 99) == 0
    assert np.isnan(importance.image()).all()
    assert follow(importance, step, bright(5), 99) == 5
    assert np.isfinite(importance.image()).sum() == 8 * 24  # five squares in a row


@settings(max_examples=30)
@given(st.integers(1, 30))
def test_the_map_is_the_same_however_the_work_is_cut_up(calls: int) -> None:
    """Frames stand still, so when a square is tried makes no difference, only whether it is done right."""
    step = uses(slice(8, 16), slice(8, 16))
    frames = bright(1) * 700  # the first 40 until the state stands still too
    whole, parts = (LiveImportance(step, SIZE, SIZE, RATE_HZ) for _ in range(2))
    follow(whole, step, frames[:100], 10, busy=40)
    follow(parts, step, frames, calls, busy=40)
    np.testing.assert_allclose(parts.image(), whole.image(), atol=1e-5)


def test_what_came_before_a_gap_is_not_mixed_with_what_came_after() -> None:
    step = uses(slice(0, 8), slice(0, 8))
    importance = LiveImportance(step, SIZE, SIZE, RATE_HZ)
    follow(importance, step, bright(12), 5)
    importance.forget()
    assert not importance.has_work
    follow(importance, step, bright(9), 5)
    assert not importance.has_work


def decoder(importance: bool) -> CausalBehavior:
    config = CausalBehavior.Config(decoder="causal", camera="w", warm_up_s=0, importance=importance)
    made = CausalBehavior("behavior", config)
    landmarks_px = {"bregma": (64.0, 46.0), "lambda": (64.0, 94.0)}
    camera = FrameStream("w", 128, 128, "uint16", 30.0, 0.0, landmarks_px=landmarks_px)
    assert made.load(camera).importance == importance
    return made


def test_decisions_are_the_same_bits_with_and_without() -> None:
    frames = np.random.default_rng(1).integers(100, 4000, (70, 128, 128), np.uint16)
    plain, explained = decoder(False), decoder(True)
    maps = []
    for k, pixels in enumerate(frames):
        frame = Frame("w", k, -1, 0, pixels)
        assert plain.step(frame).tobytes() == explained.step(frame).tobytes()
        for _ in range(k % 45):
            values = explained.work() if explained.has_work else None
            maps += [] if values is None else [values]
    assert len(maps) > 20
    assert np.isfinite(maps[-1]).any()
    assert not plain.has_work
