"""NWB files of other programs, written by pynwb as labs write them."""

from datetime import UTC, datetime

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.behavior import BehavioralTimeSeries
from pynwb.file import Subject
from pynwb.ophys import OnePhotonSeries, OpticalChannel

from decoders.datasets.behavior import LabelRule
from decoders.datasets.nwb import _speed_unit
from decoders.datasets.reading import ReadingOptions
from decoders.datasets.recordings import open_recordings
from rig.errors import DataError, SessionFileError

FRAMES, RATE_HZ, SPEED_HZ = 90, 30.0, 200.0
PIXELS = np.random.default_rng(5).integers(0, 60_000, (FRAMES, 9, 11)).astype(np.uint16)
AT_S = np.arange(600) / SPEED_HZ  # three seconds, as the frames
MM_S = np.where((AT_S >= 1.0) & (AT_S < 2.0), 80.0, 0.0)
RULE = LabelRule(threshold_mm_s=10.0, smoothing_s=0.0, min_bout_s=0.0)


def speed(name="running_speed", data=MM_S, unit="mm/s", **options):
    timing = options if {"timestamps", "rate"} & set(options) else options | {"rate": SPEED_HZ}
    return TimeSeries(name=name, data=data, unit=unit, **timing)


def write(path, *speeds, subject="M7", series=("widefield",), where="processing", **imaging):
    """Write a file: one-photon series, and speeds in a processing module, a container or the acquisition."""
    nwb = NWBFile(
        session_description="A mouse on a wheel",
        identifier="example",
        session_start_time=datetime(2025, 1, 2, tzinfo=UTC),
    )
    if subject is not None:
        nwb.subject = Subject(subject_id=subject, species="Mus musculus", sex="M", age="P90D")
    device = nwb.create_device(name="macroscope")
    plane = nwb.create_imaging_plane(
        name="cortex",
        optical_channel=OpticalChannel(name="green", description="GCaMP", emission_lambda=525.0),
        description="dorsal cortex",
        device=device,
        excitation_lambda=470.0,
        indicator="GCaMP6s",
        location="Isocortex",
    )
    timing = imaging if imaging else {"rate": RATE_HZ}
    for name in series:
        given = {"data": PIXELS, "unit": "a.u."} | timing
        nwb.add_acquisition(OnePhotonSeries(name=name, imaging_plane=plane, **given))
    for one in speeds:
        if where == "acquisition":
            nwb.add_acquisition(one)
        else:
            module = nwb.processing.get("behavior") or nwb.create_processing_module(
                name="behavior", description="wheel"
            )
            module.add(
                BehavioralTimeSeries(time_series=one, name=f"of_{one.name}") if where == "container" else one
            )
    with NWBHDF5IO(path, "w") as io:
        io.write(nwb)
    return path


def refused(path, **options):
    with pytest.raises(DataError) as caught, open_recordings([path], "sessions", **options):
        pass
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write(tmp_path_factory.mktemp("nwb") / "sub-M7_ses-1.nwb", speed())


def test_a_file_of_another_program(plain):
    with open_recordings([plain], "sessions", RULE) as (recording,):
        assert (recording.mouse, recording.session, recording.rate_hz) == ("M7", "sub-M7_ses-1", RATE_HZ)
        assert (recording.origin, recording.landmarks_px, recording.roi_traces) == ("recorded", None, None)
        np.testing.assert_array_equal(recording.frames[20:33], PIXELS[20:33])
        at_s = np.arange(FRAMES) / RATE_HZ
        np.testing.assert_array_equal(recording.running, (at_s >= 1.0) & (at_s < 2.0))
        np.testing.assert_allclose(recording.speed_mm_s, 80.0 * recording.running)


def test_without_a_rule_the_default_one_labels(plain):
    with open_recordings([plain], "sessions") as (recording,):
        assert recording.rule == LabelRule()
        assert 0.2 < recording.running.mean() < 0.5


@pytest.mark.parametrize("where", ["acquisition", "container"])
def test_a_speed_elsewhere_in_the_file(tmp_path, where):
    path = write(tmp_path / "a.nwb", speed("treadmill_velocity"), where=where)
    with open_recordings([path], "sessions", RULE) as (recording,):
        assert recording.speed_mm_s.max() == 80.0


@pytest.mark.parametrize(
    ("stored", "attributes"),
    [
        (MM_S / 1000, {"unit": "m/s"}),
        (MM_S / 10, {"unit": "cm/s"}),
        (MM_S, {"unit": "m/s", "conversion": 1e-3}),
        (MM_S * 2 + 6, {"unit": "millimeters/second", "conversion": 0.5, "offset": -3.0}),
    ],
)
def test_units_and_conversion(tmp_path, stored, attributes):
    path = write(tmp_path / "a.nwb", speed(data=stored, **attributes))
    with open_recordings([path], "sessions", RULE) as (recording,):
        assert recording.speed_mm_s.max() == pytest.approx(80.0)
        assert recording.speed_mm_s.min() == pytest.approx(0.0, abs=1e-9)


def test_a_unit_that_is_not_known_and_one_given(tmp_path):
    path = write(tmp_path / "a.nwb", speed(unit="rotations"))
    assert "has the unit 'rotations'; valid: m/s, cm/s, mm/s" in refused(path)
    with open_recordings([path], "sessions", RULE, ReadingOptions(speed_unit="cm/s")) as (recording,):
        assert recording.speed_mm_s.max() == 800.0


@given(
    st.sampled_from([("m", "m/s"), ("meter", "m/s"), ("cm", "cm/s"), ("Centimetre", "cm/s"), ("mm", "mm/s")]),
    st.sampled_from(["/s", " / s", "/sec", " per second", "s/second", " s-1", "s s^-1"]),
)
def test_spellings_of_units(length, per_second):
    assert _speed_unit(length[0] + per_second) == length[1]


