"""`decoder: traces`: the activity of every region of interest, frame by frame, recorded as ROI responses."""

from pathlib import Path
from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from decoders.traces.pickled import read_npy
from decoders.traces.pipeline import LiveTraces, NeuronSignals, TraceSettings
from decoders.traces.rois import label_masks, read_label_image
from decoders.traces.suite2p import FieldOfView, read_suite2p
from rig.config import DecoderConfig
from rig.errors import DataError
from rig.messages import Frame, FrameStream, PredictionStatus, PredictionStream
from rig.rois import RoiMasks

Signal = Literal["spikes", "dff", "fluorescence"]
_UNITS: dict[Signal, tuple[str, str]] = {
    "spikes": (
        "dF/F per frame",
        "Rise of dF/F that the decay of calcium does not explain, causally deconvolved",
    ),
    "dff": ("dF/F", "dF/F over a running baseline, neuropil subtracted"),
    "fluorescence": ("counts", "Weighted mean of each ROI's pixels, neuropil subtracted"),
}


class RoiActivity:
    """Live traces of regions of interest, see `decoders.protocols.LiveDecoder`."""

    class Config(DecoderConfig):
        """Tag `traces`."""

        decoder: Literal["traces"]
        rois: str
        """Folder that suite2p wrote (with stat.npy and ops.npy), or a label image: a .npy of (H, W) integers."""
        signal: Signal = "spikes"
        """What is sent and recorded: spikes (deconvolved), dff, or fluorescence (neuropil subtracted)."""
        tau_s: PositiveFloat | None = None
        """Decay time of the indicator; by default suite2p's `tau`, or 1.0."""
        neuropil_share: float | None = Field(default=None, ge=0.0, le=1.0)
        """Share of the surround subtracted, 0: none; by default suite2p's `neucoeff`, or 0.7."""
        max_shift_px: int = Field(default=20, ge=0)
        """Largest motion believed, pixels; 0: motion is not corrected."""
        reference: str | None = None
        """Image that frames are registered to, a .npy of (H, W); by default suite2p's `refImg`, or..."""
        reference_s: PositiveFloat = 10.0
        """...the mean of the first seconds of the session, in which nothing is known."""

    def __init__(self, name: str, config: Config) -> None:
        self._name, self._config = name, config
        self._last: int | None = None

    @classmethod
    def roi_masks(cls, config: Config) -> RoiMasks:
        """Read the regions that a recording keeps beside the traces; raises `DataError`."""
        return _read_rois(Path(config.rois)).cells

    def load(self, source: FrameStream) -> PredictionStream:
        """Read the regions; raises `DataError` when they cannot be read or do not fit the camera."""
        rois = _read_rois(Path(self._config.rois))
        _check_size(rois.cells, self._config.rois, source)
        self._settings = self._chosen(rois, source.rate_hz)
        self._traces = LiveTraces(rois.cells, self._settings, rois.neuropil, self._reference(rois, source))
        self._unknown = np.full(rois.cells.count, np.nan, np.float32)
        unit, description = _UNITS[self._config.signal]
        return PredictionStream(
            name=self._name,
            source=source.name,
            shape=(rois.cells.count,),
            unit=unit,
            description=description,
            provenance={
                "rois": self._config.rois,
                "tau_s": str(self._settings.tau_s),
                "neuropil_share": str(self._settings.neuropil_share),
                "max_shift_px": str(self._settings.max_shift_px),
            },
            per_roi=True,
        )

    def step(self, frame: Frame) -> NDArray[np.float32]:
        """Activity (N,); NaN while the reference is made, and when the frame's place could not be found."""
        missed = 0 if self._last is None else max(frame.index - self._last - 1, 0)
        self._last = frame.index
        signals = self._traces.step(frame.pixels, missed)
        return self._unknown if signals is None else _chosen_signal(signals, self._config.signal)

    @property
    def doubt(self) -> PredictionStatus | None:
        """Why the last answer is not known."""
        return PredictionStatus.IMAGE_MOVED if self._traces.is_lost else None

    def _chosen(self, rois: FieldOfView, rate_hz: float) -> TraceSettings:
        """Settings of the YAML, else those suite2p used, else the defaults."""
        config, known = self._config, {}
        for key, own, found in (
            ("tau_s", config.tau_s, rois.tau_s),
            ("neuropil_share", config.neuropil_share, rois.neuropil_share),
        ):
            value = found if own is None else own
            known.update({} if value is None else {key: value})
        return TraceSettings(
            rate_hz, max_shift_px=config.max_shift_px, reference_s=config.reference_s, **known
        )

    def _reference(self, rois: FieldOfView, source: FrameStream) -> NDArray[np.generic] | None:
        if self._config.reference is None:
            return rois.reference
        image = read_npy(Path(self._config.reference))
        if image.shape != (source.height_px, source.width_px) or image.dtype.kind not in "iuf":
            raise DataError(
                f"{self._config.reference}: shape {image.shape} of {image.dtype}; valid is a reference image of "
                f"{source.height_px} x {source.width_px}, as frames of {source.name!r} are"
            )
        return image


def _read_rois(path: Path) -> FieldOfView:
    """Read a suite2p folder or a label image."""
    if not path.exists():
        raise DataError(f"{path}: no such file; valid is a folder of suite2p, or a label image (.npy)")
    if path.is_dir():
        return read_suite2p(path)
    return FieldOfView(label_masks(read_label_image(path)))


def _check_size(cells: RoiMasks, path: str, source: FrameStream) -> None:
    if (cells.height_px, cells.width_px) != (source.height_px, source.width_px):
        raise DataError(
            f"{path}: ROIs of {cells.height_px} x {cells.width_px} frames; {source.name!r} has "
            f"{source.height_px} x {source.width_px}, valid are ROIs of that size"
        )


def _chosen_signal(signals: NeuronSignals, name: Signal) -> NDArray[np.float32]:
    match name:
        case "spikes":
            return signals.spikes
        case "dff":
            return signals.dff
        case "fluorescence":
            return signals.fluorescence
        case never:
            assert_never(never)
