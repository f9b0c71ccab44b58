"""Counts of a run: what is shown while it goes on costs the same after a minute and after a day."""

import threading
from array import array
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rig.acquisition import statistics
from rig.acquisition.statistics import Statistics, recorder_report
from rig.messages import Prediction
from rig.recording.recorder import RecorderStatus

Usage = namedtuple("Usage", "total used free")
MS = 1_000_000


def answered(latencies_ms: list[int]) -> Statistics:
    """Statistics of a decoder that took so long for its answers."""
    counted = Statistics()
    counted.add_decoder("behavior")
    for index, latency_ms in enumerate(latencies_ms):
        prediction = Prediction("behavior", index, 0, index, 0, np.zeros(1, np.float32), 0, 0, 0, 0, 0)
        counted.count_prediction(prediction, latency_ms * MS)
    return counted


def latency(report: dict[str, dict[str, object]]) -> Any:
    return report["behavior"]["latency_ms"]


def test_live_latency_is_that_of_the_latest_answers_and_the_final_one_of_all() -> None:
    counted = answered([900] * 100 + [5] * 4096)
    assert latency(counted.decoder_report()) == {"p50": 5.0, "p99": 5.0, "max": 5.0}
    assert latency(counted.decoder_report(whole_run=True)) == {"p50": 5.0, "p99": 900.0, "max": 900.0}
    assert counted.all_latencies_ms() == {"p50": 5.0, "p99": 900.0, "max": 900.0}


def test_before_the_first_answer_there_is_no_latency() -> None:
    counted = answered([])
    assert counted.all_latencies_ms() is None
    assert latency(counted.decoder_report()) is None
    assert latency(counted.decoder_report(whole_run=True)) is None
    assert Statistics().all_latencies_ms() is None


def test_a_whole_run_of_latencies_is_kept_in_eight_bytes_each() -> None:
    kept = answered([1, 2, 3]).decoders["behavior"].latency_ns
    assert isinstance(kept, array)
    assert kept.itemsize == 8


@pytest.mark.parametrize("whole_run", [False, True])
def test_nothing_is_worked_out_while_frames_wait(monkeypatch: pytest.MonkeyPatch, whole_run: bool) -> None:
    counted = answered([1, 2, 3])
    percentile, free = np.percentile, []

    def watched(*arguments: Any) -> Any:
        other = threading.Thread(target=lambda: free.append(counted._lock.acquire(blocking=False)))
        other.start()
        other.join()
        if free[-1]:
            counted._lock.release()
        return percentile(*arguments)

    monkeypatch.setattr(statistics.np, "percentile", watched)
    counted.decoder_report(whole_run=whole_run)
    counted.all_latencies_ms()
    assert free == [True, True]


@pytest.mark.parametrize(("min_free_gb", "minutes"), [(0.0, 17.5), (1.0, 0.8), (2.0, 0.0)])
def test_the_disk_is_full_when_the_run_will_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, min_free_gb: float, minutes: float
) -> None:
    output = tmp_path / "s.nwb"
    output.write_bytes(bytes(MS))
    free = SimpleNamespace(disk_usage=lambda _: Usage(0, 0, 1_050_000_000))
    monkeypatch.setattr(statistics, "shutil", free)
    report = recorder_report(RecorderStatus(0, 0, 0, {}, 0), output, 1.0, min_free_gb)
    assert (report["minutes_left"], report["disk_free_gb"]) == (minutes, 1.05)
