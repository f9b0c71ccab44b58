"""When to switch an output: threshold, hysteresis, hold, refractory time and duty. Pure: times in, decisions out."""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """The numbers of one policy; times in nanoseconds."""

    threshold_on: float
    threshold_off: float
    hold_ns: int
    refractory_ns: int
    max_on_ns: int
    max_duty: float
    duty_window_ns: int


class Policy:
    """Follows one scalar and says when its output must change.

    The value must stay at or above `threshold_on` (or below `threshold_off`) for `hold_ns` before the output
    follows. After `max_on_ns`, or once it was on for `max_duty` of the last `duty_window_ns`, the output goes off
    whatever the value; after going off it stays off for `refractory_ns`. After `max_on_ns` or the duty limit, the
    value must first fall below `threshold_on` before the output can go on again. NaN is no evidence for anything
    but off.
    """

    def __init__(self, settings: PolicySettings) -> None:
        self._s = settings
        self.on = False
        self._wanted_since_ns: int | None = None
        self._on_ns = 0
        self._off_ns: int | None = None
        self._must_fall = False
        self._on_periods: deque[tuple[int, int]] = deque()

    def step(self, session_ns: int, value: float) -> str | None:
        """Take the value at a time; return why the output must change now, or None when it must not."""
        reason = self._reason_off(session_ns, value) if self.on else self._reason_on(session_ns, value)
        if reason is not None:
            self._switch(session_ns)
        return reason

    def reset(self, session_ns: int) -> None:
        """Take note that the output was put in its safe state (off) by somebody else; the hold begins anew."""
        self._wanted_since_ns = None
        if self.on:
            self._switch(session_ns)

    def _reason_on(self, now_ns: int, value: float) -> str | None:
        above = value >= self._s.threshold_on
        self._must_fall = self._must_fall and above
        resting = self._off_ns is not None and now_ns - self._off_ns < self._s.refractory_ns
        if not above or self._must_fall:
            self._wanted_since_ns = None
            return None
        if not self._held(now_ns) or resting or self._duty(now_ns) >= self._s.max_duty:
            return None
        return "above threshold"

    def _reason_off(self, now_ns: int, value: float) -> str | None:
        if now_ns - self._on_ns >= self._s.max_on_ns:
            self._must_fall = True
            return "on for the longest time allowed"
        if self._s.max_duty < 1 and self._duty(now_ns) >= self._s.max_duty:
            self._must_fall = True
            return "duty used up"
        if value >= self._s.threshold_off:
            self._wanted_since_ns = None
            return None
        return "below threshold" if self._held(now_ns) else None

    def _held(self, now_ns: int) -> bool:
        if self._wanted_since_ns is None:
            self._wanted_since_ns = now_ns
        return now_ns - self._wanted_since_ns >= self._s.hold_ns

    def _duty(self, now_ns: int) -> float:
        """Share of the duty window that the output was on."""
        start_ns = now_ns - self._s.duty_window_ns
        while self._on_periods and self._on_periods[0][1] <= start_ns:
            self._on_periods.popleft()
        on_ns = sum(stop - max(begin, start_ns) for begin, stop in self._on_periods)
        if self.on:
            on_ns += now_ns - max(self._on_ns, start_ns)
        return on_ns / self._s.duty_window_ns

    def _switch(self, now_ns: int) -> None:
        if self.on:
            self._on_periods.append((self._on_ns, now_ns))
            self._off_ns = now_ns
        else:
            self._on_ns = now_ns
        self.on = not self.on
        self._wanted_since_ns = None
