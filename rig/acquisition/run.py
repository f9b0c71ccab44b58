"""What a run is asked for, where its data come from, and what it reports."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rig.acquisition.states import FinishReason
from rig.acquisition.workers import Sink
from rig.drivers.build import Devices, build_devices
from rig.drivers.protocols import DriverContext
from rig.messages import Prediction
from rig.sync.clock import SessionClock

if TYPE_CHECKING:
    from rig.acquisition.engine import Engine


class Source(Protocol):
    """Where a run's data come from: the rig's devices, or a recorded session in their place."""

    origin: str
    """"live", or the file that is replayed."""
    real_time: bool
    """Whether ages and latencies mean anything."""

    def clock(self) -> SessionClock:
        """Start the session's clock."""
        ...

    def devices(self, context: DriverContext) -> Devices:
        """Build the devices; nothing is opened."""
        ...

    def feeds(self, engine: "Engine") -> dict[str, list[Sink]]:
        """Sinks for each camera beyond the usual ones, once the decoders are ready."""
        ...

    def pace(self, engine: "Engine") -> Callable[[], None] | None:
        """Return what source threads call before each read, if anything."""
        ...

    def acts_on(self, output: str, prediction: Prediction) -> bool:
        """Whether the closed loop of an output may act on this."""
        ...


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `rig run` was asked for."""

    output: Path | None
    duration_s: float | None = None
    window: bool = True
    screenshots: Path | None = None
    wait_for_start: bool = False


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a run went."""

    session: str | None
    finish_reason: FinishReason
    streams: dict[str, dict[str, float]]
    decoders: dict[str, dict[str, object]]
    latency_ms: dict[str, float] | None
    errors: list[str]

    def as_dict(self) -> dict[str, object]:
        """Return the JSON that scripts rely on."""
        return {
            "session": self.session,
            "finish_reason": str(self.finish_reason),
            "streams": {
                name: {"received": s["received"], "lost": s["lost"]} for name, s in self.streams.items()
            },
            "decisions": sum(int(str(d["decisions"])) for d in self.decoders.values()),
            "latency_ms": self.latency_ms,
            "decoders": self.decoders,
            "errors": self.errors,
        }


class LiveSource:
    """The rig's own devices, now."""

    origin = "live"
    real_time = True

    def clock(self) -> SessionClock:
        """Start the session's clock now."""
        return SessionClock.start()

    def devices(self, context: DriverContext) -> Devices:
        """Build what the rig's YAML names."""
        return build_devices(context)

    def feeds(self, engine: "Engine") -> dict[str, list[Sink]]:
        """Nothing: decoders follow the cameras' own streams."""
        return {}

    def pace(self, engine: "Engine") -> Callable[[], None] | None:
        """Nothing: the world does not wait."""
        return None

    def acts_on(self, output: str, prediction: Prediction) -> bool:
        """On everything, until the loop is stopped."""
        return True
