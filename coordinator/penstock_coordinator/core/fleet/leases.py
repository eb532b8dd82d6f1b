"""The leases that live, by step run, and the clock that they are counted by.

A lease lives as long as its holder is heard of: its session's last processed message + ttl + expiry margin, on the
coordinator's own monotonic clock. The agent counts ttl from before it *sent* that message, so its deadline always
comes first, without a comparison of clocks.

A session that is lost or not yet back (after a restart of the coordinator) keeps its leases until then; the agent's
next `Hello` names those that it still holds.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock_coordinator.core.plan.model import Line

LeaseKey: TypeAlias = tuple[bytes, int, int]
"""(run id, step, item)"""


class Phase(enum.Enum):
    """What the agent has last said of a lease."""

    UNNAMED = enum.auto()
    """No heartbeat and no Hello has named it yet."""
    WAITING = enum.auto()
    """Accepted, and not started."""
    RUNNING = enum.auto()
    FINISHED = enum.auto()


@dataclass(slots=True, eq=False)
class Stop:
    """The attempt is to be stopped; said again until its result comes."""

    grace: int
    reason: str


@dataclass(slots=True, eq=False)
class Lease:
    key: LeaseKey
    token: int
    attempt: int
    line: Line
    holder: Holder
    sent: bool = False
    """The grant is on its way: until then the agent cannot name it."""
    due_ack: int = 0
    """The first acknowledgement of a heartbeat that can come after the grant: once the agent answers it, it has read
    the grant."""
    accepted: bool = False
    phase: Phase = Phase.UNNAMED
    stop: Stop | None = None
    sent_at: int = 0
    """Monotonic microseconds."""
    waiting_beats: int = 0
    """In so many heartbeats in a row it was named as accepted, not started, and nothing was prepared for it."""
    called_back: bool = False
    """Because another agent is idle; once is enough."""


@dataclass(slots=True, eq=False)
class Holder:
    """One session of an agent, or what is left of it."""

    agent: str
    session: int
    """Below 0 while it stands in for a session that cannot be committed; see `stands_for`."""
    boot_id: str
    heard_at: int
    """When its last message was processed, monotonic microseconds."""
    connected: bool = True
    stream: int = 0
    """Its number within the agent's process; 0: not known."""
    hung_up: bool = False
    """Its connection ended without a goodbye while it was being heard of: if it does not come back, it died."""
    boot_known: bool = True
    """It is sure that `boot_id` is that of the process that had this session."""
    slots: int = 0
    """So many attempts it runs at once; 0: not known, it has not been heard of since the coordinator began."""
    leases: dict[LeaseKey, Lease] = field(default_factory=dict)
    """In the order of the grants, unless `slots` is not known. A Hello names leases in the order that they came in."""
    hello: int = 0
    """The number of its Hello among all that the coordinator has heard; 0: of before a restart."""
    stands_for: int = 0
    """Of one that stands in: the committed session that it goes on with."""
    shares_slots: bool = False
    """The agent's slots are for leases of other coordinators, too."""

    @property
    def committed(self) -> int:
        """The session by its committed number."""
        return self.stands_for or self.session


def left_over(agent: str, session: int, last_boot: tuple[int, str], now: int) -> Holder:
    """A session of before a restart. Of the agent its last session is known, and that one's boot id."""
    last_session, boot_id = last_boot
    return Holder(agent, session, boot_id, now, connected=False, boot_known=session == last_session)


@dataclass(frozen=True, slots=True)
class Lost:
    """A lease that ended without a result."""

    lease: Lease
    cause: str
    accepted: bool
    """User code may have started, and the agent's end is charged."""
    unsure: bool = False
    """The agent may have started user code: whether it accepted the lease may have been lost on the way."""
    boot_id: str = ""
    """Of the agent's process, if that died and may have died of this."""


class LeaseTable:
    """At most one lease per step run: the one with the newest token."""

    def __init__(self, ttl: int, margin: int) -> None:
        self.lifetime = ttl + margin
        """From the agent's last word to when its leases are given up."""
        self._leases: dict[LeaseKey, Lease] = {}
        self._holders: dict[int, Holder] = {}
        self.of_queues: dict[str, int] = {}
        """How many there are, by the queue of their step runs; queues without any are left out."""

    def __len__(self) -> int:
        return len(self._leases)

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._leases.values())

    def holder(self, session: int) -> Holder | None:
        return self._holders.get(session)

    def holders(self) -> list[Holder]:
        return list(self._holders.values())

    def holders_of(self, agent: str) -> list[Holder]:
        return [holder for holder in self._holders.values() if holder.agent == agent]

    def add_holder(self, holder: Holder) -> Holder:
        self._holders[holder.session] = holder
        return holder

    def remove_holder(self, session: int) -> None:
        """Only without leases."""
        holder = self._holders.pop(session, None)
        assert holder is None or not holder.leases

    def find(self, key: LeaseKey) -> Lease | None:
        return self._leases.get(key)

    def add(self, holder: Holder, key: LeaseKey, token: int, attempt: int, line: Line) -> Lease:
        """A grant. A lease of an older token of the same step run is to be ended before: it cannot speak any more, and
        its room is free."""
        assert key not in self._leases, "two leases of one step run"
        lease = self._leases[key] = holder.leases[key] = Lease(key, token, attempt, line, holder)
        self.of_queues[line.queue] = self.of_queues.get(line.queue, 0) + 1
        return lease

    def end(self, key: LeaseKey, token: int) -> Lease | None:
        """The lease with that token is over; None if it is not there any more."""
        lease = self._leases.get(key)
        if lease is None or lease.token != token:
            return None
        del self._leases[key]
        lease.holder.leases.pop(key, None)
        queue = lease.line.queue
        left = self.of_queues[queue] = self.of_queues[queue] - 1
        if not left:
            del self.of_queues[queue]
        return lease

    def move(self, lease: Lease, holder: Holder) -> None:
        """The agent is back and holds it still."""
        lease.holder.leases.pop(lease.key, None)
        lease.holder = holder
        lease.accepted = True
        lease.due_ack = 0
        holder.leases[lease.key] = lease

    def expires_at(self, holder: Holder) -> int:
        return holder.heard_at + self.lifetime

    def next_expiry(self) -> int | None:
        """When the next holder's leases run out, unless it is heard of."""
        return min((self.expires_at(holder) for holder in self._holders.values()), default=None)

    def stand_still(self, span: int, now: int) -> None:
        """So much of the time up to now counts for no lease. An agent's own deadline comes only the earlier."""
        for holder in self._holders.values():
            holder.heard_at = min(now, holder.heard_at + span)

    def expired(self, now: int) -> list[Holder]:
        """Holders that were not heard of for a lease's whole life."""
        return [holder for holder in self._holders.values() if self.expires_at(holder) <= now]
