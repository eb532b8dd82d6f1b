"""What belongs to one stream: its numbers, the times they were sent, its credits."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from penstock_agent.core.leases import HOME

COALESCED = 1_000
"""Messages sent within this span share one remembered instant: the first, which is the safe one."""


class SentTimes:
    """When the messages of a session were sent: what the coordinator's `basis_seq` refers to.

    An answer is never later than the truth, so a lease's deadline is never later than the coordinator counts on.
    """

    def __init__(self) -> None:
        self._seqs: list[int] = []
        self._times: list[int] = []

    def record(self, seq: int, now: int) -> None:
        if not self._times or now - self._times[-1] >= COALESCED:
            self._seqs.append(seq)
            self._times.append(now)

    def at(self, seq: int) -> int | None:
        """When `seq` was sent; None if that is not remembered. Forgets all that is older."""
        place = bisect_right(self._seqs, seq) - 1
        if place < 0:
            return None
        if place:
            del self._seqs[:place]
            del self._times[:place]
        return self._times[0]

    def __len__(self) -> int:
        return len(self._seqs)


@dataclass(slots=True)
class Session:
    """One stream, from its opening to its end."""

    stream: int
    link: int = HOME
    """The number of the link that it is of."""
    coordinator: str = ""
    """Its id, once it has said welcome."""
    seq: int = 0
    sent: SentTimes = field(default_factory=SentTimes)
    welcomed: bool = False
    epoch: int = 0
    heartbeat_interval: int = 0
    lease_ttl: int = 0
    resend_interval: int = 0
    heard_at: int = 0
    heartbeat_at: int | None = None
    resend_at: int | None = None
    grants_seen: int = 0
    limit_sent: int = 0
    paused: bool = False
    echo: int = 0
    names_all: bool = False
    """The next heartbeat is to name all leases, not those of this link and orphans alone: links have changed."""
    awaited: bool = False
    """Others were told that it waits for its welcome: nothing follows from what they do not hear before they know."""
    over: bool = False
    """The agent has let go of it: what it still says has no effect."""
    active_at: int = 0
    """When it got credits last, or used some."""

    @property
    def unused(self) -> int:
        """Credits that are left."""
        return max(self.limit_sent - self.grants_seen, 0)

    def stamp(self, now: int) -> int:
        """The number of the message that is sent now."""
        self.seq += 1
        self.sent.record(self.seq, now)
        return self.seq

    def deadline(self, basis_seq: int, ttl: int) -> int | None:
        """When a lease ends that was granted or renewed on that basis; None if the basis is unknown."""
        at = self.sent.at(basis_seq)
        return None if at is None or basis_seq > self.seq else at + ttl
