"""Which leases there are: by step run for those that count, by handle for all that are not over."""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock_agent.core.leases import Ending, Grant, Handle, Held, Lease, LeaseKey, Phase, Restored, Result

MOST_GIVEN_UP = 500
WEIGHT = 0.05
"""Of the newest acknowledgement in the running mean of what they take."""
MOST_PATIENCE = 5
"""Times `spool_after`: longer no result is in memory alone, however long acknowledgements take."""
TOGETHER = 5
"""A fifth of `spool_after`: results that are due for the spool within it go there together."""


class GivenUp:
    """Leases whose attempts may have begun, and that are over here without a result: those that were handed back after
    their start, and those that somebody else got. That the coordinator has read of it is no sign that it is stored, so
    they are named in each Hello, and what a Hello names nowhere has surely never begun.

    Of each step run the newest: the grant of a newer one says that the journal knows of the end of the older ones.
    """

    def __init__(self) -> None:
        self._tokens: dict[LeaseKey, int] = {}
        self.complete = True
        """Nothing was left out. Of a process that has given up very many it is not known any more."""

    def add(self, lease: Lease) -> None:
        self._tokens[lease.key] = lease.token
        if len(self._tokens) > MOST_GIVEN_UP:
            self.complete = False
            self._tokens.clear()

    def remove(self, key: LeaseKey) -> None:
        self._tokens.pop(key, None)

    def named(self) -> list[tuple[LeaseKey, int]]:
        return list(self._tokens.items())


