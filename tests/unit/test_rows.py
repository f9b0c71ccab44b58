from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rig.config import RunningConfig
from rig.messages import Output
from rig.recording.rows import join_texts, output_rows, split_text
from rig.recording.run_rest import RunRest

OUTPUT = Output("laser", 0, True, "threshold", 1, 2, 3, 4, "ON")


@given(st.text(), st.integers(4, 40))
def test_texts_come_together_again(text: str, width: int) -> None:
    pieces = split_text(text, width)
    assert all(len(piece) <= width for piece in pieces)
    part = np.arange(len(pieces))
    stored = np.array(pieces, f"S{width}")
    wanted = text.replace("\0", "\u2400").encode("utf-8", "backslashreplace").decode()
    assert join_texts(part, stored) == [wanted]


def test_no_character_is_cut_in_two() -> None:
    assert split_text("aé€𝄞", 4) == ["aé".encode(), "€".encode(), "𝄞".encode()]


def test_long_texts_take_more_rows_and_repeat_the_numbers() -> None:
    rows = output_rows(replace(OUTPUT, reason="r" * 1100, answer="a" * 600), 7)
    assert rows["part"].tolist() == [0, 1, 2]
    assert rows["index"].tolist() == [0, 0, 0]
    assert rows["sequence"].tolist() == [7, 7, 7]
    assert join_texts(rows["part"], rows["answer"]) == ["a" * 600]


def states(times: list[int], values: list[float], **running: float) -> list[tuple[float, float, str]]:
    """Run and rest, as rows, of a speed at these times (s)."""
    signal = RunRest(RunningConfig(smoothing_ms=0, **running), is_speed=True)
    at_ns = np.array(times) * 1_000_000_000
    rows = [*signal.follow(at_ns, np.array(values)), *signal.finish(99_000_000_000)]
    return [(r["start_time"][0], r["stop_time"][0], r["state"][0].decode()) for r in rows]


def test_run_and_rest_follow_each_other_without_a_hole() -> None:
    speed = [0.0, 20.0, 20.0, 0.0, 0.0, 20.0, 20.0]
    found = states(list(range(1, 8)), speed)
    assert found == [(1, 2, "rest"), (2, 4, "run"), (4, 6, "rest"), (6, 7, "run")]


def test_a_bout_that_is_too_short_is_rest() -> None:
    assert states([1, 2, 3], [0.0, 20.0, 0.0], min_bout_ms=1500.0) == [(1, 3, "rest")]


def test_a_signal_without_samples_is_unknown() -> None:
    assert states([], []) == [(0, 99, "unknown")]


def test_a_decoder_s_probability_is_cut_at_one_half() -> None:
    signal = RunRest(RunningConfig(min_bout_ms=0), is_speed=False)  # which says nothing while it warms up
    rows = signal.follow(np.array([0, 1, 2, 3]), np.array([np.nan, 0.49, 0.5, 0.2]))
    assert [(r["start_time"][0], r["state"][0]) for r in rows] == [(1e-9, b"rest"), (2e-9, b"run")]
