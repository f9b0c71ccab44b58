"""What a run is doing, and why it finished: two enums that never mix.

::

    idle ──► preparing ──► running ──► stopping ──► finished (completed | cancelled | failed)
                 └────────────────────────┘ an error, or a stop, at any point leads through stopping
"""

from enum import StrEnum


class RunState(StrEnum):
    """What a run is doing."""

    IDLE = "idle"
    PREPARING = "preparing"
    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"


class FinishReason(StrEnum):
    """Why a run finished."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


STATUS = "status"
"""Bus stream on which the engine tells its state, as `Event`s of kind "status" with JSON text, a few times a second."""

COMMANDS = "commands"
"""Bus stream on which the window asks: `Event`s of kind "start", "stop" or "note" (text: the note)."""