@dataclass(slots=True)
class Unacked:
    """Results that wait for their acknowledgement, in the order that they came. What waits longer than others do goes
    to the spool: with many results at once each waits for the commit of those before it, and to put all of them to disk
    would only make them wait longer."""

    spool_after: int
    leases: dict[Handle, Lease] = field(default_factory=dict)
    spool_at: int | None = None
    """When the next one may be due for the spool."""
    _in_memory: dict[Handle, Lease] = field(default_factory=dict)
    """Those that are not in the spool."""
    _usual: float = 0.0
    """What an acknowledgement takes, µs: the running mean."""

    def add(self, now: int, lease: Lease) -> None:
        self.leases[lease.handle] = self._in_memory[lease.handle] = lease
        self.spool_at = sooner(self.spool_at, now + self.patience + self.spool_after // TOGETHER)

    def restore(self, lease: Lease) -> None:
        """Its result is in the spool already."""
        self.leases[lease.handle] = lease

    @property
    def patience(self) -> int:
        """µs that a result may be in memory alone: twice what is usual, from `spool_after` to MOST_PATIENCE times
        that."""
        return int(min(max(2 * self._usual, self.spool_after), MOST_PATIENCE * self.spool_after))

    def acknowledged(self, now: int, result: Result) -> None:
        took = min(now - result.ended_at, MOST_PATIENCE * self.spool_after)
        self._usual += WEIGHT * (took - self._usual)

    def remove(self, lease: Lease) -> None:
        self.leases.pop(lease.handle, None)
        self._in_memory.pop(lease.handle, None)

    def spool(self, leases: list[Lease]) -> None:
        """They are in the spool from now on."""
        for lease in leases:
            result_of(lease).spooled = True
            self._in_memory.pop(lease.handle, None)

    def unspooled(self, link: int) -> list[Lease]:
        return [lease for lease in self._in_memory.values() if lease.link == link]

    def due_for_spool(self, now: int) -> list[Lease]:
        due: list[Lease] = []
        self.spool_at = None
        patience = self.patience
        for lease in self._in_memory.values():
            at = result_of(lease).ended_at + patience
            if at > now:
                # Those behind it came later.
                self.spool_at = at + self.spool_after // TOGETHER
                break
            due.append(lease)
        return due

    def due_again(self, now: int, interval: int, link: int) -> tuple[list[Lease], int | None]:
        """Those of the link that were sent so long ago, and when the next one may be."""
        due: list[Lease] = []
        next_at: int | None = None
        for lease in self.leases.values():
            if lease.link != link:
                continue
            sent_at = result_of(lease).sent_at
            at = now if sent_at is None else sent_at + interval
            if at <= now:
                due.append(lease)
            else:
                next_at = sooner(next_at, at)
        return due, next_at


class LeaseBook:
    """At most one lease per step run counts: the one with the newest token."""

    def __init__(self, spool_after: int) -> None:
        self.held: dict[LeaseKey, Lease] = {}
        self.all: dict[Handle, Lease] = {}
        """With attempts that nobody wants to hear of any more, until they are dead."""
        self.running: dict[Handle, Lease] = {}
        self.unacked = Unacked(spool_after)
        self.given_up = GivenUp()
        self._successors: dict[Handle, Lease] = {}
        self._dying: dict[LeaseKey, Lease] = {}
        """Attempts that nobody wants to hear of any more: of each step run one at most."""
        self._last_handle = 0

    def find(self, key: LeaseKey, token: int) -> Lease | None:
        lease = self.held.get(key)
        return lease if lease is not None and lease.token == token else None

    def holds(self, lease: Lease) -> bool:
        return self.held.get(lease.key) is lease

    @property
    def unfinished(self) -> int:
        """Leases without a result, with attempts that are still being killed."""
        return len(self.all) - len(self.unacked.leases)

    def enter(self, now: int, grant: Grant, deadline: int, link: int) -> Lease:
        self._last_handle += 1
        self.given_up.remove(grant.key)
        lease = Lease(
            handle=self._last_handle,
            key=grant.key,
            token=grant.token,
            attempt=grant.attempt,
            deadline=deadline,
            timeout=grant.timeout,
            stop_grace=grant.stop_grace,
            work=grant.work,
            arrived_at=now,
            link=link,
        )
        self.held[lease.key] = lease
        self.all[lease.handle] = lease
        return lease

    def restore(self, restored: Restored) -> None:
        """A result of an earlier process. Of several for one step run the newest token counts."""
        old = self.held.get(restored.key)
        if old is not None and old.token >= restored.token:
            return
        if old is not None:
            self.forget(old)
        self._last_handle += 1
        lease = Lease(self._last_handle, restored.key, restored.token, restored.attempt, 0, None, 0, None)
        lease.phase = Phase.FINISHED
        lease.result = Result(
            restored.result_id, restored.status, restored.ended_at, restored.body, sent_at=None, spooled=True
        )
        self.held[lease.key] = self.all[lease.handle] = lease
        self.unacked.restore(lease)

    def start(self, now: int, lease: Lease) -> None:
        lease.phase = Phase.RUNNING
        lease.started_at = now
        self.running[lease.handle] = lease

    def finish(self, now: int, lease: Lease, result: Result) -> None:
        lease.phase = Phase.FINISHED
        lease.result = result
        self.running.pop(lease.handle, None)
        self.unacked.add(now, lease)

    def wait_for_death(self, new: Lease) -> None:
        """`new` must not start before an older attempt of the step run is dead, also if that was given up before."""
        old = self._dying.get(new.key)
        if old is not None:
            new.waits_for = old.handle
            self._successors[old.handle] = new

    def successor(self, handle: Handle) -> Lease | None:
        """The lease that waited for the death of this attempt, if it counts still."""
        lease = self._successors.pop(handle, None)
        return lease if lease is not None and self.holds(lease) else None

    def disown(self, lease: Lease) -> None:
        """It is to die, and nobody wants to hear of it. It may have begun."""
        lease.ending = Ending.ABANDONED
        self.given_up.add(lease)
        self._dying[lease.key] = lease
        del self.held[lease.key]

    def forget(self, lease: Lease) -> Result | None:
        """Its result, if that is in the spool."""
        if self.holds(lease):
            del self.held[lease.key]
        elif self._dying.get(lease.key) is lease:
            del self._dying[lease.key]
        self.all.pop(lease.handle, None)
        self.running.pop(lease.handle, None)
        self.unacked.remove(lease)
        return lease.result if lease.result is not None and lease.result.spooled else None

    def snapshot(self, now: int) -> list[Held]:
        """All that is held, but for grants whose acceptance is not written: those may still be forgotten."""
        return [held_at(lease, now) for lease in self.held.values() if lease.phase is not Phase.GRANTED]


def result_of(lease: Lease) -> Result:
    assert lease.result is not None
    return lease.result


def sooner(bound: int | None, other: int) -> int:
    return other if bound is None or other < bound else bound


def soonest(*bounds: int | None) -> int | None:
    """The first of the instants that there are. Asked after all that happens, so without a generator."""
    found: int | None = None
    for bound in bounds:
        if bound is not None and (found is None or bound < found):
            found = bound
    return found


def due(bound: int | None, now: int) -> bool:
    return bound is not None and bound <= now


def held_at(lease: Lease, now: int, session: int = 0) -> Held:
    elapsed = now - lease.started_at if lease.started_at else 0
    return Held(lease.key, lease.token, lease.phase, lease.attempt, elapsed, session)
