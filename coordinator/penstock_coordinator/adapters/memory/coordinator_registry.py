"""Port `CoordinatorRegistry` in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from penstock_coordinator.adapters.memory.database import FIRST_STATE_AT_REST
from penstock_coordinator.adapters.memory.reaching import reached
from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState
from penstock_coordinator.ports.coordinators import CLAIMED_AT_ONCE, Claim

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from penstock_coordinator.adapters.memory.database import MemoryDatabase
    from penstock_coordinator.ports.common import RunId

_OWN = (OwnershipState.OWNER, OwnershipState.MEMBER)
_GONE = CoordinatorRow("", OwnershipState.GONE, 0, 0, 0, "", "", 0)


class MemoryCoordinatorRegistry:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self._rows = database.coordinators

    async def register(self, coordinator: CoordinatorRow) -> None:
        await reached(self._database)
        before = self._rows.get(coordinator.coordinator_id, _GONE)
        if before.state in _OWN and before.epoch > coordinator.epoch:
            return
        self._rows[coordinator.coordinator_id] = replace(
            coordinator, state=OwnershipState.FOLLOWER, epoch=before.epoch, renewals=before.renewals + 1, head_epoch=0
        )

    async def look(self) -> list[CoordinatorRow]:
        await reached(self._database)
        return [row for _, row in sorted(self._rows.items()) if row.state is not OwnershipState.GONE]

    async def renew(self, coordinator_id: str, epoch: int) -> bool:
        await reached(self._database)
        row = self._rows.get(coordinator_id)
        if row is None or not _is(row, epoch):
            return False
        self._rows[coordinator_id] = replace(row, renewals=row.renewals + 1)
        return True

    async def claim(self, coordinator_id: str, lanes: int, owners: Sequence[CoordinatorRow]) -> Claim | None:
        await reached(self._database)
        own = self._rows.get(coordinator_id, _GONE)
        expected = {row.coordinator_id: row.mark for row in owners}
        found = {name: row.mark for name, row in self._rows.items() if row.state in _OWN}
        if own.state is not OwnershipState.FOLLOWER or found != expected:
            return None
        epoch = self._next_epoch()
        self._raise_fences(coordinator_id, lanes, epoch)
        for name in found:
            former = self._rows[name]
            self._rows[name] = replace(former, state=OwnershipState.GONE, renewals=former.renewals + 1)
        own = replace(own, state=OwnershipState.OWNER, epoch=epoch, head_epoch=epoch, renewals=own.renewals + 1)
        self._rows[coordinator_id] = own
        self._rows.update({name: replace(row, appointed=False) for name, row in self._rows.items()})
        waiting = [row for row in self._rows.values() if row.state is OwnershipState.FOLLOWER]
        members = [row for row in found.values() if row[0] is OwnershipState.MEMBER]
        return Claim(epoch, alone=not waiting and not members)

    def _raise_fences(self, coordinator_id: str, lanes: int, epoch: int) -> None:
        fences = self._database.fences
        self._raise_fences_of(self._rows, epoch)
        fences.update({(coordinator_id, lane): epoch for lane in range(lanes)})

    def _raise_fences_of(self, names: Collection[str], epoch: int) -> None:
        fences = self._database.fences
        fences.update({(owner, lane): epoch for owner, lane in fences if owner in names})

    def _next_epoch(self) -> int:
        self._database.last_epoch += 1
        return self._database.last_epoch

    async def join(self, coordinator_id: str, lanes: int, head: CoordinatorRow) -> int | None:
        await reached(self._database)
        own = self._rows.get(coordinator_id, _GONE)
        if not self._leads(head.coordinator_id, head.epoch) or own.state is not OwnershipState.FOLLOWER:
            return None
        if self._live_runs_of({coordinator_id}):
            return None
        epoch = self._next_epoch()
        self._raise_fences_of([coordinator_id], epoch)
        self._database.fences.update({(coordinator_id, lane): epoch for lane in range(lanes)})
        member = replace(own, state=OwnershipState.MEMBER, epoch=epoch, head_epoch=head.epoch, appointed=False)
        self._rows[coordinator_id] = replace(member, renewals=own.renewals + 1)
        return epoch

    async def bury(self, head_id: str, epoch: int, member: CoordinatorRow) -> bool:
        await reached(self._database)
        found = self._rows.get(member.coordinator_id, _GONE)
        if not self._leads(head_id, epoch) or found.mark != member.mark:
            return False
        if found.state is not OwnershipState.MEMBER or found.head_epoch != epoch:
            return False
        self._raise_fences_of([member.coordinator_id], self._next_epoch())
        self._rows[member.coordinator_id] = replace(found, state=OwnershipState.GONE, renewals=found.renewals + 1)
        return True

    def _leads(self, name: str, epoch: int) -> bool:
        row = self._rows.get(name, _GONE)
        return row.takes_members and row.epoch == epoch

    async def claim_runs(self, coordinator_id: str, epoch: int) -> list[RunId]:
        await reached(self._database)
        if self._database.fences.get((coordinator_id, 0)) != epoch:
            return []
        gone = {name for name, row in self._rows.items() if row.state not in _OWN}
        runs, live = self._database.runs, self._live_runs_of(gone)
        if live:
            self._raise_fences_of({runs[run_id].owner for run_id in live}, self._next_epoch())
        for run_id in live[:CLAIMED_AT_ONCE]:
            runs[run_id] = replace(runs[run_id], owner=coordinator_id)
        return live[:CLAIMED_AT_ONCE]

    def _live_runs_of(self, owners: Collection[str]) -> list[RunId]:
        runs = self._database.runs.items()
        return [run_id for run_id, run in runs if run.state < FIRST_STATE_AT_REST and run.owner in owners]

    async def adopt(self, coordinator_id: str) -> bool:
        await reached(self._database)
        if any(owner == coordinator_id for owner, _ in self._database.fences):
            self._rows.setdefault(coordinator_id, replace(_GONE, coordinator_id=coordinator_id))
        return coordinator_id in self._rows

    async def strangers(self) -> dict[str, int]:
        await reached(self._database)
        live = (run.owner for run in self._database.runs.values() if run.state < FIRST_STATE_AT_REST)
        return dict(sorted(Counter(owner for owner in live if owner not in self._rows).items()))

    async def release(self, coordinator_id: str, epoch: int, successor: str = "") -> None:
        await reached(self._database)
        row = self._rows.get(coordinator_id)
        if row is None or not _is(row, epoch):
            return
        self._rows[coordinator_id] = replace(row, state=OwnershipState.GONE, renewals=row.renewals + 1)
        other = self._rows.get(successor, _GONE)
        if other.state is OwnershipState.FOLLOWER:
            self._rows[successor] = replace(other, appointed=True)

    async def forget(self, coordinator: CoordinatorRow) -> None:
        await reached(self._database)
        row = self._rows.get(coordinator.coordinator_id)
        if row is not None and row.state is OwnershipState.FOLLOWER and row.renewals == coordinator.renewals:
            self._rows[coordinator.coordinator_id] = replace(row, state=OwnershipState.GONE)

    async def hinted(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _is(row: CoordinatorRow, epoch: int) -> bool:
    """The head or member with that epoch, or one that waits."""
    if row.state in _OWN:
        return row.epoch == epoch
    return row.state is OwnershipState.FOLLOWER and not epoch
