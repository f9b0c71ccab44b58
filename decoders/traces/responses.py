"""Raw traces to responses: causal dF/F over a running baseline. The same code offline and live."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SMALLEST_BASELINE = 1.0  # grey levels: dF/F of a dark ROI must not run away


@dataclass(frozen=True, slots=True)
class BaselineConfig:
    """How fast the baseline follows a trace that is below it (`fall_s`) and above it (`rise_s`)."""

    fall_s: float
    rise_s: float
    rate_hz: float


class RunningResponses:
    """dF/F of N traces, each over a baseline that sinks fast and rises slowly, so that transients hardly lift it.

    The first frame is the first baseline. No later frame takes part in a frame's answer.
    """

    def __init__(self, config: BaselineConfig) -> None:
        self._fall, self._rise = (
            np.float32(1.0 - math.exp(-1.0 / (time_s * config.rate_hz)))
            for time_s in (config.fall_s, config.rise_s)
        )
        self._baseline: NDArray[np.float32] | None = None

    def step(self, traces: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take one frame's traces (N,) and return its responses (N,)."""
        baseline = traces.copy() if self._baseline is None else self._baseline
        above = traces - baseline
        self._baseline = baseline + np.where(above > 0, self._rise, self._fall) * above
        responses = (traces - self._baseline) / np.maximum(self._baseline, np.float32(_SMALLEST_BASELINE))
        return responses.astype(np.float32)

    def recording(self, traces: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Responses to traces in order, (T, N)."""
        return np.stack([self.step(frame) for frame in traces])
