"""Which of the leases that were sent to a session still wait to be accepted, and how long that may take.

That nothing was heard of a lease does not say that it does not run: its acceptance may be lost. So one that is overdue
is called back, and goes elsewhere once it is sure that it does not run: the agent says so, or does not name it although
it has read what came after it (`Roll`), or it has lapsed: who was never answered has not renewed it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock_coordinator.core.fleet.leases import Lease, LeaseTable

MOST_DOUBLINGS = 6


class Acceptance:
    """Of one session. An agent that lets a lease lie gets no other one for a while, longer each time."""

    def __init__(self) -> None:
        self._sent: deque[Lease] = deque()
        self._overdue: deque[Lease] = deque()
        self._failures = 0
        self.closed_until = 0
        """Instant until which nothing is granted."""

    def sent(self, lease: Lease) -> None:
        """The lease is on its way. `sent_at` never decreases from one to the next."""
        self._sent.append(lease)

    def accepted(self) -> None:
        """The agent has accepted something."""
        self._failures = 0

    def overdue(self, leases: LeaseTable, now: int, patience: int) -> list[Lease]:
        """Leases that were sent so long ago and are not accepted, each once: they are to be called back."""
        late = _older(self._sent, leases, now - patience)
        if late:
            self._overdue += late
            self.closed_until = now + (patience << min(self._failures, MOST_DOUBLINGS))
            self._failures += 1
        return late

    def lapsed(self, leases: LeaseTable, now: int) -> list[Lease]:
        """Leases that were overdue, and that the agent's own clock has ended by now if it ever took them."""
        return _older(self._overdue, leases, now - leases.lifetime)


def _older(sent: deque[Lease], leases: LeaseTable, limit: int) -> list[Lease]:
    """Taken from `sent`: those that were sent by then and still wait. What is accepted or over is left out."""
    late: list[Lease] = []
    while sent:
        lease = sent[0]
        pending = not lease.accepted and leases.find(lease.key) is lease
        if pending and lease.sent_at > limit:
            break
        sent.popleft()
        if pending:
            late.append(lease)
    return late
