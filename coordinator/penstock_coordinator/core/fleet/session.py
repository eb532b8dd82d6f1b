"""What a coordinator concludes from the words of one agent's session.

Pure: words and instants in, conclusions out. The shell decodes, carries conclusions to the runs and writes answers.
Instants are microseconds of a monotonic clock.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock_coordinator.core.fleet.leases import Holder, Lease, LeaseKey, LeaseTable, Lost

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FORGOTTEN_BEATS = 2
"""A lease that so many full heartbeats in a row should have named, and did not, is not held."""


class Verdict(enum.IntEnum):
    """The numbers are those of the proto."""

    CONTINUE = 1
    ABORT = 2
    SEND_RESULT = 3
    DROP_RESULT = 4


@dataclass(frozen=True, slots=True)
class Held:
    """A lease as the agent names it."""

    key: LeaseKey
    token: int
    finished: bool


@dataclass(frozen=True, slots=True)
class Reunion:
    """What a `Hello` settles."""

    verdicts: list[tuple[Held, Verdict]]
    continued: list[Lease]
    lost: list[Lost]


def reunite(leases: LeaseTable, holder: Holder, snapshot: Iterable[Held]) -> Reunion:
    """The agent is back with a new session, `holder`, and names what it holds.

    The snapshot is complete: what older sessions of the agent held and it does not name is certainly not running. It
    is lost by a crash if the agent's process is another one (then it may have run), else the grant never arrived.
    """
    older = [old for old in leases.holders_of(holder.agent) if old is not holder]
    verdicts: list[tuple[Held, Verdict]] = []
    continued: list[Lease] = []
    for held in snapshot:
        lease = leases.find(held.key)
        known = lease is not None and lease.token == held.token and lease.holder.agent == holder.agent
        if known:
            assert lease is not None
            leases.move(lease, holder)
            continued.append(lease)
        verdicts.append((held, _verdict(held, known=known)))
    lost: list[Lost] = []
    for old in older:
        for lease in list(old.leases.values()):
            leases.end(lease.key, lease.token)
            crashed = lease.accepted and old.boot_id != holder.boot_id
            lost.append(Lost(lease, "agent_restarted" if crashed else "grant_not_received", crashed))
        leases.remove_holder(old.session)
    return Reunion(verdicts, continued, lost)


def _verdict(held: Held, *, known: bool) -> Verdict:
    if known:
        return Verdict.SEND_RESULT if held.finished else Verdict.CONTINUE
    return Verdict.DROP_RESULT if held.finished else Verdict.ABORT


@dataclass(slots=True)
class Roll:
    """The leases that a session's heartbeats name; several parts make one heartbeat."""

    named: dict[LeaseKey, int]
    missed: dict[LeaseKey, int]

    @classmethod
    def empty(cls) -> Roll:
        return cls({}, {})

    def call(
        self, leases: LeaseTable, holder: Holder, part: Mapping[LeaseKey, int], *, complete: bool
    ) -> tuple[list[tuple[LeaseKey, int]], list[Lost]]:
        """A heartbeat's list of (key, token) came: (leases to revoke, leases that the agent does not hold).

        The list is that of all leases, also of those whose results wait for an acknowledgement."""
        revoked = [(key, token) for key, token in part.items() if not self._renew(leases, holder, key, token)]
        self.named.update(part)
        if not complete:
            return revoked, []
        lost = [
            Lost(lease, "not_held", lease.accepted)
            for lease in list(holder.leases.values())
            if self._misses(lease) >= FORGOTTEN_BEATS
        ]
        for loss in lost:
            leases.end(loss.lease.key, loss.lease.token)
        self.missed = {key: count for key, count in self.missed.items() if key in holder.leases}
        self.named = {}
        return revoked, lost

    @staticmethod
    def _renew(leases: LeaseTable, holder: Holder, key: LeaseKey, token: int) -> bool:
        lease = leases.find(key)
        if lease is None or lease.token != token or lease.holder is not holder:
            return False
        lease.accepted = True
        return True

    def _misses(self, lease: Lease) -> int:
        if lease.key in self.named or not lease.sent:
            self.missed.pop(lease.key, None)
            return 0
        count = self.missed[lease.key] = self.missed.get(lease.key, 0) + 1
        return count
