from pathlib import Path

import numpy as np
import pytest

from rig.messages import FrameStream, PredictionStream, SampleStream
from rig.recording import layout
from rig.recording.rows import (
    event_rows,
    frame_rows,
    output_rows,
    prediction_rows,
    row_count,
    sample_rows,
)
from tests.unit.session_example import answer, example_messages, frame, samples

DOC = Path(__file__).parents[2] / "docs" / "session-file.md"


def tables() -> tuple[layout.Table, ...]:
    """Tables of a session whose streams are called what the documentation calls them."""
    serial = (
        SampleStream("<treadmill>", ("count", "running_speed"), ("count", "mm/s"), 100.0, 1e6),
        SampleStream("<pupil>", ("diameter", "x", "y"), ("mm", "mm", "mm"), 60.0, 1e6),
        SampleStream("<stimulus>", ("clip", "movie_frame"), ("", ""), 30.0, 1e6),
    )
    return layout.session_tables(
        (FrameStream("<camera>", 4, 6, "uint16", 30.0, 0.0),),
        serial,
        (PredictionStream("<decoder>", "<camera>", (), "probability", "Probability to run"),),
        ("<output>",),
        "<treadmill>",
    )


def fixed_paths() -> list[str]:
    names = [name for name in vars(layout) if name.isupper() and isinstance(getattr(layout, name), str)]
    return [getattr(layout, name) for name in names if getattr(layout, name).startswith("/scratch")]


def test_every_dataset_is_in_the_documentation() -> None:
    text = DOC.read_text(encoding="utf-8")
    paths = [column.path for table in tables() for column in table.columns] + fixed_paths()
    assert len(fixed_paths()) == 9
    assert [path for path in [*paths, f"{layout.MOVIES}/data"] if f"`{path}`" not in text] == []


def test_documentation_names_no_dataset_that_is_not_there() -> None:
    known = {column.path for table in tables() for column in table.columns} | set(fixed_paths())
    lines = DOC.read_text(encoding="utf-8").splitlines()
    named = [line.split("`")[1] for line in lines if line.startswith("| `/")]
    assert len(named) == len(set(named))
    assert [path for path in named if path not in known | {f"{layout.MOVIES}/data"}] == []


def test_no_two_columns_share_a_dataset() -> None:
    paths = [column.path for table in tables() for column in table.columns]
    assert len(paths) == len(set(paths))


def test_paths_that_scripts_rely_on() -> None:
    paths = {column.path for table in tables() for column in table.columns}
    assert "/acquisition/<camera>/data" in paths
    assert "/processing/behavior/<treadmill>/running_speed/data" in paths
    assert "/processing/decoding/<decoder>/data" in paths
    assert all(
        f"{path.removesuffix('/data')}/timestamps" in paths
        for path in ("/acquisition/<camera>/data", "/processing/decoding/<decoder>/data")
    )


def test_activity_of_rois_lies_where_nwb_tools_look_for_it() -> None:
    text = DOC.read_text(encoding="utf-8")
    for unit, container in (
        ("dF/F", "DfOverF"),
        ("dF/F per frame", "Fluorescence"),
        ("counts", "Fluorescence"),
    ):
        stream = PredictionStream("<traces>", "<camera>", (7,), unit, "", per_roi=True)
        assert layout.prediction_series(stream) == f"/processing/ophys/{container}/<traces>"
        table = layout.session_tables((), (), (stream,), (), None)[-1]
        assert (table.kind, table.column("values").shape) == (layout.PREDICTIONS, (7,))
        assert f"`{layout.prediction_series(stream)}`" in text


def test_every_time_of_a_message_is_an_int64_of_nanoseconds() -> None:
    columns = [column for table in tables() for column in table.columns if column.field.endswith("_ns")]
    assert {(column.dtype, column.unit) for column in columns} == {("int64", "ns")}


def test_a_frame_is_one_chunk_and_no_chunk_is_large() -> None:
    large = FrameStream("large", 2048, 2048, "uint16", 30.0, 0.0)
    for table in (*layout.session_tables((large,), (), (), (), None), *tables()):
        for column in table.columns:
            if column.field == "pixels":
                assert column.chunk == (1, *column.shape)
            else:
                row_bytes = column.text_bytes or np.dtype(column.dtype).itemsize * int(np.prod(column.shape))
                assert column.chunk[0] * row_bytes <= 65_536


