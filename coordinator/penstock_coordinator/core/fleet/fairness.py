"""Which leases are called back from a busy agent because another one is idle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock_coordinator.core.fleet.leases import Holder, Lease
    from penstock_coordinator.core.plan.model import Line

LEAST_BEATS = 2
"""A lease that was named as not started in so many heartbeats in a row stands behind something long."""


class Room(Protocol):
    """What another session has room for."""

    session: int
    slots: int
    leases: int
    permits: int

    def serves(self, line: Line) -> bool: ...

    def room(self, line: Line) -> int: ...


def misplaced(holder: Holder, others: Iterable[Room]) -> list[Lease]:
    """Leases that wait on this agent for a slot although slots elsewhere are free, the last granted first: at most as
    many as there are such slots."""
    waiting = [
        lease
        for lease in holder.leases.values()
        if lease.waiting_beats >= LEAST_BEATS and not lease.called_back and lease.stop is None
    ]
    if not waiting:
        return []
    free = {each.session: (each, each.slots - each.leases - each.permits) for each in others}
    found: list[Lease] = []
    for lease in reversed(waiting):
        for session, (capacity, slots) in free.items():
            if slots > 0 and capacity.serves(lease.line) and capacity.room(lease.line):
                free[session] = capacity, slots - 1
                found.append(lease)
                break
    return found
