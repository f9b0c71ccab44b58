"""Session files of simulated mice, written as fast as the disk allows: what decoders are trained on.

The same recorder writes them, but nothing runs in real time: stamps are the simulation's own, exact, and the treadmill
and the stimulus are told without a serial line in between.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rig.acquisition.states import FinishReason
from rig.config import CameraConfig, RigConfig, SessionConfig, SimulationConfig
from rig.description import SessionDescription
from rig.errors import ConfigError, one_line
from rig.messages import Frame, FrameStream, Message, Samples, SampleStream
from rig.recording.recorder import Recorder
from rig.simulation.mouse import Mouse
from rig.simulation.visual_cortex import VisualCortex
from rig.simulation.widefield import WidefieldCortex
from rig.stimulus import load_movies
from rig.sync.clock import SessionClock

_BACKLOG_BYTES = 64_000_000
_WAIT_S = 0.002
_TREADMILL_HZ = 100.0
_PUPIL_HZ = 60.0
_SHORTEST_PERIOD_S = 60.0  # behaviour needs room for a few bouts
_LATE_NS = 1_000_000  # every message arrives a millisecond after it was true


def simulate_session(path: Path, config: RigConfig, seconds: float, progress: Callable[[int], None]) -> None:
    """Write one session of a simulated mouse, which runs for its run fraction of the session.

    The file's subject is the mouse, ``simulated-SEED``, and its widefield camera has the mouse's landmarks. A session
    that is interrupted or fails says so in its file, which `rig.recording.verify` then calls incomplete.

    Parameters
    ----------
    path
        File to write; never overwritten.
    config
        A rig with a simulation section; its cameras called ``widefield`` and ``two_photon`` are simulated, and its
        decoders and devices other than treadmill and stimulus left out.
    seconds
        Length of the session.
    progress
        Called with the number of frames written since the last call.

    Raises
    ------
    ConfigError
        When the rig has no camera that can be simulated, or some of different rates; no file is made then.
    RecordingError
        When the file cannot be written.
    """
    world = _World(config, seconds)
    failures: list[Exception] = []
    recorder = Recorder(path, world.description, failures.append)
    try:
        for message in world.messages(seconds):
            recorder.put(message)
            progress(isinstance(message, Frame))
            while recorder.status().queued_bytes > _BACKLOG_BYTES and not failures:
                time.sleep(_WAIT_S)
            if failures:
                raise failures[0]
    except BaseException as error:  # an interruption too: a short session must not pass for a whole one
        recorder.finish(FinishReason.FAILED, [_why_short(error)])
        raise
    recorder.finish(FinishReason.COMPLETED, [])
    if failures:  # the disk failed while the last messages were waiting for it
        raise failures[0]


def _why_short(error: BaseException) -> str:
    """Say for the file what ended its session early."""
    return one_line(error) if isinstance(error, Exception) else "the simulation was interrupted"


class _World:
    """One simulated mouse with its cortex, as streams and messages."""

    def __init__(self, config: RigConfig, seconds: float) -> None:
        simulation = config.simulation or SimulationConfig()
        self._mouse = Mouse(
            simulation.seed,
            simulation.run_fraction,
            max(seconds, _SHORTEST_PERIOD_S),
            session=simulation.session,
        )
        self._cameras = _cameras(config, simulation, self._mouse)
        self.config = config.model_copy(
            update={
                "session": _of_mouse(config.session, simulation.seed),
                "cameras": {
                    name: _with_landmarks(config.cameras[name], cortex)
                    for name, cortex in self._cameras.items()
                },
                "serial": {
                    name: source
                    for name, source in config.serial.items()
                    if name in ("treadmill", "pupil", "stimulus")
                },
                "decoders": {},
                "closed_loop": [],
                "outputs": {},
            }
        )
        self._rate_hz = next(iter(self.config.cameras.values())).rate_hz  # of every camera
        self.description = SessionDescription(
            identifier=f"simulated-{simulation.seed}-{simulation.session}",
            config=self.config,
            clock=SessionClock.start(),
            frames=tuple(
                FrameStream(name, c.height_px, c.width_px, "uint16", c.rate_hz, 0.0)
                for name, c in self.config.cameras.items()
            ),
            samples=tuple(self._sample_streams()),
        )

    def messages(self, seconds: float) -> Iterator[Message]:
        """Everything that the session holds, in the order of time."""
        count = int(seconds * self._rate_hz)
        for index in range(count):
            session_ns = round(index / self._rate_hz * 1e9)
            if "treadmill" in self.config.serial:
                yield from self._running(index)
            if "pupil" in self.config.serial:
                yield from self._pupil(index)
            if "stimulus" in self.config.serial:
                yield self._shown(index, session_ns)
            for name, cortex in self._cameras.items():
                yield Frame(name, index, -1, session_ns + _LATE_NS, cortex.frame(index), session_ns, 0)

    def _sample_streams(self) -> Iterator[SampleStream]:
        if "treadmill" in self.config.serial:
            yield SampleStream("treadmill", ("count", "running_speed"), ("count", "mm/s"), _TREADMILL_HZ, 1e6)
        if "pupil" in self.config.serial:
            yield SampleStream("pupil", ("diameter", "x", "y"), ("mm", "mm", "mm"), _PUPIL_HZ, 1e6)
        if "stimulus" in self.config.serial:
            yield SampleStream("stimulus", ("clip", "movie_frame"), ("", ""), self._rate_hz, 1e6)

    def _running(self, frame: int) -> Iterator[Samples]:
        index, time_s = self._until_next(frame, _TREADMILL_HZ)
        position_mm, speed_mm_s = (
            self._mouse.wheel_position_mm(time_s),
            self._mouse.running_speed_mm_s(time_s),
        )
        return _samples("treadmill", index, time_s, np.column_stack([np.floor(position_mm), speed_mm_s]))

    def _pupil(self, frame: int) -> Iterator[Samples]:
        index, time_s = self._until_next(frame, _PUPIL_HZ)
        diameter_mm, place_mm = self._mouse.pupil_diameter_mm(time_s), self._mouse.pupil_position_mm(time_s)
        return _samples("pupil", index, time_s, np.column_stack([diameter_mm, place_mm]))

    def _until_next(self, frame: int, rate_hz: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Index and time of a stream's samples from this frame to the next."""
        first, last = (int(np.ceil((frame + k) / self._rate_hz * rate_hz)) for k in (0, 1))
        index = np.arange(first, last)
        return index, index / rate_hz

    def _shown(self, index: int, session_ns: int) -> Samples:
        cortex = self._cameras["two_photon"]
        if not isinstance(cortex, VisualCortex):
            raise TypeError("the two_photon camera looks at visual cortex")
        values = np.array([cortex.stimulus_at(index)], np.float64)
        stamps = np.array([session_ns])
        return Samples("stimulus", index, session_ns + _LATE_NS, stamps // 1000, values, stamps, 0)


def _samples(
    stream: str, index: NDArray[np.int64], time_s: NDArray[np.float64], values: NDArray[np.float64]
) -> Iterator[Samples]:
    """One batch of a stream's samples, or none at all."""
    if not len(index):  # a camera may be faster
        return
    session_ns = np.rint(time_s * 1e9).astype(np.int64)
    arrival_ns = int(session_ns[-1]) + _LATE_NS
    yield Samples(stream, int(index[0]), arrival_ns, session_ns // 1000, values, session_ns, 0)


def _of_mouse(session: SessionConfig, seed: int) -> SessionConfig:
    """Name the mouse as the session's subject."""
    subject = session.subject.model_copy(update={"subject_id": f"simulated-{seed}"})
    return session.model_copy(update={"subject": subject})


def _with_landmarks(camera: CameraConfig, cortex: WidefieldCortex | VisualCortex) -> CameraConfig:
    """Tell where the skull's landmarks lie in frames of dorsal cortex."""
    if isinstance(cortex, VisualCortex):
        return camera
    imaging = camera.imaging.model_copy(update={"landmarks_px": cortex.landmarks_px()})
    return camera.model_copy(update={"imaging": imaging})


def _cameras(
    config: RigConfig, simulation: SimulationConfig, mouse: Mouse
) -> dict[str, WidefieldCortex | VisualCortex]:
    """What each simulated camera looks at; raises `ConfigError` when the rig has none, or they differ in rate."""
    simulated = _that_can_be_simulated(config)
    cameras: dict[str, WidefieldCortex | VisualCortex] = {}
    if (camera := simulated.get("widefield")) is not None:
        cameras["widefield"] = WidefieldCortex(
            mouse,
            simulation.seed,
            camera.height_px,
            camera.width_px,
            camera.rate_hz,
            session=simulation.session,
        )
    if (camera := simulated.get("two_photon")) is not None and config.stimulus is not None:
        cameras["two_photon"] = VisualCortex(
            load_movies(config.stimulus.movie),
            mouse,
            simulation.seed,
            simulation.neurons,
            camera.height_px,
            camera.width_px,
            camera.rate_hz,
            session=simulation.session,
        )
    return cameras


def _that_can_be_simulated(config: RigConfig) -> dict[str, CameraConfig]:
    """Cameras that show a simulated brain, all at one rate; raises `ConfigError` otherwise."""
    names = ("widefield",) if config.stimulus is None else ("widefield", "two_photon")
    cameras: dict[str, CameraConfig] = {n: config.cameras[n] for n in names if n in config.cameras}
    if not cameras:
        raise ConfigError(
            f"rig {config.rig}: cameras {', '.join(config.cameras)} show no simulated brain; valid names are"
            " widefield, and two_photon beside a stimulus"
        )
    if len({camera.rate_hz for camera in cameras.values()}) > 1:  # frames of a session are made in step
        rates = " and ".join(f"{name} at {camera.rate_hz:g} Hz" for name, camera in cameras.items())
        raise ConfigError(f"rig {config.rig}: cameras {rates} differ; valid is one rate_hz for both")
    return cameras