def test_a_row_larger_than_a_chunk_still_makes_one() -> None:
    big = PredictionStream("big", "camera", (300, 400), "grey levels", "")
    table = layout.session_tables((), (), (big,), (), None)[-1]
    assert table.column("values").chunk == (1, 300, 400)


def test_speed_is_in_metres_per_second_and_the_driver_s_values_stay_exact() -> None:
    stream = SampleStream("treadmill", ("count", "running_speed"), ("count", "mm/s"), 100.0, 1e6)
    batch = samples("treadmill", 0, [[4096.0, 123.4], [4100.0, 0.1 + 0.2]])
    rows = sample_rows(stream, batch, 0, 0)
    np.testing.assert_allclose(rows["running_speed"], [0.1234, 0.0003], rtol=1e-12)
    np.testing.assert_array_equal(rows["count"], [4096.0, 4100.0])
    np.testing.assert_array_equal(rows["values"], batch.values)


def test_pupil_position_is_a_pair_in_metres() -> None:
    stream = SampleStream("pupil", ("diameter", "x", "y"), ("mm", "mm", "mm"), 60.0, 1e6)
    rows = sample_rows(stream, samples("pupil", 0, [[1.5, 0.25, -0.5]]), 0, 0)
    np.testing.assert_allclose(rows["position"], [[0.00025, -0.0005]])
    np.testing.assert_allclose(rows["diameter"], [0.0015])


@pytest.mark.parametrize("columns", [("position",), ("diameter", "x", "y", "position")])
def test_a_column_called_position_is_one_number(columns: tuple[str, ...]) -> None:
    stream = SampleStream("stage", columns, ("mm",) * len(columns), 60.0, 1e6)
    table = layout.session_tables((), (stream,), (), (), None)[1]
    rows = sample_rows(stream, samples("stage", 0, [[1.5] * len(columns), [2.5] * len(columns)]), 0, 0)
    assert table.column("position").shape == ()
    np.testing.assert_allclose(rows["position"], [0.0015, 0.0025])
    assert sorted(column.field for column in table.columns) == sorted({*rows, "id"})


def test_the_fields_that_a_table_of_samples_has_of_its_own_are_listed() -> None:
    stream = SampleStream("box", ("force",), ("N",), 60.0, 1e6)
    table = layout.session_tables((), (stream,), (), (), None)[1]
    assert sorted(layout.SAMPLE_FIELDS) == sorted({column.field for column in table.columns} - {"force"})


def test_unknown_units_and_columns_are_kept_as_they_are() -> None:
    stream = SampleStream("lick", ("force",), ("mN",), 0.0, 0.0)
    (series,) = layout.sample_series(stream)
    assert (series.path, series.unit, series.scale) == ("/processing/behavior/lick/force", "mN", 1.0)


def test_movie_frame_counts_over_all_clips_and_blank_is_minus_one() -> None:
    stream = SampleStream("stimulus", ("clip", "movie_frame"), ("", ""), 30.0, 1e6)
    values = [[0.0, 3.0], [2.0, 7.0], [-1.0, -1.0], [-1.0, 5.0]]
    rows = sample_rows(stream, samples("stimulus", 0, values), 0, movie_frames=300)
    assert rows["movie"].tolist() == [3, 607, -1, -1]
    assert rows["movie"].dtype == np.int32


@pytest.mark.parametrize("kind", ["frames", "predictions", "outputs", "events"])
def test_rows_have_the_fields_of_their_table(kind: str) -> None:
    made = {
        "frames": frame_rows(frame("widefield", 3), 0),
        "predictions": prediction_rows(answer("behavior", (), 3), 0, 9),
        "outputs": output_rows(next(m for m in example_messages() if type(m).__name__ == "Output"), 0),
        "events": event_rows(next(m for m in example_messages() if type(m).__name__ == "Event"), 0),
    }[kind]
    table = next(table for table in tables() if table.kind == kind)
    assert set(made) == {column.field for column in table.columns} - {"id", "pixels"}
    assert row_count(made) == 1
