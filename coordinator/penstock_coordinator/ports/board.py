"""The board: what each coordinator has to do, for the others and for people. Nothing on it is needed to be right.

What is on the board may be old, or gone: it lives for a short time, and is published again and again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.model import Line
    from penstock_coordinator.ports.common import RunId

MOST_LINES = 500
MOST_RUNS = 100
"""Of one coordinator. Those with the most to do are published, the rest is left out."""


@dataclass(frozen=True, slots=True)
class LineDemand:
    """What waits for agents of a line, and what they run."""

    line: Line
    ready: int
    """Step runs that wait for an agent."""
    running: int
    """Leases."""
    oldest_wait: int = 0
    """Microseconds that the one has waited that has waited longest, when this was published."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Of a live run. Numbers are of its step runs."""

    run_id: RunId
    pipeline: str
    state: str
    ready: int
    running: int
    waiting: int
    completed: int
    failed: int
    total: int


@dataclass(frozen=True, slots=True)
class BoardEntry:
    """What one coordinator publishes; of one that follows, that it is there."""

    coordinator_id: str
    epoch: int = 0
    """Of its ownership; 0: it follows."""
    live_runs: int = 0
    lines: tuple[LineDemand, ...] = ()
    runs: tuple[RunStatus, ...] = ()
    relayed: int = 0
    """Agents that come to the owner by this one."""

    @property
    def ready(self) -> int:
        return sum(each.ready for each in self.lines)

    @property
    def running(self) -> int:
        return sum(each.running for each in self.lines)


@dataclass(frozen=True, slots=True)
class Published:
    """An entry as it is read."""

    entry: BoardEntry
    age: int
    """Microseconds since it was published, by the board's own clock."""


class Board(Protocol):
    """All methods raise `Unavailable`, within a bounded time: then it is not known whether anything was done."""

    async def publish(self, entry: BoardEntry, ttl: float) -> None:
        """In the place of what the coordinator published before; gone after `ttl` seconds. Idempotent."""

    async def read(self) -> list[Published]:
        """Of all coordinators what they last published and is not gone, by their ids."""

    async def withdraw(self, coordinator_id: str) -> None:
        """What it published is gone. Idempotent."""
