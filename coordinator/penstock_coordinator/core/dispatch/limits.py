"""Limits on concurrency: who holds a key, who waits for it, and who comes next.

Pure: the caller carries the answers to the runs. A key's limit is that of whoever asked last; who holds a place keeps
it when the limit falls.

Runs and steps have keys of their own. A run holds its places (it may need several: that of its pipeline's
`max_active_runs`, and that of its concurrency) from its admission until it is at rest. A step run holds one from its
lease until it does not run any more; while it waits for an agent it holds none, so that those who could run at once do
not wait for one that cannot.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import NamedTuple

from penstock_coordinator.core.plan.model import Policy


class Claim(NamedTuple):
    """What is asked for: a place under the key, whose limit is then this one."""

    key: str
    limit: int
    policy: Policy = Policy.QUEUE


class Rank(NamedTuple):
    """Who comes first: the higher priority, then the earlier start."""

    negative_priority: int
    at: int
    arrival: int


# --- runs


class Verdict(NamedTuple):
    """What becomes of a run that asks for its places. Admitted if neither is there."""

    held: Claim | None = None
    """It waits; this is one of the claims that it waits for."""
    refused: Claim | None = None
    """There is no place under this claim, and its policy is to cancel the newest."""


@dataclass(slots=True, eq=False)
class _RunEntry:
    run: bytes
    claims: tuple[Claim, ...]
    rank: Rank
    admitted: bool = False
    leaving: bool = False
    """It is being cancelled: its places will be free."""


@dataclass(slots=True, eq=False)
class _RunKey:
    limit: int
    claimants: dict[bytes, _RunEntry] = field(default_factory=dict)
    """All that hold or want it, in the order in which they came."""
    holders: int = 0
    waiting: list[tuple[Rank, bytes]] = field(default_factory=list)
    """A heap; who left is passed over. A run that lacks several keys waits under one of them, which is full."""

    @property
    def full(self) -> bool:
        return self.holders >= self.limit


class RunLimits:
    """Whenever a call returns, no run waits that could be admitted: those that can now are in `admitted`, which the
    caller empties."""

    def __init__(self) -> None:
        self.admitted: list[bytes] = []
        self._keys: dict[str, _RunKey] = {}
        self._runs: dict[bytes, _RunEntry] = {}
        self._arrivals = 0

    def ask(self, run: bytes, claims: tuple[Claim, ...], priority: int, at: int) -> Verdict:
        """A new run wants its places: all of them at once, or it waits. A refused one is not remembered."""
        self._set_limits(claims)
        lacking = [claim for claim in claims if self._keys[claim.key].full]
        for claim in lacking:
            if claim.policy is Policy.CANCEL_NEWEST:
                self._forget_idle(claims)
                return Verdict(refused=claim)
        entry = self._enter(run, claims, priority, at)
        if not lacking:
            self._admit(entry)
            return Verdict()
        self._wait(entry, lacking[0].key)
        return Verdict(held=lacking[0])

    def restore(self, run: bytes, claims: tuple[Claim, ...], priority: int, at: int, held: bool, leaving: bool) -> None:
        """After a recovery, in the order of starts: what the journal says of a run. `settle` when all are there."""
        for claim in claims:
            self._keys.setdefault(claim.key, _RunKey(claim.limit)).limit = claim.limit
        entry = self._enter(run, claims, priority, at)
        entry.leaving = leaving
        if held:
            self._wait(entry, claims[0].key)
        else:
            self._admit(entry)

    def settle(self) -> None:
        """Admit whom there is a place for."""
        for key in list(self._keys.values()):
            self._promote(key)

    def knows(self, run: bytes) -> bool:
        """Whether it asked for places and has not left."""
        return run in self._runs

    def leave(self, run: bytes) -> None:
        """The run is at rest, or never came to be."""
        entry = self._runs.pop(run, None)
        if entry is None:
            return
        keys = [self._keys[claim.key] for claim in entry.claims]
        for key in keys:
            del key.claimants[run]
            key.holders -= entry.admitted
        for key in keys:
            self._promote(key)
        self._forget_idle(entry.claims)

    def going(self, run: bytes) -> None:
        """The run is being cancelled."""
        entry = self._runs.get(run)
        if entry is not None:
            entry.leaving = True

    def overdue(self, run: bytes) -> list[bytes]:
        """The runs that are to be cancelled for this one, oldest first, if its policy is to cancel the oldest. They
        count as leaving from now on."""
        entry = self._runs.get(run)
        if entry is None:
            return []
        found: list[bytes] = []
        for claim in entry.claims:
            if claim.policy is Policy.CANCEL_OLDEST:
                found += self._oldest(entry, self._keys[claim.key])
        return found

    @staticmethod
    def _oldest(entry: _RunEntry, key: _RunKey) -> list[bytes]:
        """Of those before the run so many that it fits in with the others."""
        before: list[_RunEntry] = []
        for each in key.claimants.values():
            if each is entry:
                break
            if not each.leaving:
                before.append(each)
        going = before[: max(len(before) + 1 - key.limit, 0)]
        for each in going:
            each.leaving = True
        return [each.run for each in going]

    # --- what a reader asks

    def lacks(self, run: bytes) -> Claim | None:
        """The claim that a run which waits is held by."""
        entry = self._runs.get(run)
        if entry is None or entry.admitted:
            return None
        return next((claim for claim in entry.claims if self._keys[claim.key].full), entry.claims[0])

    def limit(self, key: str) -> int:
        found = self._keys.get(key)
        return 0 if found is None else found.limit

    def holders(self, key: str) -> list[bytes]:
        """In the order of their starts."""
        found = self._keys.get(key)
        return [] if found is None else [each.run for each in found.claimants.values() if each.admitted]

    def ahead(self, run: bytes, key: str) -> int:
        """How many wait for the key and come before the run."""
        entry, found = self._runs.get(run), self._keys.get(key)
        if entry is None or found is None:
            return 0
        return sum(1 for each in found.claimants.values() if not each.admitted and each.rank < entry.rank)

    # --- inside

    def _set_limits(self, claims: tuple[Claim, ...]) -> None:
        for claim in claims:
            key = self._keys.setdefault(claim.key, _RunKey(claim.limit))
            key.limit = claim.limit
            self._promote(key)

    def _enter(self, run: bytes, claims: tuple[Claim, ...], priority: int, at: int) -> _RunEntry:
        self._arrivals += 1
        entry = self._runs[run] = _RunEntry(run, claims, Rank(-priority, at, self._arrivals))
        for claim in claims:
            self._keys[claim.key].claimants[run] = entry
        return entry

    def _admit(self, entry: _RunEntry) -> None:
        entry.admitted = True
        for claim in entry.claims:
            self._keys[claim.key].holders += 1

    def _wait(self, entry: _RunEntry, key: str) -> None:
        heapq.heappush(self._keys[key].waiting, (entry.rank, entry.run))

    def _promote(self, key: _RunKey) -> None:
        while key.waiting and not key.full:
            _, run = heapq.heappop(key.waiting)
            entry = self._runs.get(run)
            if entry is None or entry.admitted:
                continue
            lacking = next((claim.key for claim in entry.claims if self._keys[claim.key].full), None)
            if lacking is not None:
                self._wait(entry, lacking)
            else:
                self._admit(entry)
                self.admitted.append(run)

    def _forget_idle(self, claims: tuple[Claim, ...]) -> None:
        for claim in claims:
            found = self._keys.get(claim.key)
            if found is not None and not found.claimants:
                del self._keys[claim.key]


# --- steps


class Hold(NamedTuple):
    """A step run that holds a place."""

    run: bytes
    step: int
    item: int


class Claimant(NamedTuple):
    """The ready step runs of one run at one position of its plan's lines: they have the same key."""

    run: bytes
    position: int


