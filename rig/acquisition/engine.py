"""The engine: one run, from first device to closed file; the only file that knows who is connected to whom.

Consumers and what happens when one cannot keep up:

========== ================== ======================================================================
consumer   fed by             policy
========== ================== ======================================================================
recorder   bounded queue      never drops; when it is full the run stops, loudly (`RecorderOverflow`)
decoder    bus, queue_frames  drops the oldest, counted and recorded with the next prediction
window     bus                latest frame only; traces a short queue
actuator   its own slot       latest command only, none older than max_age_ms
========== ================== ======================================================================

Start: outputs safe, consumers, sources last. Stop: outputs safe and closed first, sources, drain, file, drivers. Every
step of the stop is guarded alone; the first error is the cause that is reported, the rest are listed.
"""

import json
import logging
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from rig.acquisition.children import SimulatorChild, WindowChild
from rig.acquisition.run import RunOptions, RunReport, Source
from rig.acquisition.states import COMMANDS, STATUS, FinishReason, RunState
from rig.acquisition.statistics import Statistics, recorder_report
from rig.acquisition.supervisor import DecoderSupervisor
from rig.acquisition.workers import BusSink, PredictionWorker, Sink, SourceWorker
from rig.bus import Bus, Publisher, Subscriber
from rig.closed_loop.actuator import LOOP_STOPPED, Actuator, policy_settings
from rig.closed_loop.policy import Policy
from rig.config import PolicyConfig, RigConfig
from rig.description import SessionDescription
from rig.drivers.build import SIMULATED, Devices, check_frame_size, uses_simulated_ports
from rig.drivers.protocols import DriverContext
from rig.errors import BusError, CortexrigError, DeviceError, RecordingError, one_line
from rig.messages import Event, FrameStream, Message, Prediction, PredictionStream, SampleStream
from rig.recording.recorder import Recorder

_LOG = logging.getLogger(__name__)
_TICK_S = 0.05
_STATUS_S = 0.25
_SAMPLE_BYTES = 1 << 14
_STATUS_BYTES = 1 << 13
_DECODER_DRAIN_S = 5.0
_WINDOW_LAST_S = 15.0
_WINDOW_HEARS_S = 1.0
_PREDICTION_QUEUE = 256


@dataclass(slots=True)
class _Running:
    """Everything a run has opened, for one place to close it."""

    devices: Devices = field(default_factory=Devices)
    simulator: SimulatorChild | None = None
    window: WindowChild | None = None
    supervisor: DecoderSupervisor | None = None
    recorder: Recorder | None = None
    workers: dict[str, SourceWorker] = field(default_factory=dict)
    listeners: dict[str, PredictionWorker] = field(default_factory=dict)
    actuators: dict[str, Actuator] = field(default_factory=dict)  # by output
    bus_sinks: list[BusSink] = field(default_factory=list)
    status: Publisher | None = None
    commands: Subscriber | None = None


