"""What an agent is at, for whoever looks at it from outside. Read when somebody asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from penstock_agent.core.leases import HOME
from penstock_agent.runtime import host

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock_agent.artifacts.cache import ArtifactCache
    from penstock_agent.core.counts import AttemptCounts
    from penstock_agent.core.holder import Holder
    from penstock_agent.environments.builds import Environments
    from penstock_agent.executors.warm import WarmExecutor
    from penstock_agent.runtime.conversations import Conversations
    from penstock_agent.runtime.host import LoopLag
    from penstock_agent.runtime.logs import LogRelay
    from penstock_agent.runtime.spool import Spool
    from penstock_agent.runtime.stream import Connection

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AgentState:
    version: str
    connected: bool
    relayed: bool
    links: int
    """Members that it has a session with."""
    draining: bool
    slots: int
    slots_used: int
    leases: int
    attempts: AttemptCounts
    spooled_results: int
    spool_bytes: int | None
    """None, as with the disk: it cannot be looked at."""
    disk_free_bytes: int | None
    """Of the data folder's disk."""
    disk_size_bytes: int | None
    disk_floor_bytes: int
    """With less it takes no work."""
    step_processes: int
    reconnects: int
    builds: dict[str, int]
    """Of environments, by result."""
    artifact_cache_bytes: int
    log_lines_waiting: int
    event_loop_lag: float
    """Seconds."""


@dataclass(slots=True)
class Observed:
    """The parts of an agent that are looked at."""

    version: str
    slots: int
    holder: Holder
    executor: WarmExecutor
    spool: Spool
    logs: LogRelay
    lag: LoopLag
    cache: ArtifactCache
    environments: Environments | None
    folder: Path
    """That all its files are in."""
    disk_floor: int
    """Bytes."""
    connection: Connection
    conversations: Conversations

    @property
    def connected(self) -> bool:
        return any(session.welcomed for session in self.holder.sessions.values())

    @property
    def why_not_ready(self) -> str:
        """Why it takes no work; "": it does."""
        if self.holder.draining:
            return "it is draining: it takes no new leases, and ends when those that it has have ended"
        if not self.connected:
            return "no coordinator is there"
        return "the disk of its data folder is full, or cannot be written" if self.holder.disk_full else ""

    def state(self) -> AgentState:
        condition = _unless_away(lambda: host.condition(self.folder))
        return AgentState(
            version=self.version,
            connected=self.connected,
            relayed=self.connected and self.connection.is_relayed,
            links=sum(session.welcomed and session.link != HOME for session in self.holder.sessions.values()),
            draining=self.holder.draining,
            slots=self.slots,
            slots_used=self.executor.running,
            leases=len(self.holder.book.all),
            attempts=self.holder.counts,
            spooled_results=self.spool.depth,
            spool_bytes=_unless_away(lambda: self.spool.size),
            disk_free_bytes=None if condition is None else condition.disk_free_bytes,
            disk_size_bytes=None if condition is None else condition.disk_size_bytes,
            disk_floor_bytes=self.disk_floor,
            step_processes=self.executor.processes,
            reconnects=max(self.conversations.homes - 1, 0),
            builds={"ok": 0, "failed": 0} if self.environments is None else self.environments.builds,
            artifact_cache_bytes=self.cache.size,
            log_lines_waiting=self.logs.lines_waiting,
            event_loop_lag=self.lag.most,
        )


def _unless_away(look: Callable[[], T]) -> T | None:
    """A disk that fails costs its own figures, and not the page."""
    try:
        return look()
    except OSError:
        return None