@dataclass(slots=True, eq=False)
class _Waiting:
    claimant: Claimant
    claim: Claim
    rank: Rank
    wanted: int
    promised: int = 0
    """Places that are kept for it until its turn."""
    lined: bool = False
    """It had its turn while there were places, and waits for agents."""
    queued: bool = False
    """It is in the key's order."""


@dataclass(slots=True, eq=False)
class _StepKey:
    limit: int
    holds: dict[Hold, bool] = field(default_factory=dict)
    """In the order in which they were taken; whether it is displaced."""
    waiting: dict[Claimant, _Waiting] = field(default_factory=dict)
    order: list[tuple[Rank, Claimant]] = field(default_factory=list)
    """A heap of those that wait for a place; who left, or waits for agents, is passed over."""
    impatient: dict[Claimant, None] = field(default_factory=dict)
    """Those that wait for agents, and would not wait for a place."""
    promised: int = 0

    @property
    def free(self) -> int:
        return self.limit - len(self.holds) - self.promised


class StepLimits:
    """A place that becomes free is kept for whoever waits and comes first until that run had its turn (`called`). If
    it then finds no agent, the place is for anybody."""

    def __init__(self) -> None:
        self.called: list[bytes] = []
        """Runs that are to have a turn; the caller empties it."""
        self._keys: dict[str, _StepKey] = {}
        self._claims: dict[bytes, dict[Claimant, str]] = {}
        """Of each run the claimants that wait, and their keys."""
        self._held: dict[bytes, dict[Hold, str]] = {}
        """Of each run the places that it holds, and their keys."""
        self._arrivals = 0

    def open(self, claimant: Claimant, claim: Claim) -> int:
        """How many places the claimant may take now."""
        key = self._keys.setdefault(claim.key, _StepKey(claim.limit))
        key.limit = claim.limit
        waiting = key.waiting.get(claimant)
        return max(key.free + (waiting.promised if waiting is not None else 0), 0)

    def take(self, key: str, claimant: Claimant, hold: Hold) -> None:
        """The step run has a lease."""
        found = self._keys[key]
        found.holds.setdefault(hold, False)
        self._held.setdefault(hold.run, {})[hold] = key
        waiting = found.waiting.get(claimant)
        if waiting is not None and waiting.promised:
            waiting.promised -= 1
            found.promised -= 1
        if found.free <= 0:
            self.called += [claimant.run for claimant in found.impatient]
            found.impatient.clear()

    def hold(self, claim: Claim, hold: Hold, displaced: bool) -> None:
        """After a recovery, in the order of leases: what the journal says."""
        key = self._keys.setdefault(claim.key, _StepKey(claim.limit))
        key.limit = claim.limit
        key.holds[hold] = displaced
        self._held.setdefault(hold.run, {})[hold] = claim.key

    def held(self, run: bytes) -> dict[Hold, str]:
        """What the run's step runs hold, with the keys."""
        return dict(self._held.get(run, {}))

    def release(self, key: str, hold: Hold) -> None:
        """The step run does not run any more."""
        found = self._keys.get(key)
        if found is None or found.holds.pop(hold, None) is None:
            return
        held = self._held[hold.run]
        del held[hold]
        if not held:
            del self._held[hold.run]
        self._promise(key, found)

    def wait(self, claimant: Claimant, claim: Claim, wanted: int, priority: int, at: int) -> int:
        """The end of a claimant's turn: so many step runs are still READY. Answers how many of them there are places
        for, if agents had room. What was kept for the claimant is for others now."""
        key = self._keys.setdefault(claim.key, _StepKey(claim.limit))
        waiting = key.waiting.get(claimant)
        if waiting is not None:
            key.promised -= waiting.promised
            waiting.promised = 0
        if not wanted:
            self._forget(claimant, claim.key)
            self._promise(claim.key, key)
            return 0
        if waiting is None:
            self._arrivals += 1
            waiting = key.waiting[claimant] = _Waiting(claimant, claim, Rank(-priority, at, self._arrivals), wanted)
            self._claims.setdefault(claimant.run, {})[claimant] = claim.key
        waiting.wanted, waiting.claim = wanted, claim
        # Who waits for agents already goes on to, though the place is kept for another one at this moment: that one has
        # its turn now. Else those who find no agent would pass the place around for ever.
        places = key.limit - len(key.holds) if waiting.lined else key.free
        declared = max(min(wanted, places), 0)
        self._file(key, waiting, declared > 0)
        self._promise(claim.key, key)
        return declared

    def overdue(self, key: str) -> list[Hold]:
        """The step runs that are to be displaced for those that wait, oldest first. They count as displaced now."""
        found = self._keys.get(key)
        if found is None:
            return []
        wanted = sum(
            waiting.wanted
            for waiting in found.waiting.values()
            if waiting.claim.policy is Policy.CANCEL_OLDEST and not waiting.lined
        )
        going = sum(found.holds.values())
        going_on = [hold for hold, displaced in found.holds.items() if not displaced]
        displaced = going_on[: max(min(wanted, found.limit) - max(found.free, 0) - going, 0)]
        for hold in displaced:
            found.holds[hold] = True
        return displaced

    def leave(self, run: bytes, holds: bool) -> None:
        """The run waits for nothing any more; with `holds` its places are free too."""
        for claimant, key in list(self._claims.get(run, {}).items()):
            found = self._keys[key]
            found.promised -= found.waiting[claimant].promised
            self._forget(claimant, key)
            self._promise(key, found)
        if holds:
            for hold, key in list(self._held.get(run, {}).items()):
                self.release(key, hold)

    # --- what a reader asks

    def limit(self, key: str) -> int:
        found = self._keys.get(key)
        return 0 if found is None else found.limit

    def holders(self, key: str) -> list[Hold]:
        """In the order of their leases."""
        found = self._keys.get(key)
        return [] if found is None else list(found.holds)

    def blocked(self, claimant: Claimant, key: str) -> bool:
        """Whether it waits for the key, and not for agents alone."""
        found = self._keys.get(key)
        waiting = None if found is None else found.waiting.get(claimant)
        return found is not None and waiting is not None and found.free + waiting.promised <= 0

    def ahead(self, claimant: Claimant, key: str) -> int:
        """How many step runs wait for the key and come before those of the claimant."""
        found = self._keys.get(key)
        waiting = None if found is None else found.waiting.get(claimant)
        if found is None or waiting is None:
            return 0
        return sum(each.wanted for each in found.waiting.values() if each.rank < waiting.rank)

    # --- inside

    @staticmethod
    def _file(key: _StepKey, waiting: _Waiting, lined: bool) -> None:
        """It waits for agents (`lined`), or for a place."""
        waiting.lined = lined
        key.impatient.pop(waiting.claimant, None)
        if lined:
            if waiting.claim.policy is not Policy.QUEUE:
                key.impatient[waiting.claimant] = None
        elif not waiting.queued:
            waiting.queued = True
            heapq.heappush(key.order, (waiting.rank, waiting.claimant))

    def _promise(self, name: str, key: _StepKey) -> None:
        """Keep free places for those who wait, in their order, and call them."""
        while key.order and key.free > 0:
            rank, claimant = heapq.heappop(key.order)
            waiting = key.waiting.get(claimant)
            if waiting is None or waiting.rank != rank:
                continue
            waiting.queued = False
            if not waiting.lined:
                count = min(key.free, waiting.wanted - waiting.promised)
                waiting.promised += count
                key.promised += count
                self.called.append(claimant.run)
                # Its turn files it again.
                waiting.lined = waiting.promised >= waiting.wanted
                if not waiting.lined:
                    self._file(key, waiting, False)
        if not key.holds and not key.waiting:
            self._keys.pop(name, None)

    def _forget(self, claimant: Claimant, key: str) -> None:
        found = self._keys[key]
        found.waiting.pop(claimant, None)
        found.impatient.pop(claimant, None)
        claims = self._claims.get(claimant.run)
        if claims is not None and claims.pop(claimant, None) is not None and not claims:
            del self._claims[claimant.run]
