"""The ownership lease, as one coordinator sees it: whether it may own runs, and when it may take those of another.

Nobody compares clocks. Each coordinator has a row with a number that it raises again and again. Whoever waits counts on
a clock of its own for how long the owner's number has stood still, from the moment when it had read it. The owner
counts on its own from before it asked for a renewal, and stops when a part of the lease is still left. So what the
owner counts from is always earlier than what the others count from, and it has stopped before they begin.

An owner that is alone may go on for as long as it likes, also while it cannot renew: nobody else is there to take over.
That it is alone it knows from the rows as they were when it last renewed. Who comes later waits for a whole lease
first, in which an owner that reaches the database hears of it.

There are two kinds of owners: the head, which claims, and members, which join a claim of a head and are over with it.
A member counts its lease as a head does, is never alone, and is waited for by the head that buries it and by whoever
claims as a head is.

Instants and spans are microseconds; `now` is of a monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

DRIFT = 1e-3
"""So much may a clock be too fast or too slow."""
OWN_SHARE = 0.9
"""Of the lease: then the owner stops. The rest is for the stopping itself, and for what the clocks drift apart."""
RENEWALS = 3
"""In a lease."""
LATE_AFTER = 2
"""Renewal intervals: one that has not moved for so long is not where callers should go."""
APPOINTED_FOR = 1_000_000
"""So long the others leave the claim to the one that the former owner has appointed."""
FORGOTTEN_AFTER = 10
"""Leases: who waits and has not moved for so long is waited for no more."""
SHORTEST_LOOK = 50_000
LONGEST_LOOK = 500_000


class OwnershipState(IntEnum):
    """Kept in the database: numbers never change."""

    FOLLOWER = 0
    """It waits for its turn, and owns nothing: live runs of a former incarnation may be claimed."""
    OWNER = 1
    """It holds the ownership lease of a head."""
    GONE = 2
    """It stopped, or another one has taken over."""
    MEMBER = 3
    """It holds an ownership lease that is bound to one claim of one head."""


@dataclass(frozen=True, slots=True)
class CoordinatorRow:
    """A coordinator, as the database has it."""

    coordinator_id: str
    state: OwnershipState
    epoch: int
    """Of its newest incarnation as an owner; 0: it never was one."""
    renewals: int
    """Only ever grows."""
    lease: int
    """How long its ownership lasts without a renewal."""
    address: str
    """Of gRPC, as others reach it."""
    http_address: str
    began: int
    """When its process did, by its wall clock: for people."""
    appointed: bool = False
    """It waits, and the former owner gave its lease up for this one to take over. No claim depends on it."""
    head_epoch: int = 0
    """Of a member: the epoch of the head that it joined. Of a head: its own, or that of an earlier claim if it is of a
    release that takes no members. 0: neither."""
    secrets_key: str = ""
    """The id of the newest key that it keeps secrets with; "": it has none, or said nothing of it."""

    @property
    def takes_members(self) -> bool:
        return self.state is OwnershipState.OWNER and self.head_epoch == self.epoch

    @property
    def mark(self) -> tuple[int, int, int]:
        """Another one after everything that the coordinator does."""
        return self.state, self.epoch, self.renewals


@dataclass(slots=True)
class _Seen:
    row: CoordinatorRow
    since: int
    """It has stood still at least since then."""
    appointed_since: int
    """It is known to be appointed since then, if it is."""
    moved: bool
    """It was seen to move: its row is not only what somebody left who is gone."""


def renewal_interval(lease: int) -> int:
    return lease // RENEWALS


def look_interval(lease: int) -> int:
    """Between two looks of one who waits: what they add to a take-over."""
    return min(max(lease // 20, SHORTEST_LOOK), LONGEST_LOOK)


class Ownership:
    """Of one coordinator. It follows until it has `won` or `joined`, owns until `ended`, and follows again."""

    def __init__(self, coordinator_id: str, lease: int) -> None:
        self.coordinator_id = coordinator_id
        self.lease = lease
        self.role = OwnershipState.FOLLOWER
        """That, OWNER or MEMBER."""
        self.epoch = 0
        """Of its own incarnation; 0 while it follows."""
        self.head_epoch = 0
        """Of the claim that it owns by: its own as a head, 0 while it follows."""
        self.alone = False
        """Nobody else was there when it last renewed."""
        self._head_id = ""
        self._counts_from = 0
        self._seen: dict[str, _Seen] = {}

    # --- what the database says

    def looked(self, rows: Iterable[CoordinatorRow], now: int) -> bool:
        """The rows, read before `now`. False if this one's own is not that of one who waits: it was forgotten, has to
        register again, and has seen nothing yet. False of a member, too, if its own row is not one of its membership
        any more."""
        before, self._seen, own = self._seen, {}, None
        for row in rows:
            if row.coordinator_id == self.coordinator_id:
                own = row
            else:
                self._seen[row.coordinator_id] = _seen(row, before.get(row.coordinator_id), now)
        if self._is_own(own):
            return True
        self._seen.clear()
        return False

    def _is_own(self, row: CoordinatorRow | None) -> bool:
        """The row that this coordinator should have. Of a head its renewal says so."""
        if self.role is OwnershipState.OWNER:
            return True
        return row is not None and row.state is self.role and (not self.epoch or row.epoch == self.epoch)

    @property
    def others(self) -> list[CoordinatorRow]:
        """As they were at the last look, by id."""
        return [seen.row for _, seen in sorted(self._seen.items())]

    def still_for(self, coordinator_id: str, now: int) -> int:
        """How long the other one has not moved, as far as is known here."""
        seen = self._seen.get(coordinator_id)
        return 0 if seen is None else now - seen.since

    def heard_of(self, coordinator_id: str, now: int) -> bool:
        """The other one was there lately, as far as is known here."""
        seen = self._seen.get(coordinator_id)
        return seen is not None and now - seen.since < LATE_AFTER * renewal_interval(seen.row.lease)

    @property
    def heads(self) -> list[CoordinatorRow]:
        """Others that hold the lease of a head, or have not given it up; by id."""
        return [row for row in self.others if row.state is OwnershipState.OWNER]

    @property
    def members(self) -> list[CoordinatorRow]:
        """Others that are members of any head, or have not left it; by id."""
        return [row for row in self.others if row.state is OwnershipState.MEMBER]

    @property
    def owners(self) -> list[CoordinatorRow]:
        """Heads and members: all others that may write runs; by id."""
        return [row for row in self.others if row.state in (OwnershipState.OWNER, OwnershipState.MEMBER)]

    @property
    def fellows(self) -> list[CoordinatorRow]:
        """Members that own by the same claim as this one, by id: of a head all that it has, of a member the others.
        None of one that follows."""
        return [row for row in self.members if self.epoch and row.head_epoch == self.head_epoch]

    # --- following

    def claimable_at(self) -> int:
        """When every other owner's lease has run out, if none moves any more, and another one that is appointed has had
        the time to claim; 0: there is none. Members are waited for like heads: one that is cut off from the database
        renews its agents' leases until its own has run out."""
        owners = (self._seen[row.coordinator_id] for row in self.owners)
        appointed = (each.appointed_since + APPOINTED_FOR for each in self._seen.values() if each.row.appointed)
        return max(*(each.since + _waited_for(each.row.lease) for each in owners), *appointed, 0, 0)

    def may_claim(self, now: int) -> bool:
        """Whether to try. It holds if the owners are still as `owners` has them when it is decided."""
        return not self.epoch and now >= self.claimable_at()

    def may_join(self, now: int) -> CoordinatorRow | None:
        """The head to ask. None: there is not exactly one, it takes no members, it was not seen to move lately, or
        somebody is appointed to succeed it."""
        heads = self.heads
        if self.epoch or len(heads) != 1 or any(each.row.appointed for each in self._seen.values()):
            return None
        (head,) = heads
        # Whoever joined one that is dead would be waited for by others when that one's lease has long run out.
        alive = self._seen[head.coordinator_id].moved and self.heard_of(head.coordinator_id, now)
        return head if head.takes_members and alive else None

    def forgotten(self, now: int) -> list[CoordinatorRow]:
        """Those that wait, and have not moved for so long that nothing should depend on them."""
        return [
            row
            for row in self.others
            if row.state is OwnershipState.FOLLOWER
            and self.still_for(row.coordinator_id, now) > FORGOTTEN_AFTER * _waited_for(max(row.lease, self.lease))
        ]

    # --- owning

    def won(self, epoch: int, asked_at: int, *, alone: bool) -> None:
        """The claim, asked for at `asked_at`, was granted."""
        self.role, self.epoch, self.head_epoch = OwnershipState.OWNER, epoch, epoch
        self.renewed(asked_at, alone=alone)

    def joined(self, epoch: int, head: CoordinatorRow, asked_at: int) -> None:
        """The head, as it was asked at `asked_at`, has this one as a member."""
        self.role, self.epoch, self.head_epoch = OwnershipState.MEMBER, epoch, head.epoch
        self._head_id = head.coordinator_id
        self.renewed(asked_at, alone=False)

    def renewed(self, asked_at: int, *, alone: bool) -> None:
        """The renewal that was asked for at `asked_at` is confirmed, and so is whether others are there. A member is
        never alone: its head is there, or it is over."""
        alone = alone and self.role is OwnershipState.OWNER
        self._counts_from = max(self._counts_from, asked_at)
        self.alone = alone

    def stepped_back(self) -> None:
        """A member has become one that waits, and there was no moment in which others could not see it: what it saw of
        them holds, and nobody is waited for twice."""
        self.role, self.epoch, self.head_epoch, self._head_id = OwnershipState.FOLLOWER, 0, 0, ""
        self.alone = False

    def ended(self) -> None:
        """It owns nothing any more, for whatever reason. What it saw of others it has to see again."""
        self.stepped_back()
        self._seen.clear()

    # --- a head and its members

    def dead_members(self, now: int) -> list[CoordinatorRow]:
        """Those of this head that have stood still for their lease since it had first read what they are at."""
        if self.role is not OwnershipState.OWNER:
            return []
        return [row for row in self.fellows if self.still_for(row.coordinator_id, now) >= _waited_for(row.lease)]

    def head_is_over(self, now: int) -> bool:
        """Of a member: its head's row is gone, is of another claim, or has stood still for the head's lease."""
        if self.role is not OwnershipState.MEMBER:
            return False
        seen = self._seen.get(self._head_id)
        if seen is None or seen.row.state is not OwnershipState.OWNER or seen.row.epoch != self.head_epoch:
            return True
        return now - seen.since >= _waited_for(seen.row.lease)

    def next_over_at(self) -> int | None:
        """When the first of those is over whom this one looks after, if none moves any more: of a head its members, of
        a member its head. None: there is nobody."""
        watched = [row.coordinator_id for row in self.fellows] if self.role is OwnershipState.OWNER else [self._head_id]
        over = [seen.since + _waited_for(seen.row.lease) for name in watched if (seen := self._seen.get(name))]
        return min(over, default=None)

    # --- acting

    @property
    def ends_at(self) -> int | None:
        """When it has to have stopped. None: it may go on."""
        if not self.epoch:
            return 0
        return None if self.alone else self._counts_from + int(self.lease * OWN_SHARE)

    def may_act(self, now: int) -> bool:
        ends_at = self.ends_at
        return ends_at is None or now < ends_at


def _seen(row: CoordinatorRow, known: _Seen | None, now: int) -> _Seen:
    if known is None:
        return _Seen(row, now, now, moved=False)
    since = known.since if known.row.mark == row.mark else now
    appointed_since = known.appointed_since if known.row.appointed else now
    return _Seen(row, since, appointed_since, moved=known.moved or known.row.mark != row.mark)


def _waited_for(lease: int) -> int:
    return int(lease * (1 + 2 * DRIFT))
