"""Queues, by name: of those that there are now the first ones in alphabetical order, and the rest together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock_coordinator.api.metrics.families import Families
    from penstock_coordinator.runtime.session import AgentSession
    from penstock_coordinator.runtime.supervisor import Supervisor

MOST_QUEUES = 100
OTHER = "other"
_SECOND = 1_000_000


@dataclass(slots=True)
class QueueState:
    depth: int = 0
    running: int = 0
    oldest_wait: float = 0.0
    """Seconds."""
    slots: int = 0
    free: int = 0

    def add(self, more: QueueState) -> None:
        self.depth += more.depth
        self.running += more.running
        self.oldest_wait = max(self.oldest_wait, more.oldest_wait)
        self.slots += more.slots
        self.free += more.free


def put_queues(families: Families, supervisor: Supervisor) -> None:
    for name, queue in bounded(_queues(supervisor)).items():
        families.put("queue_depth", queue.depth, name)
        families.put("queue_running", queue.running, name)
        families.put("queue_oldest_wait_seconds", queue.oldest_wait, name)
        families.put("queue_slots", queue.slots, name)
        families.put("queue_slots_free", queue.free, name)


def bounded(queues: dict[str, QueueState]) -> dict[str, QueueState]:
    """A queue that is called as the rest is counts with the rest."""
    names = sorted(queues.keys() - {OTHER})
    kept = {name: queues[name] for name in names[:MOST_QUEUES]}
    rest = [*names[MOST_QUEUES:], *({OTHER} & queues.keys())]
    if rest:
        kept[OTHER] = QueueState()
        for name in rest:
            kept[OTHER].add(queues[name])
    return kept


def _queues(supervisor: Supervisor) -> dict[str, QueueState]:
    """Takes time by the number of lines that are waited on, and of agents."""
    found: dict[str, QueueState] = {}

    def of(name: str) -> QueueState:
        return found.setdefault(name, QueueState())

    now = supervisor.clock.monotonic()
    for line, depth, since in supervisor.dispatcher.demands():
        of(line.queue).add(QueueState(depth=depth, oldest_wait=max(now - since, 0) / _SECOND))
    for name, running in supervisor.fleet.leases.of_queues.items():
        of(name).running += running
    for session in supervisor.fleet.sessions():
        slots, free = session.capacity.slots, _free(session)
        for name in session.capacity.queues:
            of(name).add(QueueState(slots=slots, free=free))
    return found


def slots_of(sessions: Iterable[AgentSession]) -> tuple[int, int]:
    """All, and those with a lease. Agents hold more leases than they have slots for."""
    slots = used = 0
    for session in sessions:
        capacity = session.capacity
        slots += capacity.slots
        used += min(capacity.leases, capacity.slots)
    return slots, used


def _free(session: AgentSession) -> int:
    capacity = session.capacity
    return max(capacity.slots - capacity.leases - capacity.permits, 0) if capacity.open else 0