@pytest.mark.parametrize("stated", ["", "a.u.", "rad/s", "m/s^2", "km/h", "degrees"])
def test_units_that_are_none_of_a_speed(stated):
    assert _speed_unit(stated) is None


def test_timestamps_of_frames_and_speed(tmp_path):
    """The series start at different times, and the rate comes from the frames' intervals."""
    frames_s = 10.0 + np.arange(FRAMES) / 25.0
    path = write(tmp_path / "a.nwb", speed(timestamps=9.5 + AT_S * 2), timestamps=frames_s)
    with open_recordings([path], "sessions", RULE) as (recording,):
        assert recording.rate_hz == pytest.approx(25.0)
        np.testing.assert_array_equal(recording.running, (frames_s >= 11.5) & (frames_s < 13.5))


def test_frames_lost_between_timestamps_are_said(tmp_path, caplog):
    frames_s = (np.arange(FRAMES) + 4 * (np.arange(FRAMES) > 40)) / RATE_HZ
    with open_recordings([write(tmp_path / "a.nwb", speed(), timestamps=frames_s)], "sessions"):
        pass
    assert "about 4 frames were lost" in caplog.text


def test_several_series_and_speeds_have_to_be_named(tmp_path):
    speeds = (speed("wheel_speed"), speed("ball_speed", data=2 * MM_S), speed("licks", data=3 * MM_S))
    path = write(tmp_path / "a.nwb", *speeds, series=("blue", "violet"))
    text = refused(path)
    assert "more than one OnePhotonSeries; there: acquisition/blue, acquisition/violet" in text
    assert "more than one running speed" in refused(path, options=ReadingOptions(series="blue"))
    for name, highest in [
        ("ball_speed", 160.0),
        ("/processing/behavior/wheel_speed", 80.0),
        ("licks", 240.0),
    ]:
        options = ReadingOptions(series="acquisition/blue", speed=name)
        with open_recordings([path], "sessions", options=options) as (recording,):
            assert recording.speed_mm_s.max() == highest
    text = refused(path, options=ReadingOptions(series="green"))
    assert "'green' is no OnePhotonSeries; there: acquisition/blue, acquisition/violet" in text


def test_no_series_and_no_speed(tmp_path):
    assert "no OnePhotonSeries; there: none" in refused(write(tmp_path / "a.nwb", speed(), series=()))
    assert "no running speed" in refused(write(tmp_path / "b.nwb", speed("licks")))
    both = np.stack([MM_S, MM_S], 1)
    assert "no running speed" in refused(write(tmp_path / "c.nwb", speed(data=both)))


@pytest.mark.parametrize("subject", [None, " "])
def test_no_mouse(tmp_path, subject):
    path = write(tmp_path / "a.nwb", speed(), subject=subject)
    assert "mouse id missing; valid is an NWB file with /general/subject/subject_id" in refused(path)


def test_nan_speed(tmp_path):
    bad = MM_S.copy()
    bad[300:303] = np.nan
    assert "its speed is NaN or infinite at 3 of 600 samples" in refused(
        write(tmp_path / "a.nwb", speed(data=bad))
    )


def test_a_speed_that_covers_other_times(tmp_path):
    late = write(tmp_path / "a.nwb", speed(timestamps=AT_S + 1.2))
    assert "its speed begins 1.20 s after the first frame" in refused(late)
    early = write(tmp_path / "b.nwb", speed(timestamps=AT_S - 1.5))
    assert "its speed ends 1.47 s before the last frame" in refused(early)
    backward = write(tmp_path / "c.nwb", speed(timestamps=AT_S[::-1].copy()))
    assert "the times of its speed go backward" in refused(backward)


def test_fewer_times_than_frames(tmp_path):
    path = write(tmp_path / "a.nwb", speed(), timestamps=np.arange(FRAMES) / RATE_HZ)
    with h5py.File(path, "a") as file:
        del file["acquisition/widefield/timestamps"]
        file["acquisition/widefield/timestamps"] = np.arange(FRAMES - 1) / RATE_HZ
    assert f"{FRAMES} frames, {FRAMES - 1} times of frames" in refused(path)


def test_frames_in_other_files(tmp_path):
    elsewhere = {
        "data": None,
        "external_file": ["a.tif"],
        "format": "external",
        "rate": RATE_HZ,
        "num_samples": 9,
    }
    path = write(tmp_path / "a.nwb", speed(), **elsewhere)
    assert "valid are frames (T, rows, columns) in the file" in refused(path)


def test_a_file_cut_short(plain, tmp_path):
    path = tmp_path / "cut.nwb"
    path.write_bytes(plain.read_bytes()[:4000])
    with pytest.raises(SessionFileError, match=r"cut\.nwb"), open_recordings([path], "sessions"):
        pass


def test_any_hdf5_file(tmp_path):
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file["x"] = 1
    assert "no OnePhotonSeries" in refused(tmp_path / "a.nwb")


def test_a_folder_as_an_archive_of_nwb_files_has_it(plain, tmp_path):
    """One folder a mouse, as DANDI lays data sets out."""
    for mouse in ("sub-M7", "sub-M8"):
        (tmp_path / mouse).mkdir()
        (tmp_path / mouse / f"{mouse}_ses-1.nwb").write_bytes(plain.read_bytes())
    with open_recordings([tmp_path], "sessions") as recordings:
        assert [r.session for r in recordings] == ["sub-M7_ses-1", "sub-M8_ses-1"]
