"""The empty session file: groups, types and descriptions by pynwb, the datasets that grow by the layout."""

import json
import os
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hdmf.build.errors import BuildError
from numpy.typing import NDArray
from pynwb import NWBHDF5IO, H5DataIO, NWBFile, ProcessingModule, TimeSeries
from pynwb.behavior import BehavioralTimeSeries, PupilTracking, SpatialSeries
from pynwb.core import DynamicTable, ScratchData, VectorData
from pynwb.device import Device
from pynwb.epoch import TimeIntervals
from pynwb.file import Subject
from pynwb.image import ImageSeries
from pynwb.ophys import ImagingPlane, OnePhotonSeries, OpticalChannel, RoiResponseSeries, TwoPhotonSeries

from rig.config import CameraConfig
from rig.description import SessionDescription
from rig.errors import RecordingError
from rig.messages import FrameStream, SampleStream
from rig.recording import layout
from rig.recording.frame_chunks import COMPRESSIONS
from rig.recording.layout import Column, Table
from rig.recording.provenance import DISTRIBUTION, provenance
from rig.recording.roi_responses import add_segmentation, responses_container
from rig.recording.session_file import reason_of
from rig.rois import RoiMasks

MovieArray = NDArray[np.uint8] | None
_ORDER = "Axes are (frame, row, column), rows counted from the top of the camera's image."


def create_session_file(
    path: Path,
    session: SessionDescription,
    tables: Sequence[Table],
    movies: MovieArray,
    rois: Mapping[str, RoiMasks],
) -> None:
    """Write an empty, valid NWB file; it appears under its name complete or not at all.

    Raises
    ------
    RecordingError
        When the file exists already, or cannot be written.
    """
    refuse_existing(path)
    if not path.parent.is_dir():
        raise RecordingError(f"{path.parent} is not a folder; create it or choose another one")
    partial = partial_name(path)
    try:
        _write(partial, session, tables, movies, rois)
        publish(partial, path)
    except (OSError, ValueError, TypeError, BuildError) as error:  # the last three: NWB cannot hold it
        raise RecordingError(f"{path} cannot be created: {reason_of(error)}") from error
    finally:
        partial.unlink(missing_ok=True)


def refuse_existing(path: Path) -> None:
    """Raise RecordingError when the name is taken."""
    if path.exists() or path.is_symlink():
        raise RecordingError(f"{path} exists and is never overwritten; choose another name")


def partial_name(path: Path) -> Path:
    """Name that a file has until it is complete: beside it, hidden."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def publish(partial: Path, path: Path) -> None:
    """Give a finished file its name; a hard link, unlike a rename, fails when the name is taken.

    Raises
    ------
    RecordingError
        When the name is taken.
    """
    try:
        os.link(partial, path)
    except FileExistsError:
        refuse_existing(path)
        raise
    except OSError:  # a file system without hard links
        refuse_existing(path)
        partial.rename(path)


def _write(
    partial: Path,
    session: SessionDescription,
    tables: Sequence[Table],
    movies: MovieArray,
    rois: Mapping[str, RoiMasks],
) -> None:
    nwb = _nwb_file(session)
    _add_streams(nwb, session, tables, rois)
    _add_tables(nwb, tables)
    _add_movies(nwb, session, movies)
    _add_scratch(nwb, session, tables, movies.shape[1] if movies is not None else 0)
    compression = session.config.recording.compression
    with h5py.File(partial, "x", libver="latest") as file:
        # pynwb closes what it is given only when it opened it, so the datasets can be put right in one go
        NWBHDF5IO(file=file, mode="w").write(nwb)
        for table in tables:
            for column in table.columns:
                _make_growing(file, column, compression)
            _name_columns(file, table)
        _make_text(file, layout.FINISH_REASON, 16)


def _make_growing(file: h5py.File, column: Column, compression: str) -> None:
    """Replace pynwb's placeholder: pynwb cannot make fixed-width text, the only text that SWMR can append."""
    attributes = dict(file[column.path].attrs)
    del file[column.path]
    shape = column.shape
    dtype = h5py.string_dtype("utf-8", column.text_bytes) if column.text_bytes else column.dtype
    filters = COMPRESSIONS[compression] if column.field == "pixels" else {}
    dataset = file.create_dataset(
        column.path, (0, *shape), dtype, maxshape=(None, *shape), chunks=column.chunk, **filters
    )
    dataset.attrs.update(attributes)


def _name_columns(file: h5py.File, table: Table) -> None:
    """Tell the order of a table's columns, which pynwb leaves out of tables without rows."""
    names = [column.field for column in table.own_columns]
    file[table.group].attrs.create("colnames", names, dtype=h5py.string_dtype())


