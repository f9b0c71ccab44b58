"""From a frame to the activity of its neurons: motion, traces, neuropil, dF/F, spikes; frame by frame."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.traces.deconvolution import CausalDeconvolution
from decoders.traces.motion import Registered, RigidMotion, RunningReference
from decoders.traces.responses import BaselineConfig, RunningResponses
from decoders.traces.rois import NEUROPIL_SHARE, TiledSurround, WeightedMeans
from rig.rois import RoiMasks

Values = NDArray[np.float32]
Means = Callable[[NDArray[np.float32]], Values]


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """How frames become traces."""

    rate_hz: float
    tau_s: float = 1.0
    """Decay time of the indicator: suite2p's default, GCaMP6m's."""
    neuropil_share: float = NEUROPIL_SHARE
    """Of the surround's mean subtracted; 0: none."""
    max_shift_px: int = 20
    """Largest motion believed; 0: motion is not corrected."""
    reference_s: float = 10.0
    """Without a reference image, the mean of so much is one."""
    baseline_fall_s: float = 2.0
    baseline_rise_s: float = 60.0
    """How fast the baseline of dF/F follows a trace below and above it."""


@dataclass(frozen=True, slots=True)
class NeuronSignals:
    """One frame's activity of N neurons, (N,) each: grey levels less neuropil, dF/F, spikes in units of dF/F."""

    fluorescence: Values
    dff: Values
    spikes: Values


class LiveTraces:
    """Frames (H, W) to the activity of N neurons; the same code offline and live, no look at later frames.

    Parameters
    ----------
    cells
        Regions of interest in the reference's place.
    neuropil
        Surrounds of the same cells; None: those of `TiledSurround`.
    reference
        Image (H, W) that frames are registered to; None: the mean of the first `reference_s`, with no answer meanwhile.

    Raises
    ------
    DataError
        When the reference cannot be registered to, or hardly a pixel is outside the cells.
    """

    def __init__(
        self,
        cells: RoiMasks,
        settings: TraceSettings,
        neuropil: RoiMasks | None = None,
        reference: NDArray[np.generic] | None = None,
    ) -> None:
        self.count, self.settings = cells.count, settings
        self.cells: Means = WeightedMeans(cells)
        self.surround = _surround(cells, neuropil) if settings.neuropil_share else None
        self.motion: RigidMotion | None = None
        self._first: RunningReference | None = None
        if settings.max_shift_px and reference is None:
            self._first = RunningReference(round(settings.reference_s * settings.rate_hz))
        elif settings.max_shift_px:
            self.motion = RigidMotion(np.asarray(reference), settings.max_shift_px)
        self.registered: Registered | None = None
        """How the last frame lay; None: not yet known, or motion is not corrected."""
        baseline = BaselineConfig(settings.baseline_fall_s, settings.baseline_rise_s, settings.rate_hz)
        self.responses = RunningResponses(baseline)
        self.deconvolution = CausalDeconvolution(settings.tau_s, settings.rate_hz)
        self._passed = 0

    @property
    def is_lost(self) -> bool:
        """Whether the last frame's place could not be found, so that its traces are unknown."""
        return self.registered is not None and self.registered.is_lost

    def step(self, frame: NDArray[np.generic], missed: int = 0) -> NeuronSignals | None:
        """Take one frame (H, W), with `missed` before it; None while the reference is made or when it is lost."""
        placed = self._placed(frame)
        self._passed += missed
        if placed is None:
            self._passed += 1
            return None
        fluorescence = self.fluorescence(placed)
        dff = self.responses.step(fluorescence)
        passed, self._passed = self._passed, 0
        return NeuronSignals(fluorescence, dff, self.deconvolution.step(dff, passed))

    def fluorescence(self, placed: NDArray[np.float32]) -> Values:
        """Traces (N,) of a frame in the reference's place, less neuropil."""
        traces = self.cells(placed)
        if self.surround is not None:
            traces -= np.float32(self.settings.neuropil_share) * self.surround(placed)
        return traces

    def _placed(self, frame: NDArray[np.generic]) -> NDArray[np.float32] | None:
        if self._first is not None:
            reference = self._first.add(frame)
            if reference is not None:
                self.motion, self._first = RigidMotion(reference, self.settings.max_shift_px), None
            return None
        if self.motion is None:
            return frame.astype(np.float32)
        self.registered = self.motion(frame)
        return None if self.registered.is_lost else self.registered.frame


def _surround(cells: RoiMasks, neuropil: RoiMasks | None) -> Means:
    return TiledSurround(cells) if neuropil is None else WeightedMeans(neuropil)
