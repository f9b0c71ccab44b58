import math
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rig.drivers.dialects.line import (
    LONGEST_LINE,
    LineDialectConfig,
    LineParser,
    ParsedLines,
    format_line,
    wrapped_step,
)
from rig.messages import NO_TICKS
from rig.recording.layout import SAMPLE_FIELDS

CONFIG = LineDialectConfig(columns=("ticks", "count", "load"), scale={"load": 0.01})
TURN = 2**32

numbers = st.floats(-1e9, 1e9, allow_nan=False).map(lambda value: float(f"{value:.9g}"))
samples = st.lists(st.tuples(st.integers(0, TURN - 1), numbers, numbers), max_size=12)
junk_lines = st.binary(max_size=2 * LONGEST_LINE).filter(lambda b: b"\n" not in b)
streams = st.lists(
    st.one_of(
        samples.map(lambda rows: b"".join(format_line(CONFIG, t, v) for t, *v in rows)),
        junk_lines.map(lambda line: line + b"\n"),
    ),
    max_size=6,
).map(b"".join)


def parse(*portions: bytes, config: LineDialectConfig = CONFIG, mid_line: bool = False) -> ParsedLines:
    """Everything that some portions held, as if it had come in one."""
    parser = LineParser(config, mid_line)
    parts = [parser.feed(portion) for portion in portions]
    offsets = np.cumsum([0, *(len(part.ticks) for part in parts)])
    return ParsedLines(
        ticks=np.concatenate([part.ticks for part in parts]),
        values=np.concatenate([part.values for part in parts]),
        backward=tuple(int(o) + k for o, part in zip(offsets, parts, strict=False) for k in part.backward),
        junk=sum(part.junk for part in parts),
        junk_example=next((part.junk_example for part in parts if part.junk), ""),
        dropped_first=any(part.dropped_first for part in parts),
    )


def same(one: ParsedLines, other: ParsedLines) -> bool:
    def plain(p: ParsedLines) -> tuple[object, ...]:
        return p.ticks.tolist(), p.backward, p.junk, p.junk_example, p.dropped_first

    return plain(one) == plain(other) and np.array_equal(one.values, other.values, equal_nan=True)


@given(streams, st.binary(max_size=20), st.lists(st.integers(0, 4000), max_size=12), st.booleans())
def test_the_portions_do_not_matter(stream: bytes, tail: bytes, cuts: list[int], mid_line: bool) -> None:
    stream += tail
    edges = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    portions = [stream[a:b] for a, b in pairwise(edges)] or [b""]
    assert same(parse(*portions, mid_line=mid_line), parse(stream, mid_line=mid_line))


@given(streams)
def test_byte_by_byte_is_the_same_as_at_once(stream: bytes) -> None:
    assert same(parse(b"", *(stream[k : k + 1] for k in range(len(stream)))), parse(stream))


@given(samples)
def test_what_is_written_is_read_back(rows: list[tuple[int, float, float]]) -> None:
    found = parse(b"".join(format_line(CONFIG, t, v) for t, *v in rows))
    assert (found.ticks % TURN).tolist() == [t for t, *_ in rows]
    np.testing.assert_allclose(found.values, np.array([v for _, *v in rows]).reshape(-1, 2), rtol=1e-14)
    assert found.junk == 0


@given(
    st.lists(st.tuples(st.integers(0, 40), junk_lines), max_size=5),
    st.binary(max_size=300),
    st.integers(0, 2000),
)
def test_junk_never_costs_more_than_the_lines_it_touches(
    inserted: list[tuple[int, bytes]], splice: bytes, at: int
) -> None:
    lines = [format_line(CONFIG, 1_000_000 + 10_000 * k, (k, 0.5)) for k in range(40)]
    for place, junk in inserted:
        lines.insert(place, junk + b"\n")
    stream = b"".join(lines)
    at = min(at, len(stream))
    found = parse(stream[:at] + splice + stream[at:])
    wanted = {1_000_000 + 10_000 * k for k in range(40)}
    read = {t % TURN for t in found.ticks.tolist()}  # junk that spells a sample may send the turns astray
    assert len(wanted - read) <= 1
    assert found.junk <= len(inserted) + splice.count(b"\n") + 1