def _make_text(file: h5py.File, path: str, text_bytes: int) -> None:
    """Replace pynwb's placeholder by one fixed-width text that can be overwritten later."""
    attributes = dict(file[path].attrs)
    del file[path]
    dataset = file.create_dataset(path, (1,), h5py.string_dtype("utf-8", text_bytes))
    dataset.attrs.update(attributes)


def _nwb_file(session: SessionDescription) -> NWBFile:
    about = session.config.session
    subject = about.subject
    origin = "" if session.origin == "live" else f" Replayed from {Path(session.origin).name}."
    nwb = NWBFile(
        session_description=about.description + origin,
        identifier=session.identifier,
        session_start_time=session.clock.started_at,
        experimenter=about.experimenter or None,
        lab=about.lab or None,
        institution=about.institution or None,
        session_id=session.identifier,
        keywords=["calcium imaging", "behavior", "closed loop"],
        was_generated_by=[[DISTRIBUTION, metadata.version(DISTRIBUTION)]],
    )
    nwb.subject = Subject(
        subject_id=subject.subject_id,
        species=subject.species,
        sex=subject.sex,
        age=subject.age,
        genotype=subject.genotype or None,
        description="Subject of the session",
    )
    return nwb


def _add_streams(
    nwb: NWBFile, session: SessionDescription, tables: Sequence[Table], rois: Mapping[str, RoiMasks]
) -> None:
    known = {(table.kind, table.name): table for table in tables}
    for camera in session.frames:
        config = session.config.cameras[camera.name]
        device = _device(nwb, camera.name, config.driver, camera.properties)
        nwb.add_acquisition(_frame_series(nwb, known[layout.FRAMES, camera.name], camera, config, device))
    for stream in session.samples:
        _device(nwb, stream.name, session.config.serial[stream.name].driver, stream.properties)
        _add_samples(nwb, known[layout.SAMPLES, stream.name], stream)
    for name, said in session.outputs:
        _device(nwb, name, session.config.outputs[name].driver, said)
    for decoder in session.predictions:
        table = known[layout.PREDICTIONS, decoder.name]
        path, comments = layout.prediction_series(decoder), _as_text(decoder.provenance)
        if decoder.per_roi:
            region = add_segmentation(nwb, _module(nwb, path), decoder, rois[decoder.name])
            series = _series(RoiResponseSeries, table, "values", decoder.name, comments=comments, rois=region)
            responses_container(_module(nwb, path), path).add_roi_response_series(series)
        else:
            series = _series(TimeSeries, table, "values", decoder.name, comments=comments)
            _module(nwb, path).add(series)


def _device(nwb: NWBFile, name: str, driver: str, properties: dict[str, str]) -> Device:
    return nwb.create_device(name=name, description=f"Driver {driver}. {_as_text(properties)}".strip())


def _as_text(properties: dict[str, str]) -> str:
    return "; ".join(f"{key}: {value}" for key, value in properties.items()) or "none"


def _frame_series(
    nwb: NWBFile, table: Table, camera: FrameStream, config: CameraConfig, device: Device
) -> OnePhotonSeries | TwoPhotonSeries:
    kind = OnePhotonSeries if config.imaging.kind == "one_photon" else TwoPhotonSeries
    return _series(
        kind,
        table,
        "pixels",
        camera.name,
        comments=_ORDER,
        imaging_plane=_imaging_plane(nwb, camera, config, device),
        dimension=[camera.width_px, camera.height_px],
    )


def _imaging_plane(nwb: NWBFile, camera: FrameStream, config: CameraConfig, device: Device) -> ImagingPlane:
    imaging = config.imaging
    text = f"Emission at {imaging.emission_nm:g} nm"
    channel = OpticalChannel(name="emission", description=text, emission_lambda=imaging.emission_nm)
    return nwb.create_imaging_plane(
        name=f"{camera.name}_plane",
        optical_channel=channel,
        description=f"{imaging.kind.replace('_', '-')} imaging of {imaging.location} by {camera.name}",
        device=device,
        excitation_lambda=imaging.excitation_nm,
        indicator=imaging.indicator,
        location=imaging.location,
        imaging_rate=camera.rate_hz,
        grid_spacing=[imaging.pixel_size_um * 1e-6] * 2,
        grid_spacing_unit="meters",
    )


