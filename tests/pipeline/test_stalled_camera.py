"""A camera that stalls or loses frames: the decoder says that it does not know, and nothing acts on it."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from rig.closed_loop.actuator import LOOP_STOPPED
from rig.messages import PredictionStatus
from rig.recording.reader import SessionReader
from tests.rig_command import rig_json, simulated_mouse

STALL_AFTER_S, STALL_S, WARM_UP_S = 3.0, 1.0, 1.0
POLICY = {"decoder": "behavior", "output": "laser", "threshold_on": 0.0, "threshold_off": 0.0}


@pytest.fixture(scope="module")
def stalled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run whose camera stalls for a second, with an output that is on whenever there is a decision."""
    folder = tmp_path_factory.mktemp("stalled")
    config = simulated_mouse(
        folder,
        cameras__widefield__stall_after_s=STALL_AFTER_S,
        cameras__widefield__stall_s=STALL_S,
        decoders={"behavior": {"decoder": "causal", "camera": "widefield", "warm_up_s": WARM_UP_S}},
        closed_loop=[{**POLICY, "max_on_ms": 60_000, "max_age_ms": 2_000}],
    )
    session = folder / "session.nwb"
    return session, rig_json("run", config, "--duration", 7, "--no-gui", "--output", session)


def test_the_stall_is_told_and_the_answers_after_it_are_unknown(stalled: tuple[Path, dict[str, Any]]) -> None:
    with SessionReader(stalled[0]) as reader:
        table, gaps = reader.predictions("behavior"), reader.gaps("widefield")
    first, last = round(STALL_AFTER_S * 30), round((STALL_AFTER_S + STALL_S) * 30)
    assert (gaps[0].first, gaps[-1].last) == (first, last - 1)
    (stall,) = np.flatnonzero(~table.answers).tolist()
    assert table.status[stall] == PredictionStatus.CAMERA_STALLED
    assert table.source_index[stall - 1 : stall + 2].tolist() == [first - 1, -1, last]
    waited_ns = table.received_ns[stall] - table.frame_arrival_ns[stall - 1]
    assert 100e6 <= waited_ns < STALL_S * 1e9
    after = table.status[stall + 1 :]
    forgotten = np.flatnonzero(after == PredictionStatus.FRAMES_MISSING)
    assert forgotten.tolist() == list(range(len(forgotten)))
    assert len(forgotten) > 3
    assert set(after[len(forgotten) :].tolist()) == {PredictionStatus.OK}
    assert np.array_equal(np.isnan(table.values), table.status != PredictionStatus.OK)
    assert (np.diff(table.frame_session_ns) > 0).all()


def test_the_output_is_off_while_nothing_is_known(stalled: tuple[Path, dict[str, Any]]) -> None:
    with SessionReader(stalled[0]) as reader:
        told = [(o.on, o.reason) for o in reader.outputs("laser")]
        table = reader.predictions("behavior")
        second = [o for o in reader.outputs("laser") if o.on][1]
        intervals = reader.intervals("behavior")
    assert told == [
        (True, "above threshold"),
        (False, "unknown: camera stalled"),
        (True, "above threshold"),
        (False, "run stops"),
    ]
    known = table.status == PredictionStatus.OK
    assert second.prediction_index == table.index[known & (table.source_index >= 120)][0]
    assert [state for _, _, state in intervals].count("unknown") == 1


def test_the_reports_say_how_often_it_did_not_know(stalled: tuple[Path, dict[str, Any]]) -> None:
    session, report = stalled
    unknown = rig_json("info", session)["decoders"]["behavior"]["unknown"]
    assert unknown == report["decoders"]["behavior"]["unknown"]
    assert unknown["warming_up"] == WARM_UP_S * 30
    assert unknown["camera_stalled"] == 1
    assert report["decoders"]["behavior"]["decisions"] == report["streams"]["widefield"]["received"]


def test_a_replay_decides_and_switches_the_same(stalled: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    session, report = stalled
    again = tmp_path / "again.nwb"
    compared = rig_json("replay", session, "--speed", "max", "--output", again)["compared"]["behavior"]
    assert compared["stalls"] == 1
    assert compared["live"] == compared["identical"] == report["decoders"]["behavior"]["decisions"]
    with SessionReader(session) as first, SessionReader(again) as second:
        a, b = first.predictions("behavior"), second.predictions("behavior")
        for column in ("index", "source_index", "status", "frame_session_ns"):
            assert np.array_equal(getattr(a, column), getattr(b, column)), column
        switched = [[(o.on, o.reason) for o in reader.outputs("laser")] for reader in (first, second)]
        stopped = [_loop_stopped(reader) for reader in (first, second)]
    assert switched[0] == switched[1]
    assert stopped[0] == stopped[1]
    assert stopped[0] > (STALL_AFTER_S + STALL_S) * 1e9


def test_a_replay_switches_nothing_after_the_live_loop_was_stopped(
    stalled: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """As when a run ends just before the decoder's last answers: here, before the stall."""
    session, again = tmp_path / "session.nwb", tmp_path / "again.nwb"
    shutil.copy(stalled[0], session)
    with SessionReader(session) as reader:
        seen_ns = int(reader.predictions("behavior").frame_session_ns[60])
    with h5py.File(session, "r+") as file:
        events = file["processing/session_log/events"]
        row = events["kind"][:].astype("U").tolist().index(LOOP_STOPPED)
        events["text"][row] = json.dumps({"seen_ns": seen_ns})
    compared = rig_json("replay", session, "--speed", "max", "--output", again)["compared"]["behavior"]
    assert compared["live"] == compared["identical"]
    with SessionReader(again) as reader:
        assert [(o.on, o.reason) for o in reader.outputs("laser")] == [
            (True, "above threshold"),
            (False, "run stops"),
        ]
        assert _loop_stopped(reader) == seen_ns


def _loop_stopped(reader: SessionReader) -> int:
    """Up to when the closed loop saw decisions."""
    (event,) = (event for event in reader.events() if event.kind == LOOP_STOPPED)
    assert event.stream == "laser"
    return int(json.loads(event.text)["seen_ns"])


@pytest.mark.slow
def test_single_frames_lost_are_carried_over(tmp_path: Path) -> None:
    config = simulated_mouse(
        tmp_path,
        without=("closed_loop",),
        cameras__widefield__drop_every=5,
        decoders={"behavior": {"decoder": "causal", "camera": "widefield", "warm_up_s": 0}},
    )
    report = rig_json("run", config, "--duration", 3, "--no-gui", "--output", tmp_path / "session.nwb")
    assert report["streams"]["widefield"]["lost"] > 10
    assert report["decoders"]["behavior"]["unknown"] == {
        "warming_up": 0,
        "frames_missing": 0,
        "camera_stalled": 0,
        "image_moved": 0,
    }
