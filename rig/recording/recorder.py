"""The recorder: every message of a session into one NWB file, by one writer thread.

It never drops a message. When the disk cannot keep up, `Recorder.put` raises; when the disk fails or runs
full, `on_failure` is called; either way the run stops, loudly.
"""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

from rig.acquisition.states import FinishReason
from rig.description import SessionDescription
from rig.errors import RecordingError
from rig.messages import Event, Message
from rig.recording.frame_chunks import compress_in_one_thread
from rig.recording.layout import RECORDER
from rig.recording.message_queue import MessageQueue
from rig.recording.session_file import reason_of

_LOG = logging.getLogger(__name__)
_MB, _GB = 1_000_000, 1_000_000_000
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """How the recorder keeps up; `written` counts by stream (events and gaps under "events")."""

    queued_messages: int
    queued_bytes: int
    high_water_bytes: int
    written: dict[str, int]
    discarded: int
    """Messages that came after the disk had failed."""


class Recorder:
    """Writes a session file from its creation to `finish`.

    Parameters
    ----------
    path
        The file to make; never overwritten.
    on_failure
        Takes the error, once, from the writer thread, when the disk fails or has less than
        ``recording.min_free_gb`` left. It must not call `finish` itself: that waits for the writer thread.

    Raises
    ------
    RecordingError
        When the file exists, cannot be created, or the disk is too full already.
    """

    def __init__(
        self, path: Path, session: SessionDescription, on_failure: Callable[[Exception], None]
    ) -> None:
        # pynwb takes a second: not for what is not recorded
        from rig.recording.message_writer import open_writer

        self._path, self._clock, self._config = path, session.clock, session.config.recording
        self._on_failure = on_failure
        self._failure: Exception | None = None
        self._discarded = 0
        self._told = False
        _check_disk(path, self._config.min_free_gb)
        self._writer = open_writer(path, session)
        self._queue = MessageQueue(self._config.queue_mb * _MB)
        now_ns = self._clock.now_ns()
        self._queue.put(Event(RECORDER, "recording_started", path.name, now_ns, now_ns), now_ns)
        self._ending: tuple[FinishReason, list[str]] = (FinishReason.FAILED, [])
        self._thread = threading.Thread(target=self._run, name="recorder")
        self._thread.start()

    def put(self, message: Message) -> None:
        """Take a message, from any thread, without waiting for the disk.

        Raises
        ------
        RecorderOverflow
            When ``recording.queue_mb`` of messages wait for the disk already.
        RecordingError
            When the stream is not part of the session, or the recording is finished.
        """
        self._writer.check(message)
        self._queue.put(message, self._clock.now_ns())

    def status(self) -> RecorderStatus:
        """Return how the recorder keeps up, from any thread."""
        queue = self._queue
        written = dict(self._writer.written)
        return RecorderStatus(
            len(queue), queue.queued_bytes, queue.high_water_bytes, written, self._discarded
        )

    def finish(self, reason: FinishReason, errors: Sequence[str]) -> None:
        """Write what waits, then how the session ended, and close the file; safe twice (the first counts)."""
        if self._thread.is_alive():
            self._ending = (reason, list(errors))
            self._queue.close()
            self._thread.join()

    def _run(self) -> None:
        """Write until the queue is closed and empty, then close the file: the writer thread."""
        compress_in_one_thread()
        flush_at = time.monotonic() + self._config.flush_s
        while not self._queue.drained:
            queued = self._queue.take(flush_at - time.monotonic())
            if queued is not None:
                self._discarded += self._failure is not None
                self._guarded(self._writer.write, queued)
                self._queue.release(queued)
            if time.monotonic() >= flush_at:
                self._guarded(self._flush)
                flush_at = time.monotonic() + self._config.flush_s
        self._guarded(self._end)
        self._close()

    def _guarded(self, step: Callable[P, None], *arguments: P.args, **named: P.kwargs) -> None:
        """Do one step; after the first that fails nothing more is written."""
        if self._failure is not None:
            return
        try:
            step(*arguments, **named)
        except Exception as error:  # the outer edge of the thread: hand it on
            self._failure = self._explain(error)
            self._tell(self._failure)

    def _flush(self) -> None:
        self._writer.flush()
        try:
            _check_disk(self._path, self._config.min_free_gb)
        except RecordingError as error:  # what is left is enough to record the end of the run
            self._tell(error)

    def _end(self) -> None:
        reason, errors = self._ending
        self._writer.end(reason, errors, self._clock.now_ns(), self._queue.high_water_bytes)

    def _close(self) -> None:
        try:
            self._writer.close()
        except (OSError, RuntimeError) as error:  # a full disk cannot take the last of it either
            if self._failure is None:
                self._failure = self._explain(error)
                self._tell(self._failure)
            _LOG.error("%s could not be closed properly: %s; use rig recover", self._path, error)

    def _explain(self, error: Exception) -> Exception:
        if isinstance(error, RecordingError):
            return error
        return RecordingError(
            f"{self._path} cannot be written: {reason_of(error)}; rig recover saves what was flushed"
        )

    def _tell(self, error: Exception) -> None:
        """Hand the first error on."""
        if not self._told:
            self._told = True
            _LOG.error("%s", error)
            self._on_failure(error)


def _check_disk(path: Path, min_free_gb: float) -> None:
    try:
        free_gb = shutil.disk_usage(path.parent).free / _GB
    except OSError as error:
        raise RecordingError(
            f"{path.parent} cannot be used: {error.strerror}; valid is an existing folder"
        ) from error
    if free_gb < min_free_gb:
        raise RecordingError(
            f"the disk of {path} has {free_gb:.2f} GB left, less than recording.min_free_gb = {min_free_gb:g}"
        )