def _add_samples(nwb: NWBFile, table: Table, stream: SampleStream) -> None:
    made: list[TimeSeries] = []
    for entry in layout.sample_series(stream):
        name = entry.path.rsplit("/", 1)[1]
        more: dict[str, Any] = {"timestamps": made[0]} if made else {}
        if entry.field == "position":
            frame = "(0, 0) is the top left corner of the eye camera's image"
            made.append(_series(SpatialSeries, table, entry.field, name, reference_frame=frame, **more))
        else:
            made.append(_series(TimeSeries, table, entry.field, name, **more))
    if layout.is_stimulus(stream):
        nwb.add_stimulus(made[0])
        return
    container = PupilTracking if layout.is_pupil(stream) else BehavioralTimeSeries
    _module(nwb, layout.BEHAVIOR).add(container(name=stream.name, time_series=made))


def _series(kind: type[Any], table: Table, field: str, name: str, **more: Any) -> Any:
    """One time series over the placeholders of a column and, unless linked, of the table's timestamps."""
    column = table.column(field)
    description = column.description or f"{field} of {table.name}"
    more = {"timestamps": _placeholder(table.column("timestamps")), **more}
    return kind(
        name=name, data=_placeholder(column), unit=column.unit or "n.a.", description=description, **more
    )


def _placeholder(column: Column) -> H5DataIO:
    dtype = "int8" if column.text_bytes else column.dtype
    data = np.empty((0, *column.shape), dtype)
    return H5DataIO(data=data, maxshape=(None, *column.shape), chunks=column.chunk)


_MODULES = {
    "behavior": "Running and pupil, in SI units",
    "decoding": "Output of the live decoders",
    "ophys": "Activity of regions of interest, as the live decoders saw it",
    "timing": "When each frame, sample and answer was taken, on which clock, exactly as it travelled",
    "closed_loop": "Commands sent to output devices",
    "session_log": "What happened during the session",
}


def _module(nwb: NWBFile, path: str) -> ProcessingModule:
    name = path.split("/")[2]
    return nwb.processing.get(name) or nwb.create_processing_module(name, _MODULES[name])


def _add_tables(nwb: NWBFile, tables: Sequence[Table]) -> None:
    """Add what each table keeps beside its time series."""
    for table in tables:
        group = table.group
        kind = TimeIntervals if table.kind == layout.INTERVALS else DynamicTable
        made = kind(
            name=group.rsplit("/", 1)[1],
            description=table.description,
            id=_placeholder(table.column("id")),
            columns=[_vector(column) for column in table.own_columns],
        )
        if table.kind == layout.INTERVALS:
            nwb.add_time_intervals(made)
        else:
            _module(nwb, group).add(made)


def _vector(column: Column) -> VectorData:
    unit = f" ({column.unit})" if column.unit else ""
    return VectorData(name=column.field, description=column.description + unit, data=_placeholder(column))


def _add_movies(nwb: NWBFile, session: SessionDescription, movies: MovieArray) -> None:
    """Store the movies shown, clip after clip: (clips, T, H, W) as (clips * T, H, W)."""
    if movies is None or session.config.stimulus is None:
        return
    clips, frames = movies.shape[:2]
    movie = ImageSeries(
        name=layout.MOVIES.rsplit("/", 1)[1],
        data=movies.reshape(clips * frames, *movies.shape[2:]),
        rate=session.config.stimulus.movie.rate_hz,
        starting_time=0.0,
        unit="grey levels",
        description=f"Movies shown: {clips} clips of {frames} frames each, one after the other",
    )
    nwb.add_stimulus_template(movie)


def _add_scratch(
    nwb: NWBFile, session: SessionDescription, tables: Sequence[Table], movie_frames: int
) -> None:
    contents = [
        {"kind": t.kind, "name": t.name, "columns": {c.field: c.path for c in t.columns}} for t in tables
    ]
    entries = {
        layout.SESSION: (session.as_json(), "Streams, devices, decoders, clock and configuration, as JSON"),
        layout.CONFIGURATION: (session.config.as_json(), "Resolved configuration, as canonical JSON"),
        layout.CONFIGURATION_SHA256: (session.config.digest(), "SHA-256 of the configuration"),
        layout.PROVENANCE: (json.dumps(provenance()), "Versions of format, program and packages, as JSON"),
        layout.TABLES: (json.dumps(contents), "Datasets that grow together, as JSON"),
        layout.ROWS: (np.zeros(len(tables), np.int64), "Rows of each table that are complete on disk"),
        layout.FINISH_REASON: (np.zeros(1, np.int8), "completed, cancelled or failed; empty: never closed"),
        layout.HIGH_WATER: (np.zeros(1, np.int64), "Most bytes that ever waited for the disk"),
        layout.MOVIE_FRAMES: (
            np.array([movie_frames]),
            "Frames of one clip of the movies; 0: there were none",
        ),
    }
    for path, (data, description) in entries.items():
        nwb.add_scratch(ScratchData(name=path.rsplit("/", 1)[1], data=data, description=description))
