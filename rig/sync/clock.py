"""The session clock: the host's monotonic clock, counted from the session's zero."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class SessionClock:
    """Host time since the session's zero, in nanoseconds.

    `zero_ns` is a reading of the monotonic clock, shared by every process of a session; `started_at` is the
    wall clock read once at that zero, for the file header only. `speed` other than 1 serves replay: session
    time then runs that many times faster than the host's clock.
    """

    zero_ns: int
    started_at: datetime
    speed: float = 1.0

    @classmethod
    def start(cls, lead_ns: int = 0) -> "SessionClock":
        """Start a session `lead_ns` from now."""
        return cls(time.monotonic_ns() + lead_ns, datetime.now(UTC))

    def now_ns(self) -> int:
        """Session time, ns."""
        elapsed_ns = time.monotonic_ns() - self.zero_ns
        return elapsed_ns if self.speed == 1.0 else int(elapsed_ns * self.speed)