@given(st.integers(0, TURN - 1), st.lists(st.integers(0, TURN // 2 - 1), max_size=20))
def test_wraps_are_unrolled(first: int, steps: list[int]) -> None:
    true = np.cumsum([first, *steps])
    found = parse(b"".join(format_line(CONFIG, int(t), (0, 0)) for t in true))
    assert found.ticks.tolist() == true.tolist()
    assert found.backward == ()


@given(st.integers(TURN // 2, TURN - 1), st.integers(1, TURN // 2 - 1))
def test_a_step_back_is_told_and_not_taken_for_a_wrap(first: int, back: int) -> None:
    ticks = [first, first + 5, first + 5 - back, first + 6 - back]
    found = parse(b"".join(format_line(CONFIG, t, (0, 0)) for t in ticks))
    assert found.ticks.tolist() == ticks
    assert found.backward == (2,)


def test_the_first_line_after_opening_is_passed_over_even_if_it_reads_well() -> None:
    found = parse(b"456,1,2\n1000,2,3\n", mid_line=True)
    assert found.ticks.tolist() == [1000]
    assert found.dropped_first
    assert found.junk == 0


def test_a_whole_file_loses_no_line() -> None:
    found = parse(b"456,1,2\n1000,2,3\n1100,4")
    assert found.ticks.tolist() == [456, 1000]
    assert not found.dropped_first


@pytest.mark.parametrize(
    "junk",
    [
        b"1,2",
        b"1,2,3,4",
        b"x,2,3",
        b"nan,2,3",
        b"inf,2,3",
        b"1,two,3",
        b"1,inf,3",
        b"1,-inf,3",
        b"1,1e999,3",
        b"-1,2,3",
        b"4294967296,2,3",
        b"1_0,2,3",
        b"1.5,2,3",
        b",,",
        b"\x00,\xff,\xfe",
        b"1;2;3",
        b"9" * 5000,
    ],
)
def test_what_is_no_sample_is_counted_and_quoted(junk: bytes) -> None:
    found = parse(b"10,1,1\n" + junk + b"\n20,2,2\n")
    assert found.ticks.tolist() == [10, 20]
    assert found.junk == 1
    assert junk[:5].decode("ascii", "backslashreplace") in found.junk_example


def test_a_blink_is_a_sample() -> None:
    found = parse(b"10,1,nan\n20,NaN,2\n")
    assert found.junk == 0
    assert math.isnan(found.values[0, 1])
    assert math.isnan(found.values[1, 0])


def test_bytes_without_a_newline_are_told_at_once_and_once() -> None:
    parser = LineParser(CONFIG, mid_line=False)
    counts = [parser.feed(b"\x80" * 100).junk for _ in range(100)]
    assert counts.index(1) == 2
    assert sum(counts) == 1
    assert parser.feed(b"\n5,1,1\n").ticks.tolist() == [5]


def test_carriage_returns_spaces_and_empty_lines_are_no_fault() -> None:
    found = parse(b"\r\n 10 , 1 , 200 \r\n\n20,2,400\r\n")
    assert found.ticks.tolist() == [10, 20]
    assert found.values.tolist() == [[1, 2], [2, 4]]
    assert found.junk == 0


def test_a_space_stands_for_any_white_space() -> None:
    config = LineDialectConfig(columns=("ticks", "position"), separator=" ")
    assert parse(b"3993633 0 \n4554928\t -7\n", config=config).values.tolist() == [[0], [-7]]


def test_a_device_without_a_clock_has_no_ticks() -> None:
    config = LineDialectConfig(columns=("count",), tick_hz=0)
    found = parse(b"5\n6\n", config=config)
    assert found.ticks.tolist() == [NO_TICKS, NO_TICKS]
    assert found.backward == ()
    assert format_line(config, NO_TICKS, [5]) == b"5\n"


def test_columns_may_stand_in_any_order() -> None:
    config = LineDialectConfig(columns=("x", "ticks", "y"), scale={"y": 2}, tick_bits=16)
    assert format_line(config, 2**16 + 7, (0.5, 3)) == b"0.5,7,1.5\n"
    assert parse(b"0.5,7,1.5\n", config=config).values.tolist() == [[0.5, 3]]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"columns": ["ticks"]}, "at least one beside ticks"),
        ({"columns": ["ticks", "a", "a"]}, "each once"),
        ({"columns": ["a"]}, "or no ticks and tick_hz 0"),
        ({"columns": ["ticks", "a"], "tick_hz": 0}, "or no ticks and tick_hz 0"),
        ({"columns": ["ticks", "a"], "scale": {"b": 1}}, "scale names 'b'; valid: a"),
        ({"columns": ["ticks", "a"], "units": {"ticks": "s"}}, "units names 'ticks'; valid: a"),
        ({"columns": ["ticks", "a"], "scale": {"a": 0}}, "valid is any number but 0"),
        ({"columns": ["ticks", "a/b"]}, "column 'a/b': valid is a name without / and :"),
        ({"columns": ["ticks", "a:b"]}, "column 'a:b': valid is a name without / and :"),
        ({"columns": ["ticks", "."]}, "column '.': valid is a name without"),
        ({"columns": ["ticks", ""]}, "column '': valid is a name without"),
        *(
            ({"columns": ["ticks", field]}, f"column '{field}': valid is any name but those that the file's")
            for field in SAMPLE_FIELDS
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(says)):
        LineDialectConfig.model_validate(settings)


def test_a_column_may_be_called_as_people_write() -> None:
    columns = ("ticks", "Temp (C)", "data", "position", "sample-1")
    assert LineDialectConfig(columns=columns).value_columns == columns[1:]


@given(st.integers(), st.integers(2, 63))
def test_the_shorter_way_round(difference: int, bits: int) -> None:
    step = wrapped_step(difference, bits)
    assert (step - difference) % 2**bits == 0
    assert -(2 ** (bits - 1)) <= step < 2 ** (bits - 1)
