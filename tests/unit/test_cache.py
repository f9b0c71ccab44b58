"""What is kept of a recording on the disk, and that large arrays are never whole in memory."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from decoders.datasets.behavior import BehaviorRecording
from decoders.datasets.cache import cached, cached_frames
from decoders.datasets.normalised import normalised
from decoders.normalise import NormaliserConfig, RunningNormaliser, bin_area
from decoders.view import BinnedView
from rig.errors import DataError

CONFIG = NormaliserConfig(20.0, 60.0, 30.0)


@pytest.fixture
def recording():
    frames = np.random.default_rng(0).integers(0, 4000, (600, 8, 12), dtype=np.uint16)
    running = np.arange(600) % 100 < 50
    return BehaviorRecording("m1", "s1", Path("s1.nwb"), 30.0, frames, running, running * 50.0)


def test_cached_arrays_are_not_made_again(recording, tmp_path):
    made = []

    def make():
        made.append(1)
        return {"a": np.arange(3)}

    for _ in range(2):
        np.testing.assert_array_equal(cached(tmp_path, recording, "a", make)["a"], np.arange(3))
    assert made == [1]


@pytest.mark.parametrize("kept", [True, False])
def test_normalised_frames_are_those_of_the_live_code(recording, tmp_path, kept):
    frames = normalised(recording, tmp_path if kept else None, BinnedView(4, 6), CONFIG)
    expected = RunningNormaliser(4, 6, CONFIG).movie(bin_area(frame, 4, 6) for frame in recording.frames)
    np.testing.assert_array_equal(frames, expected.astype(np.float16))
    assert not frames.flags.writeable
    assert len(list(tmp_path.iterdir())) == kept


def test_mapped_frames_are_not_made_again_unless_they_differ(recording, tmp_path):
    first = normalised(recording, tmp_path, BinnedView(4, 6), CONFIG)
    (kept,) = tmp_path.iterdir()
    written_ns = kept.stat().st_mtime_ns
    np.testing.assert_array_equal(normalised(recording, tmp_path, BinnedView(4, 6), CONFIG), first)
    assert kept.stat().st_mtime_ns == written_ns
    normalised(recording, tmp_path, BinnedView(4, 6), replace(CONFIG, common_mode=False))
    normalised(replace(recording, frames=recording.frames[::-1]), tmp_path, BinnedView(4, 6), CONFIG)
    assert len(list(tmp_path.iterdir())) == 3


def test_nothing_is_left_of_frames_that_could_not_be_read(recording, tmp_path):
    def broken():
        yield np.zeros((300, 4, 6), np.float16)
        raise DataError("page 300 cannot be read")

    with pytest.raises(DataError, match="page 300"):
        cached_frames(tmp_path, recording, "a", (600, 4, 6), broken)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(recording, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"a\.npz: cannot be written"):
        cached(tmp_path / "file" / "cache", recording, "a", lambda: {"a": np.arange(3)})


LARGE = """
import resource
from pathlib import Path
import numpy as np
from decoders.datasets.behavior import BehaviorRecording
from decoders.datasets.cache import cached_frames

class Frames:
    shape = (20000, 64, 64)
    def __getitem__(self, frames):
        return np.zeros((len(range(*frames.indices(20000))), 64, 64), np.uint16)

running = np.zeros(20000, np.bool_)
recording = BehaviorRecording("m", "s", Path("s.nwb"), 30.0, Frames(), running, running * 1.0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
batches = lambda: (np.ones((200, 64, 64), np.float16) for _ in range(100))
frames = cached_frames(Path("{folder}"), recording, "a", (20000, 64, 64), batches)
assert frames[19999, 63, 63] == 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_large_arrays_are_never_whole_in_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LARGE.replace("{folder}", str(tmp_path))],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    (kept,) = tmp_path.iterdir()
    assert kept.stat().st_size > 160_000_000
    assert int(done.stdout) * 1024 < 32_000_000
