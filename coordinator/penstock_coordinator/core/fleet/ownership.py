"""The ownership lease, as one coordinator sees it: whether it may own runs, and when it may take those of another.

Nobody compares clocks. Each coordinator has a row with a number that it raises again and again. Whoever waits counts on
a clock of its own for how long the owner's number has stood still, from the moment when it had read it. The owner
counts on its own from before it asked for a renewal, and stops when a part of the lease is still left. So what the
owner counts from is always earlier than what the others count from, and it has stopped before they begin.

An owner that is alone may go on for as long as it likes, also while it cannot renew: nobody else is there to take over.
That it is alone it knows from the rows as they were when it last renewed. Who comes later waits for a whole lease
first, in which an owner that reaches the database hears of it.

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
    """It holds its ownership lease."""
    GONE = 2
    """It stopped, or another one has taken over."""


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


def renewal_interval(lease: int) -> int:
    return lease // RENEWALS


def look_interval(lease: int) -> int:
    """Between two looks of one who waits: what they add to a take-over."""
    return min(max(lease // 20, SHORTEST_LOOK), LONGEST_LOOK)


class Ownership:
    """Of one coordinator. It follows until `won`, owns until `ended`, and follows again."""

    def __init__(self, coordinator_id: str, lease: int) -> None:
        self.coordinator_id = coordinator_id
        self.lease = lease
        self.epoch = 0
        """Of its own incarnation; 0 while it follows."""
        self.alone = False
        """Nobody else was there when it last renewed."""
        self._counts_from = 0
        self._seen: dict[str, _Seen] = {}

    # --- what the database says

    def looked(self, rows: Iterable[CoordinatorRow], now: int) -> bool:
        """The rows, read before `now`. False if this one's own is not that of one who waits: it was forgotten, has to
        register again, and has seen nothing yet."""
        before, self._seen, own = self._seen, {}, None
        for row in rows:
            if row.coordinator_id == self.coordinator_id:
                own = row
            else:
                self._seen[row.coordinator_id] = _seen(row, before.get(row.coordinator_id), now)
        if self.epoch or (own is not None and own.state is OwnershipState.FOLLOWER):
            return True
        self._seen.clear()
        return False

    @property
    def others(self) -> list[CoordinatorRow]:
        """As they were at the last look, by id."""
        return [seen.row for _, seen in sorted(self._seen.items())]

    def still_for(self, coordinator_id: str, now: int) -> int:
        """How long the other one has not moved, as far as is known here."""
        seen = self._seen.get(coordinator_id)
        return 0 if seen is None else now - seen.since

    @property
    def owners(self) -> list[CoordinatorRow]:
        """Others that hold their ownership lease, or have not given it up."""
        return [row for row in self.others if row.state is OwnershipState.OWNER]

    # --- following

    def claimable_at(self) -> int:
        """When every other owner's lease has run out, if none moves any more, and another one that is appointed has had
        the time to claim; 0: there is none."""
        owners = (self._seen[row.coordinator_id] for row in self.owners)
        appointed = (each.appointed_since + APPOINTED_FOR for each in self._seen.values() if each.row.appointed)
        return max(*(each.since + _waited_for(each.row.lease) for each in owners), *appointed, 0, 0)

    def may_claim(self, now: int) -> bool:
        """Whether to try. It holds if the owners are still as `owners` has them when it is decided."""
        return not self.epoch and now >= self.claimable_at()

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
        self.epoch = epoch
        self.renewed(asked_at, alone=alone)

    def renewed(self, asked_at: int, *, alone: bool) -> None:
        """The renewal that was asked for at `asked_at` is confirmed, and so is whether others are there."""
        self._counts_from = max(self._counts_from, asked_at)
        self.alone = alone

    def ended(self) -> None:
        """It owns nothing any more, for whatever reason. What it saw of others it has to see again."""
        self.epoch = 0
        self.alone = False
        self._seen.clear()

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
        return _Seen(row, now, now)
    since = known.since if known.row.mark == row.mark else now
    return _Seen(row, since, known.appointed_since if known.row.appointed else now)


def _waited_for(lease: int) -> int:
    return int(lease * (1 + 2 * DRIFT))
