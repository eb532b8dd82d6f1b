"""Which of the leases that were sent to a session still wait to be accepted, and how long that may take."""

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
        """Leases that were sent so long ago and are not accepted. They are no longer waited for."""
        late: list[Lease] = []
        while self._sent:
            lease = self._sent[0]
            pending = not lease.accepted and leases.find(lease.key) is lease
            if pending and lease.sent_at + patience > now:
                break
            self._sent.popleft()
            if pending:
                late.append(lease)
        if late:
            self.closed_until = now + (patience << min(self._failures, MOST_DOUBLINGS))
            self._failures += 1
        return late
