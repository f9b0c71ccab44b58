"""Everything the live window shows and decides. No Qt: panels ask this model and draw.

`ViewModel.take` is given the messages that came since the last time; panels then read its parts, which are in
modules of their own: `traces`, `contrast`, `run_status`, `running_decision`, `reconstruction_match`.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gui.contrast import Contrast, Image
from gui.reconstruction_match import ReconstructionMatch, StimulusTrack
from gui.run_status import SILENT_S, Alert, RunStatus, Severity, alerts, headline
from gui.running_decision import Decision, RunningTruth
from gui.traces import Trace
from rig.acquisition.states import COMMANDS, STATUS, RunState
from rig.description import SessionDescription
from rig.messages import (
    Event,
    Frame,
    FrameStream,
    Gap,
    ImportanceMap,
    Message,
    Prediction,
    PredictionStream,
    Samples,
)

HOLD_S = 1.0
NOTE_CHARACTERS = 1000
TRACED = {"running_speed": ("running speed", 20.0, 0), "diameter": ("pupil diameter", 0.0, 2)}
"""Columns worth a plot: title, the least that its axis spans (a mouse at rest is no drama), decimals."""
_PROBABILITY = "probability"
_MAP_STALE_NS = 3_000_000_000


class CameraView:
    """One camera: its latest image, already binned, how many frames it lost, and what of it a decoder uses."""

    def __init__(self, stream: FrameStream) -> None:
        self.stream = stream
        self.contrast = Contrast()
        self.image: Image | None = None
        self.index = -1
        self.lost = 0
        self.rate_hz = math.nan
        self.updates = 0
        self.explained_by: str | None = None
        self.importance: ImportanceMap | None = None

    def importance_now(self, now_ns: int) -> ImportanceMap | None:
        """What the decoder uses, None when that was not renewed lately: the camera or the decoder stands still."""
        known = self.importance
        return known if known is not None and now_ns - known.session_ns <= _MAP_STALE_NS else None

    def take(self, frame: Frame) -> None:
        """Show a frame from now on."""
        self.image, self.index = frame.pixels, frame.index
        self.contrast.update(frame.pixels)
        self.updates += 1


class SignalView:
    """One column of a serial stream, traced."""

    def __init__(self, name: str, unit: str, column: int, window_ns: int) -> None:
        self.title, self.least_span, self.decimals = TRACED[name]
        self.unit, self.column = unit, column
        self.trace = Trace(window_ns)


class DecisionView:
    """One scalar decoder: its line, thresholds and the outputs it drives."""

    def __init__(self, stream: PredictionStream, decision: Decision) -> None:
        self.stream, self.decision = stream, decision
        self.thresholds: list[tuple[str, float]] = []
        self.outputs: list[str] = []

    @property
    def is_probability(self) -> bool:
        """Whether it runs from 0 to 1 and can be compared with the truth."""
        return self.stream.unit == _PROBABILITY


class HoldToConfirm:
    """A button that acts only after it was held for a while: nobody ends an experiment by a slip."""

    def __init__(self, hold_s: float = HOLD_S) -> None:
        self._hold_s = hold_s
        self._since_s: float | None = None

    def press(self, now_s: float) -> None:
        """Begin to hold."""
        self._since_s = now_s

    def release(self) -> None:
        """Let go: nothing happens."""
        self._since_s = None

    def progress(self, now_s: float) -> float:
        """From 0 (not held) to 1 (held long enough)."""
        return 0.0 if self._since_s is None else min(1.0, (now_s - self._since_s) / self._hold_s)


class ViewModel:
    """State of the window. Used from one thread.

    Parameters
    ----------
    movies
        What the stimulus shows, uint8 (clips, T, H, W); None when there is no stimulus or it cannot be had.
    opened_s
        Host's monotonic clock when the window opened, as later given to `take`.
    """

    def __init__(
        self, session: SessionDescription, movies: NDArray[np.uint8] | None = None, opened_s: float = 0.0
    ) -> None:
        self.session = session
        self.status: RunStatus | None = None
        self.now_ns = 0
        self.stop_asked = False
        self.start_asked = False
        self._window_ns = round(session.config.window.trace_s * 1e9)
        self._heard_s = self._host_s = opened_s
        self.cameras = {stream.name: CameraView(stream) for stream in session.frames}
        self.signals = self._signals()
        running = session.config.running
        self.truth = RunningTruth(running, self._window_ns) if running else None
        self.stimulus = self._stimulus(movies)
        self.decisions = {s.name: self._decision(s) for s in session.predictions if s.shape in ((), (1,))}
        self._explaining = self._connect_maps()
        self.reconstructions = self._reconstructions()

    # --- what came ------------------------------------------------------------------------------------------

    def take(self, messages: Sequence[Message], host_s: float) -> None:
        """Take all messages that came until `host_s` (monotonic clock)."""
        self._host_s = host_s
        for message in messages:
            self._take_one(message)
        for match in self.reconstructions.values():
            match.match()

    def _take_one(self, message: Message) -> None:
        if isinstance(message, Frame) and message.stream in self.cameras:
            self.cameras[message.stream].take(message)
            self._advance(message.session_ns)
        elif isinstance(message, Samples):
            self._take_samples(message)
        elif isinstance(message, Prediction):
            self._take_prediction(message)
        elif isinstance(message, ImportanceMap) and message.stream in self._explaining:
            self._explaining[message.stream].importance = message
        elif isinstance(message, Gap):
            self._take_gap(message)
        elif isinstance(message, Event) and message.stream == STATUS:
            self._take_status(message)

    def _take_samples(self, samples: Samples) -> None:
        if not len(samples.session_ns):
            return
        for stream, signal in self.signals:
            if stream == samples.stream:
                signal.trace.append(samples.session_ns, samples.values[:, signal.column])
        running, stimulus = self.session.config.running, self.session.config.stimulus
        if self.truth and running and running.source == samples.stream:
            column = self._column(samples.stream, "running_speed")
            self.truth.take(samples.session_ns, samples.values[:, column])
        if self.stimulus and stimulus and stimulus.source == samples.stream:
            self.stimulus.take(samples)
        self._advance(int(samples.session_ns[-1]))

    def _take_prediction(self, prediction: Prediction) -> None:
        if prediction.stream in self.decisions:
            self.decisions[prediction.stream].decision.take(prediction)
        elif prediction.stream in self.reconstructions:
            self.reconstructions[prediction.stream].take(prediction)

    def _take_gap(self, gap: Gap) -> None:
        for stream, signal in self.signals:
            if stream == gap.stream:
                signal.trace.break_line(gap.session_ns)

    def _take_status(self, event: Event) -> None:
        self._heard_s = self._host_s
        self.status = RunStatus.from_json(event.text)
        for name, stream in self.status.streams.items():
            if name in self.cameras:  # the engine counts every loss; a latest-only reader may miss a gap
                self.cameras[name].lost, self.cameras[name].rate_hz = stream.lost, stream.rate_hz

    def _advance(self, session_ns: int) -> None:
        self.now_ns = max(self.now_ns, session_ns)

    # --- what it means --------------------------------------------------------------------------------------

    @property
    def silent_s(self) -> float:
        """Seconds since the engine was last heard."""
        return self._host_s - self._heard_s

    @property
    def state(self) -> RunState | None:
        """State of the run as last heard."""
        return self.status.state if self.status else None

    @property
    def finished(self) -> bool:
        """Whether the run is over."""
        return self.state is RunState.FINISHED

    @property
    def headline(self) -> Alert:
        """What the run is doing, in a few words."""
        return headline(self.status, self.silent_s)

    @property
    def alerts(self) -> list[Alert]:
        """What deserves attention, the worst first."""
        return alerts(self.status, self.session.config)

    @property
    def worst(self) -> Severity:
        """How bad it is altogether."""
        return max(alert.severity for alert in (self.headline, *self.alerts))

    @property
    def heard(self) -> bool:
        """Whether the engine is there to take commands."""
        return self.status is not None and self.silent_s <= SILENT_S and not self.finished

    @property
    def can_start(self) -> bool:
        """Whether a start would be obeyed."""
        return self.heard and self.state is RunState.IDLE and not self.start_asked

    @property
    def can_stop(self) -> bool:
        """Whether a stop would be obeyed and has not been asked for yet."""
        return self.heard and self.state in (RunState.IDLE, RunState.RUNNING) and not self.stop_asked

    @property
    def can_note(self) -> bool:
        """Whether a note would be recorded."""
        return self.heard and self.state is RunState.RUNNING

    def command(self, kind: str, text: str = "") -> Event:
        """Make the command to publish: "start", "stop" or "note", stamped with the session time of now."""
        now_ns = self.session.clock.now_ns()
        self.start_asked = self.start_asked or kind == "start"
        self.stop_asked = self.stop_asked or kind == "stop"
        return Event(COMMANDS, kind, text, now_ns, now_ns)

    # --- what the rig has -----------------------------------------------------------------------------------

    def _column(self, stream: str, column: str) -> int:
        return next(s.columns.index(column) for s in self.session.samples if s.name == stream)

    def _signals(self) -> list[tuple[str, SignalView]]:
        return [
            (stream.name, SignalView(column, stream.units[k], k, self._window_ns))
            for column in TRACED
            for stream in self.session.samples
            for k, name in enumerate(stream.columns)
            if name == column
        ]

    def _connect_maps(self) -> dict[str, CameraView]:
        """Which camera each stream of importance maps belongs to."""
        connected = {}
        for stream in self.session.predictions:
            if stream.importance and stream.source in self.cameras:
                connected[stream.importance_stream] = self.cameras[stream.source]
                self.cameras[stream.source].explained_by = stream.name
        return connected

    def _stimulus(self, movies: NDArray[np.uint8] | None) -> StimulusTrack | None:
        config = self.session.config.stimulus
        if config is None or movies is None:
            return None
        stream = next((s for s in self.session.samples if s.name == config.source), None)
        return StimulusTrack(stream, config, movies) if stream else None

    def _reconstructions(self) -> dict[str, ReconstructionMatch]:
        """Every decoder's reconstructions, and refined ones where there are any, by the stream they come on."""
        found = {}
        for stream in self.session.predictions:
            if len(stream.shape) == 2:
                found[stream.name] = self._reconstruction(stream, "lag_frames")
            if len(stream.shape) == 2 and stream.refined:
                found[stream.refined_stream] = self._reconstruction(stream, "refined_lag_frames")
        return found

    def _reconstruction(self, stream: PredictionStream, lag: str) -> ReconstructionMatch:
        """Make the match; a decoder tells in its provenance how many camera frames it lags."""
        lag_frames = float(stream.provenance.get(lag, 0))
        lag_ns = round(lag_frames / self.session.frame_stream(stream.source).rate_hz * 1e9)
        return ReconstructionMatch(stream.unit, lag_ns, self.stimulus, self._window_ns)

    def _decision(self, stream: PredictionStream) -> DecisionView:
        truth = self.truth if stream.unit == _PROBABILITY else None
        view = DecisionView(stream, Decision(self._window_ns, truth))
        for policy in self.session.config.closed_loop:
            if policy.decoder == stream.name:
                view.thresholds += [("on", policy.threshold_on), ("off", policy.threshold_off)]
                view.outputs.append(policy.output)
        return view