class Engine:
    """One run. `run` does all; the other public methods may be called from any thread meanwhile."""

    def __init__(self, config: RigConfig, source: Source, options: RunOptions) -> None:
        self.config, self.source, self.options = config, source, options
        self.statistics = Statistics()
        self.state = RunState.IDLE
        self.on_prediction: Callable[[Prediction], None] | None = None
        self.clock = source.clock()
        self._identifier = f"{config.rig}-{uuid.uuid4().hex[:12]}"
        self._description = SessionDescription(self._identifier, config, self.clock, origin=source.origin)
        self._bus = Bus(self._identifier)
        self._open = _Running()
        self._errors: list[str] = []
        self._failed = False
        self._asked: FinishReason | None = None
        self._start_asked = False
        self._wake = threading.Event()
        self._started_ns = 0
        self._folder = Path(tempfile.mkdtemp(prefix="cortexrig-"))

    # --- asked from outside ---------------------------------------------------------------------------------

    def request_stop(self, reason: FinishReason = FinishReason.CANCELLED) -> None:
        """Stop as soon as possible, cleanly."""
        self._asked = self._asked or reason
        self._wake.set()

    def stop_by_hand(self) -> None:
        """Stop as somebody asked: what the run was for, unless it was to last a given time."""
        whole = self.options.duration_s is None and self.state is RunState.RUNNING
        self.request_stop(FinishReason.COMPLETED if whole else FinishReason.CANCELLED)

    @property
    def predictions(self) -> tuple[PredictionStream, ...]:
        """What the decoders said of themselves."""
        return self._description.predictions

    def recorder_backlog_bytes(self) -> int:
        """Return how many bytes wait for the disk."""
        return self._open.recorder.status().queued_bytes if self._open.recorder else 0

    def supervisor(self) -> DecoderSupervisor:
        """Return who looks after the decoders."""
        if self._open.supervisor is None:
            raise CortexrigError("the decoders have not been started")
        return self._open.supervisor

    def bus_sink(self, stream: str, typical_bytes: int) -> BusSink:
        """Announce a stream on the bus; the engine closes it."""
        sink = BusSink(self._bus, stream, typical_bytes, self.clock, self._record)
        self._open.bus_sinks.append(sink)
        return sink

    def status(self) -> dict[str, Any]:
        """Return what the terminal and the window show."""
        now_ns = self.clock.now_ns()
        streams = self.statistics.stream_report(now_ns)
        for name, worker in self._open.workers.items():
            fit = worker.aligner.fit
            streams[name]["clock_residual_ms"] = round(fit.residual_ns / 1e6, 3) if fit else -1.0
        return {
            "state": str(self.state),
            "finish_reason": str(self._reason()) if self.state is RunState.FINISHED else None,
            "elapsed_s": round((now_ns - self._started_ns) / 1e9, 1) if self._started_ns else 0.0,
            "file": str(self.options.output) if self.options.output else None,
            "error": self._errors[0] if self._errors else None,
            "streams": streams,
            "decoders": self._decoder_report(),
            "recorder": self._recorder_status(now_ns),
            "outputs": {name: asdict(a.status()) for name, a in self._open.actuators.items()},
            "window": self._open.window is not None and self._open.window.exit_code() is None,
        }

    # --- one run --------------------------------------------------------------------------------------------

    def run(self) -> RunReport:
        """Run from beginning to end.

        Raises
        ------
        CortexrigError
            When the run could not begin; everything opened has been closed, and no file is left behind.
        """
        try:
            self._prepare()
            if self._wait_for_start():
                self._begin_recording()
                self._start_sources()
                self._watch()
        except Exception as error:  # once something is recorded, the file has to say how it ended
            if not self._started_ns:
                raise
            _log_unexpected("engine", error)
            self._fail(one_line(error))
        finally:
            self._stop()
        return self._report()

    # --- start ----------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self.state = RunState.PREPARING
        threadpool_limits(1, "blas")  # BLAS threads spin between frames, at the cost of a core
        self._check_output()
        self._open_devices()
        self._open.status = self._bus.publisher(STATUS, _STATUS_BYTES)
        self._open.commands = self._bus.subscriber(COMMANDS, 16)
        self._make_workers()
        self._start_decoders()
        self._start_window()

    def _check_output(self) -> None:
        """Refuse now what would otherwise be refused after devices and decoders have been started."""
        output = self.options.output
        if output is None:
            return
        if output.exists():
            raise RecordingError(f"{output} exists and is never overwritten; give another --output")
        if not output.parent.is_dir():
            raise RecordingError(f"{output.parent} is not a folder; create it or give another --output")

    def _open_devices(self) -> None:
        context = DriverContext(self.clock, self.config, self._resolve_port)
        self._open.devices = self.source.devices(context)
        if self.source.origin == "live" and uses_simulated_ports(self.config):
            self._open.simulator = SimulatorChild(self._write_description())
        outputs = tuple((name, device.open()) for name, device in self._open.devices.outputs.items())
        frames = tuple(camera.open() for camera in self._open.devices.cameras.values())
        samples = tuple(source.open() for source in self._open.devices.serial.values())
        for frame in frames:
            check_frame_size(frame, self.config.cameras[frame.name])
        self._description = replace(self._description, frames=frames, samples=samples, outputs=outputs)

    def _resolve_port(self, name: str, port: str) -> str:
        if port != SIMULATED:
            return port
        if self._open.simulator is None or name not in self._open.simulator.ports:
            raise DeviceError(f"{name}: port 'simulated' needs a simulation section in the rig's YAML")
        return self._open.simulator.ports[name]

    def _write_description(self) -> Path:
        path = self._folder / "session.json"
        path.write_text(self._description.as_json(), encoding="utf-8")
        return path

    def _make_workers(self) -> None:
        """Make every source's worker with its sinks: count, record, publish."""
        pace = self.source.pace(self)
        streams: tuple[FrameStream | SampleStream, ...] = (
            *self._description.frames,
            *self._description.samples,
        )
        for stream in streams:
            self.statistics.add_stream(stream.name)
            size = stream.frame_bytes if isinstance(stream, FrameStream) else _SAMPLE_BYTES
            sinks: list[Sink] = [self.statistics.count, self._record, self.bus_sink(stream.name, size)]
            device = self._open.devices.sources[stream.name]
            self._open.workers[stream.name] = SourceWorker(
                stream.name, device, stream.tick_hz, self.clock, sinks, self._source_failed, pace
            )

    def _start_decoders(self) -> None:
        names = list(self.config.decoders)
        for name in names:
            self.statistics.add_decoder(name)
        supervisor = DecoderSupervisor(names, self._bus, self._write_description(), self._decoder_died)
        self._open.supervisor = supervisor
        self._description = self._description.with_predictions(supervisor.start_all())
        for name in names:
            self._open.listeners[name] = PredictionWorker(
                name, self._bus, _PREDICTION_QUEUE, self.take_prediction, self._source_failed
            )
        for policy in self.config.closed_loop:
            self._open.actuators[policy.output] = self._actuator(policy)
        for camera, sinks in self.source.feeds(self).items():
            self._open.workers[camera].add_sinks(sinks)

    def _actuator(self, policy: PolicyConfig) -> Actuator:
        max_age_ns = round(policy.max_age_ms * 1e6) if self.source.real_time else None
        device = self._open.devices.outputs[policy.output]
        rule = Policy(policy_settings(policy))
        return Actuator(device, rule, self.clock, max_age_ns, self._record, self._output_failed)

    def _start_window(self) -> None:
        if self.options.window:
            self._open.window = WindowChild(self._write_description(), self.options.screenshots)

    def _wait_for_start(self) -> bool:
        """Wait for the window's start button, if so asked; False when the run was stopped before it began."""
        if self.options.wait_for_start:
            self.state = RunState.IDLE
            while self._asked is None and not self._start_asked:
                self._hear_commands()
                if self._open.window is not None and self._open.window.exit_code() is not None:
                    raise CortexrigError(
                        "the window was closed before the run was started; nothing was recorded"
                    )
                self._publish_status()
                self._wake.wait(_STATUS_S)
        return self._asked is None

    def _begin_recording(self) -> None:
        if self.options.output is not None:
            failed = partial(self._source_failed, "recorder")
            self._open.recorder = Recorder(self.options.output, self._description, failed)
        self._started_ns = self.clock.now_ns()
        self.state = RunState.RUNNING
        self._tell("engine", "run_started", f"session {self._identifier}")

    def _start_sources(self) -> None:
        for listener in self._open.listeners.values():
            listener.start()
        for actuator in self._open.actuators.values():
            actuator.start()
        cameras_last = sorted(self._open.workers, key=lambda name: name in self.config.cameras)
        for name in cameras_last:
            self._open.workers[name].start()

    # --- while it runs --------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Look after the run until there is a reason to stop it."""
        next_status = 0.0
        while self._asked is None and not self._failed and not self._over():
            self.supervisor().restart_dead()
            self._hear_commands()
            self._notice_window()
            if time.monotonic() >= next_status:
                next_status = time.monotonic() + _STATUS_S
                self._publish_status()
            self._wake.wait(_TICK_S)

    def _over(self) -> bool:
        duration_s = self.options.duration_s
        if duration_s is not None and self.clock.now_ns() - self._started_ns >= duration_s * 1e9:
            return True
        return all(self._open.workers[name].ended.is_set() for name in self.config.cameras)

    def _hear_commands(self) -> None:
        commands = self._open.commands
        while commands is not None and (message := commands.receive()) is not None:
            if isinstance(message, Event):
                self._obey(message)

    def _obey(self, command: Event) -> None:
        if command.kind == "start":
            self._start_asked = True
        elif command.kind == "stop":
            self.stop_by_hand()
        elif command.kind == "note":
            self._tell("operator", "note", command.text, command.arrival_ns)

    def _notice_window(self) -> None:
        window = self._open.window
        if window is None or (code := window.exit_code()) is None:
            return
        self._open.window = None
        self._bus.clean_up_dead()
        self._tell("window", "window_closed", f"exit code {code}; the run goes on without a window")

    def _publish_status(self) -> None:
        if self._open.status is None:
            return
        now_ns = self.clock.now_ns()
        try:
            self._open.status.send(Event(STATUS, "status", json.dumps(self.status()), now_ns, now_ns))
        except BusError as error:  # the window goes blind; the recording must not suffer
            _LOG.warning("status: %s", error)

    def take_prediction(self, prediction: Prediction) -> None:
        """Record what a decoder says, and act on it; counted last: a replay waits for the count."""
        received_ns = self.clock.now_ns()
        self._record(prediction)
        if self.on_prediction is not None:
            self.on_prediction(prediction)
        self.supervisor().answered(prediction.stream)
        for policy in self.config.closed_loop:
            if policy.decoder != prediction.stream:
                continue
            if self.source.acts_on(policy.output, prediction):
                self._open.actuators[policy.output].take(prediction)
        self.statistics.count_prediction(prediction, received_ns)

    def _record(self, message: Message) -> None:
        if self._open.recorder is not None:
            self._open.recorder.put(message)

    def _tell(self, stream: str, kind: str, text: str, at_ns: int | None = None) -> None:
        """Log and record an event."""
        at_ns = self.clock.now_ns() if at_ns is None else at_ns
        _LOG.info("%s: %s: %s", stream, kind, text)
        try:
            self._record(Event(stream, kind, text, at_ns, at_ns))
        except RecordingError as error:
            self._fail(str(error))

    # --- what goes wrong ------------------------------------------------------------------------------------

    def _fail(self, text: str) -> None:
        """Take note of an error and stop the run; the first is the cause."""
        self._errors.append(text)
        self._failed = True
        self._wake.set()

    def _source_failed(self, name: str, error: Exception) -> None:
        """Go on without a serial device; without a camera, the recorder or its senses, the run is over."""
        if isinstance(error, DeviceError) and name in self.config.serial:
            self._tell(name, "device_lost", f"{error}; the run goes on without it")
            return
        _log_unexpected(name, error)
        if isinstance(error, DeviceError):
            self._tell(name, "device_lost", str(error))
        self._fail(f"{name}: {error}")

    def _output_failed(self, error: Exception) -> None:
        if isinstance(error, RecordingError):
            self._fail(str(error))
            return
        _log_unexpected("outputs", error)
        self._tell("outputs", "device_lost", f"{one_line(error)}; the run goes on without it")

    def _decoder_died(self, name: str, what: str) -> None:
        for policy in self.config.closed_loop:
            if policy.decoder == name:
                self._open.actuators[policy.output].make_safe("decoder lost")
        self._tell(name, "decoder_lost", what)

    # --- stop -----------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Close everything that was opened, whatever happens on the way."""
        self.state = RunState.STOPPING
        parts = self._open
        for name, actuator in parts.actuators.items():
            self._guard(name, partial(self._stop_loop, name, actuator))
        # before the file ends, which has to say when one is not known to be off
        for name, device in parts.devices.outputs.items():
            self._guard(name, device.close)
        for worker in parts.workers.values():
            worker.stop()
        for worker in parts.workers.values():
            worker.join()
        self._guard("decoders", self._drain_decoders)
        if parts.recorder is not None:
            self._guard("recorder", partial(parts.recorder.finish, self._reason(), self._errors))
        self.state = RunState.FINISHED
        self._guard("window", self._dismiss_window)
        for name, source in parts.devices.sources.items():
            self._guard(name, source.close)
        for closable in (parts.supervisor, *parts.bus_sinks, parts.status, parts.commands):
            if closable is not None:
                self._guard("bus", closable.close)
        if parts.simulator is not None:
            self._guard("simulated devices", parts.simulator.terminate)
        self._guard("bus", self._bus.close)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _guard(self, what: str, step: Callable[[], None]) -> None:
        """Do one step of the stop; an error is kept for the report and the next step follows."""
        try:
            step()
        except Exception as error:  # a stop that stops half-way leaves outputs on and files open
            _LOG.error("%s: while stopping: %s", what, error)
            self._fail(f"{what}: while stopping: {error}")

    def _stop_loop(self, output: str, actuator: Actuator) -> None:
        """Make an output safe, and note where its loop ended: decoders still answer, and a replay must end there."""
        seen_ns = actuator.stop("run stops")
        if self._started_ns:
            self._tell(output, LOOP_STOPPED, json.dumps({"seen_ns": seen_ns}))

    def _drain_decoders(self) -> None:
        """Let decoders answer what they still hold, then leave them."""
        end = time.monotonic() + _DECODER_DRAIN_S
        for listener in self._open.listeners.values():
            if self._started_ns:
                listener.ended.wait(max(0.0, end - time.monotonic()))
            listener.stop()
            listener.join()

    def _dismiss_window(self) -> None:
        """Show the end; a window that somebody looks at stays until it is closed."""
        window, began = self._open.window, self._started_ns > 0
        if window is None:
            return
        leaves_by_itself = began and self.options.screenshots is not None
        end = time.monotonic() + (_WINDOW_LAST_S if leaves_by_itself else _WINDOW_HEARS_S)
        while window.exit_code() is None and time.monotonic() < end:
            self._publish_status()  # again and again: a window that has just been opened must hear it too
            time.sleep(_STATUS_S)
        if leaves_by_itself or not began:
            window.terminate()

    # --- report ---------------------------------------------------------------------------------------------

    def _reason(self) -> FinishReason:
        if self._failed:
            return FinishReason.FAILED
        return self._asked or FinishReason.COMPLETED

    def _report(self) -> RunReport:
        return RunReport(
            session=str(self.options.output) if self.options.output and self._started_ns else None,
            finish_reason=self._reason() if self._started_ns else FinishReason.CANCELLED,
            streams=self.statistics.stream_report(self.clock.now_ns()),
            decoders=self._decoder_report(whole_run=True),
            latency_ms=self.statistics.all_latencies_ms() if self.source.real_time else None,
            errors=list(self._errors),
        )

    def _decoder_report(self, whole_run: bool = False) -> dict[str, dict[str, object]]:
        """Return what each decoder did; a replay out of time has no latency worth the name."""
        report = self.statistics.decoder_report(whole_run)
        unknown: dict[str, object] = {} if self.source.real_time else {"latency_ms": None}
        return {name: {**counts, **unknown} for name, counts in report.items()}

    def _recorder_status(self, now_ns: int) -> dict[str, float] | None:
        recorder, output = self._open.recorder, self.options.output
        if recorder is None or output is None or not output.exists():
            return None
        elapsed_s, min_free_gb = (now_ns - self._started_ns) / 1e9, self.config.recording.min_free_gb
        return recorder_report(recorder.status(), output, elapsed_s, min_free_gb)


def _log_unexpected(what: str, error: Exception) -> None:
    """Keep the traceback of an error that is none of ours; where it counts it is told on one line."""
    if not isinstance(error, CortexrigError):
        _LOG.error("%s: unexpected error", what, exc_info=error)
