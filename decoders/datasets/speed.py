"""A speed that was sampled on its own clock, brought to the frames of a camera."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.datasets.behavior import LabelRule
from rig.errors import DataError

NS_PER_S = 1_000_000_000
_MAX_WAIT_S = 1.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SpeedTrace:
    """Speed samples in order: session time (n,) in ns, and speed (n,) in mm/s without NaN."""

    session_ns: NDArray[np.int64]
    mm_s: NDArray[np.float64]

    def at(self, frame_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Speed at each frame, (T,): the last sample at or before it; before the first sample, the first."""
        last = np.searchsorted(self.session_ns, frame_ns, side="right") - 1
        return self.mm_s[np.maximum(last, 0)]

    def running(self, frame_ns: NDArray[np.int64], rule: LabelRule) -> NDArray[np.bool_]:
        """Whether the animal runs at each frame, (T,), by `rule` on the speed's own samples."""
        return rule.at_times(self.session_ns, self.mm_s, frame_ns)


def speed_trace(
    session_ns: NDArray[np.int64], mm_s: NDArray[np.float64], frame_ns: NDArray[np.int64], path: Path
) -> SpeedTrace:
    """Check a speed and return it.

    NaN may stand only at the beginning, where a treadmill has not turned far enough to know its speed.

    Raises
    ------
    DataError
        For NaN after the first number, times that go backward, and frames that begin more than 1 s before the speed
        or end more than 1 s after it.
    """
    known = np.flatnonzero(np.isfinite(mm_s))
    if not len(known):
        raise DataError(
            f"{path}: its speed has no number, {len(mm_s)} samples are all NaN; valid are numbers"
        )
    trace = SpeedTrace(np.asarray(session_ns[known[0] :], np.int64), np.asarray(mm_s[known[0] :], np.float64))
    _refuse_nan(trace, path)
    _refuse_disorder(trace, path)
    _refuse_missing(trace, frame_ns, path)
    return trace


def refuse_nan(values: NDArray[np.float64], name: str, path: Path) -> None:
    """Raise `DataError` when any of the values, one a frame, is not a finite number."""
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise DataError(
            f"{path}: {name} is NaN or infinite at {len(bad)} of {len(values)} frames, the first is frame {bad[0]}; "
            "valid are numbers"
        )


def _refuse_nan(trace: SpeedTrace, path: Path) -> None:
    bad = np.flatnonzero(~np.isfinite(trace.mm_s))
    if len(bad):
        at_s = (trace.session_ns[bad[0]] - trace.session_ns[0]) / NS_PER_S
        raise DataError(
            f"{path}: its speed is NaN or infinite at {len(bad)} of {len(trace.mm_s)} samples, first {at_s:.2f} s "
            "after the first number; valid are numbers"
        )


def _refuse_disorder(trace: SpeedTrace, path: Path) -> None:
    backward = np.flatnonzero(np.diff(trace.session_ns) < 0)
    if len(backward):
        raise DataError(f"{path}: the times of its speed go backward at sample {backward[0] + 1}")


def _refuse_missing(trace: SpeedTrace, frame_ns: NDArray[np.int64], path: Path) -> None:
    if not len(frame_ns):
        raise DataError(f"{path}: has no frame")
    late_s = (trace.session_ns[0] - frame_ns[0]) / NS_PER_S
    early_s = (frame_ns[-1] - trace.session_ns[-1]) / NS_PER_S
    for missing_s, where in ((late_s, "after the first frame"), (early_s, "before the last frame")):
        if missing_s > _MAX_WAIT_S:
            begins = "begins" if where.startswith("after") else "ends"
            raise DataError(
                f"{path}: its speed {begins} {missing_s:.2f} s {where}; valid is {_MAX_WAIT_S:g} s"
            )
    longest_s = np.diff(trace.session_ns).max(initial=0) / NS_PER_S
    if longest_s > _MAX_WAIT_S:
        _LOG.warning("%s: no speed for %.2f s; the last one is taken to last", path, longest_s)
