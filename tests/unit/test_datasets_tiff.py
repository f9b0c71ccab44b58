"""Frames of TIFFs as microscopes and programs write them, whole and cut short."""

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decoders.datasets.tiff import MappedFrames, PagedFrames, tiff_frames
from rig.errors import DataError

STACK = np.random.default_rng(1).integers(0, 65_000, (20, 16, 17)).astype(np.uint16)


def page_by_page(path, **options):
    with tifffile.TiffWriter(path, **options) as file:
        for frame in STACK:
            file.write(frame, contiguous=False, metadata=None)


WRITERS = {
    "contiguous": (lambda path: tifffile.imwrite(path, STACK), MappedFrames),
    "without metadata": (lambda path: tifffile.imwrite(path, STACK, metadata=None), MappedFrames),
    "big-endian": (lambda path: tifffile.imwrite(path, STACK, byteorder=">"), MappedFrames),
    "BigTIFF": (lambda path: tifffile.imwrite(path, STACK, bigtiff=True), MappedFrames),
    "ImageJ": (lambda path: tifffile.imwrite(path, STACK, imagej=True), MappedFrames),
    "compressed": (lambda path: tifffile.imwrite(path, STACK, compression="zlib"), PagedFrames),
    "pages": (page_by_page, PagedFrames),
    "big-endian pages": (lambda path: page_by_page(path, byteorder=">"), PagedFrames),
    "BigTIFF pages": (lambda path: page_by_page(path, bigtiff=True), PagedFrames),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_frames_of_every_kind_of_file(tmp_path, kind):
    write, reads = WRITERS[kind]
    write(tmp_path / "x.tif")
    with tiff_frames(tmp_path / "x.tif") as frames:
        assert isinstance(frames, reads)
        assert frames.shape == STACK.shape
        for chosen in (slice(0, 20), slice(7, 8), slice(3, 11), slice(18, 99), slice(5, 5), slice(0, 20, 7)):
            np.testing.assert_array_equal(frames[chosen], STACK[chosen])
            assert frames[chosen].dtype == np.dtype("uint16")
            assert frames[chosen].dtype.isnative


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    for kind, (write, _) in WRITERS.items():
        write(folder / f"{kind}.tif")
    return {kind: (folder / f"{kind}.tif").read_bytes() for kind in WRITERS}


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(WRITERS)), left=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_refused_or_whole_in_what_is_read(tmp_path, caplog, whole_files, kind, left):
    """One clear line, at the latest when the missing page is read; never other pixels, never a shorter stack."""
    content = whole_files[kind]
    path = tmp_path / "cut.tif"
    path.write_bytes(content[: int(len(content) * left)])
    caplog.clear()
    said = said_of(path)
    assert not said or said.startswith(f"{path}: TIFF cut short or damaged")
    assert "\n" not in said
    assert not caplog.records


def said_of(path):
    """Why the file is refused; empty when all of its frames are read."""
    try:
        with tiff_frames(path) as frames:
            np.testing.assert_array_equal(frames[0:20], STACK)
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", ["contiguous", "compressed", "pages"])
@pytest.mark.parametrize("left", [0.0, 0.001, 0.3, 0.75, 0.9])
def test_a_file_that_lacks_frames_is_refused(tmp_path, whole_files, kind, left):
    content = whole_files[kind]
    path = tmp_path / "cut.tif"
    path.write_bytes(content[: int(len(content) * left)])
    with pytest.raises(DataError, match="TIFF cut short or damaged"), tiff_frames(path) as frames:
        frames[0:20]


@pytest.mark.parametrize(
    "stack",
    [STACK.astype(np.float32), STACK[0], np.zeros((4, 8, 9, 3), np.uint8)],
    ids=["not whole numbers", "one picture", "colours"],
)
def test_other_pictures_are_refused(tmp_path, stack):
    tifffile.imwrite(tmp_path / "x.tif", stack)
    with (
        pytest.raises(DataError, match=r"valid is one stack of pages \(T, H, W\)"),
        tiff_frames(tmp_path / "x.tif"),
    ):
        pass


def test_pages_of_different_sizes_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        file.write(STACK[0], metadata=None)
        file.write(STACK[1, :8], metadata=None)
    with pytest.raises(DataError, match="valid is one stack"), tiff_frames(tmp_path / "x.tif"):
        pass


def test_no_file(tmp_path):
    with pytest.raises(DataError, match=r"gone\.tif"), tiff_frames(tmp_path / "gone.tif"):
        pass


def test_a_compression_that_cannot_be_read_here(tmp_path):
    """JPEG XR, as the tag says; the pages are never decoded by it."""
    tifffile.imwrite(tmp_path / "x.tif", STACK, compression="zlib")
    with tifffile.TiffFile(tmp_path / "x.tif", mode="r+b") as file:
        for page in file.pages:
            page.tags["Compression"].overwrite(22610)
    with pytest.raises(DataError, match=r"imagecodecs|cannot be read"), tiff_frames(tmp_path / "x.tif"):
        pass
