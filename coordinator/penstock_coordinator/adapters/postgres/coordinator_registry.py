"""Port `CoordinatorRegistry`: the ownership lease, in rows of its own beside the fences that enforce it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import asyncpg

from penstock_coordinator.adapters.postgres.connections import CONNECT_SECONDS, Database
from penstock_coordinator.adapters.postgres.notices import Notices
from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.adapters.postgres.text import storable
from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.ports.coordinators import CLAIMED_AT_ONCE, Claim

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_coordinator.adapters.postgres.connections import PooledConnection
    from penstock_coordinator.ports.common import RunId

_QUERIES = load("coordinators")
CHANNEL = "penstock_ownership"
CONNECTIONS = 2
LEAST_CONNECT_SECONDS = 1.0
"""A busy machine may need as much."""
_OWN = (OwnershipState.OWNER, OwnershipState.MEMBER)
_THERE_BESIDE_THE_HEAD = (OwnershipState.FOLLOWER, OwnershipState.MEMBER)


class PostgresCoordinatorRegistry:
    """On connections of its own: what keeps the others busy delays no renewal."""

    def __init__(self, database: Database, dsn: str, name: str, lock_seconds: float) -> None:
        """`lock_seconds`: so long a join or a burial waits for a last commit of who joins or is buried: meanwhile it
        holds the head's row, which the head's renewals need."""
        self._database = database
        self._lock_timeout = f"{max(int(lock_seconds * 1000), 1)}ms"
        self._hinted = asyncio.Event()
        self._notices = Notices(dsn, f"{name} hints", CHANNEL, self._hear)

    @classmethod
    async def open(cls, dsn: str, coordinator_id: str, answer_timeout: float) -> PostgresCoordinatorRegistry:
        """An answer that does not come within `answer_timeout` seconds is given up."""
        name = f"penstock {coordinator_id} ownership"
        # A connection that hangs since the database was away would keep one that follows from seeing that it is back.
        connect_seconds = min(max(answer_timeout, LEAST_CONNECT_SECONDS), CONNECT_SECONDS)
        database = await Database.open(dsn, name, CONNECTIONS, answer_timeout, connect_seconds)
        return cls(database, dsn, name, answer_timeout / 2)

    async def register(self, coordinator: CoordinatorRow) -> None:
        row = coordinator
        said = row.lease, row.address, row.http_address, row.began
        arguments = row.coordinator_id, *said, row.epoch, row.secrets_key
        await self._database.fetch(_QUERIES["register"], *arguments)
        if row.epoch:
            await self._hint(row.coordinator_id)

    async def look(self) -> list[CoordinatorRow]:
        return [_row(record) for record in await self._database.fetch(_QUERIES["look"])]

    async def renew(self, coordinator_id: str, epoch: int) -> bool:
        return bool(await self._database.fetch(_QUERIES["renew"], coordinator_id, epoch))

    async def claim(self, coordinator_id: str, lanes: int, owners: Sequence[CoordinatorRow]) -> Claim | None:
        async with self._database.transaction() as connection:
            await connection.execute(_QUERIES["one_at_a_time"])
            rows = await connection.fetch(_QUERIES["lock_all"])
            states = {row["coordinator_id"]: row["state"] for row in rows}
            expected = {row.coordinator_id: row.mark for row in owners}
            found = {row["coordinator_id"]: _mark(row) for row in rows if row["state"] in _OWN}
            if states.get(coordinator_id) != OwnershipState.FOLLOWER or found != expected:
                return None
            await connection.fetch(_QUERIES["lock_fences"])
            epoch: int = await connection.fetchval(_QUERIES["next_epoch"])
            await connection.execute(_QUERIES["raise_fences"], epoch)
            await connection.execute(_QUERIES["add_fences"], coordinator_id, epoch, lanes)
            await connection.execute(_QUERIES["former_are_gone"], coordinator_id)
            await connection.execute(_QUERIES["own"], coordinator_id, epoch)
        there = [name for name, state in states.items() if state in _THERE_BESIDE_THE_HEAD]
        return Claim(epoch, alone=there == [coordinator_id])

    async def join(self, coordinator_id: str, lanes: int, head: CoordinatorRow) -> int | None:
        try:
            return await self._join(coordinator_id, lanes, head)
        except Unavailable as error:
            if _had_no_lock(error):
                return None
            raise

    async def _join(self, coordinator_id: str, lanes: int, head: CoordinatorRow) -> int | None:
        async with self._database.transaction() as connection:
            rows = await self._lock_pair(connection, coordinator_id, head.coordinator_id)
            own, other = rows.get(coordinator_id), rows.get(head.coordinator_id)
            if not _leads(other, head.epoch) or own is None or own["state"] != OwnershipState.FOLLOWER:
                return None
            await connection.fetch(_QUERIES["lock_fences_of"], [coordinator_id])
            if await connection.fetchval(_QUERIES["has_live_runs"], coordinator_id):
                return None
            epoch = await self._raise_fences_of(connection, [coordinator_id])
            await connection.execute(_QUERIES["add_fences"], coordinator_id, epoch, lanes)
            await connection.execute(_QUERIES["join"], coordinator_id, epoch, head.epoch)
            await connection.execute(_QUERIES["hint"], coordinator_id)
        return epoch

    async def bury(self, head_id: str, epoch: int, member: CoordinatorRow) -> bool:
        try:
            return await self._bury(head_id, epoch, member)
        except Unavailable as error:
            if _had_no_lock(error):
                return False
            raise

    async def _bury(self, head_id: str, epoch: int, member: CoordinatorRow) -> bool:
        async with self._database.transaction() as connection:
            rows = await self._lock_pair(connection, head_id, member.coordinator_id)
            head, found = rows.get(head_id), rows.get(member.coordinator_id)
            if not _leads(head, epoch) or found is None or _mark(found) != member.mark:
                return False
            if found["state"] != OwnershipState.MEMBER or found["head_epoch"] != epoch:
                return False
            await self._raise_fences_of(connection, [member.coordinator_id])
            await connection.execute(_QUERIES["bury"], member.coordinator_id)
            await connection.execute(_QUERIES["hint"], member.coordinator_id)
        return True

    async def _lock_pair(self, connection: PooledConnection, *names: str) -> dict[str, asyncpg.Record]:
        """After every claim, join and burial that is under way."""
        await connection.execute(_QUERIES["wait_shortly"], self._lock_timeout)
        await connection.execute(_QUERIES["one_at_a_time"])
        return {row["coordinator_id"]: row for row in await connection.fetch(_QUERIES["lock_some"], names)}

    async def _raise_fences_of(self, connection: PooledConnection, names: Sequence[str]) -> int:
        """Nothing of theirs is appended from here on: what is under way is waited for. The epoch that they are at."""
        await connection.fetch(_QUERIES["lock_fences_of"], names)
        epoch: int = await connection.fetchval(_QUERIES["next_epoch"])
        await connection.execute(_QUERIES["raise_fences_of"], names, epoch)
        return epoch

    async def claim_runs(self, coordinator_id: str, epoch: int) -> list[RunId]:
        found = await self._database.fetch(_QUERIES["leavers"])
        if not found:
            return []
        async with self._database.transaction() as connection:
            held = await connection.fetch(_QUERIES["hold_gone"], [row["coordinator_id"] for row in found])
            gone = [row["coordinator_id"] for row in held]
            if not gone:
                return []
            await self._raise_fences_of(connection, gone)
            claimed = await connection.fetch(_QUERIES["claim_runs"], coordinator_id, epoch, CLAIMED_AT_ONCE, gone)
        return [row["run_id"] for row in claimed]

    async def adopt(self, coordinator_id: str) -> bool:
        if not storable(coordinator_id):
            return False
        await self._database.fetch(_QUERIES["adopt"], coordinator_id)
        return bool(await self._database.fetch_value(_QUERIES["is_known"], coordinator_id))

    async def strangers(self) -> dict[str, int]:
        return {row["owner"]: row["count"] for row in await self._database.fetch(_QUERIES["strangers"])}

    async def release(self, coordinator_id: str, epoch: int, successor: str = "") -> None:
        async with self._database.transaction() as connection:
            if successor:
                # By id, as all do who lock two: the statement would lock its own first.
                await connection.fetch(_QUERIES["lock_some"], [coordinator_id, successor])
            await connection.execute(_QUERIES["release"], coordinator_id, epoch, successor)
            await connection.execute(_QUERIES["hint"], coordinator_id)

    async def forget(self, coordinator: CoordinatorRow) -> None:
        await self._database.fetch(_QUERIES["forget"], coordinator.coordinator_id, coordinator.renewals)

    def try_now(self) -> None:
        """The database was seen to answer."""
        self._database.try_now()

    # --- hints

    async def _hint(self, coordinator_id: str) -> None:
        await self._database.fetch(_QUERIES["hint"], coordinator_id)

    async def hinted(self, seconds: float) -> None:
        """Returns when somebody has joined, released or been buried, or after so long: a hint may be lost."""
        await self._notices.listen()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hinted.wait(), seconds)
        self._hinted.clear()

    def _hear(self, _who: str) -> None:
        self._hinted.set()

    async def aclose(self) -> None:
        await self._notices.aclose()
        await self._database.aclose()


def _had_no_lock(error: Unavailable) -> bool:
    """In time: nothing was done."""
    return isinstance(error.__cause__, asyncpg.LockNotAvailableError)


def _mark(row: asyncpg.Record) -> tuple[int, int, int]:
    return row["state"], row["epoch"], row["renewals"]


def _leads(row: asyncpg.Record | None, epoch: int) -> bool:
    """It is the head with that epoch, and takes members."""
    return row is not None and row["state"] == OwnershipState.OWNER and row["epoch"] == row["head_epoch"] == epoch


def _row(row: asyncpg.Record) -> CoordinatorRow:
    return CoordinatorRow(
        coordinator_id=row["coordinator_id"],
        state=OwnershipState(row["state"]),
        epoch=row["epoch"],
        renewals=row["renewals"],
        lease=row["lease"],
        address=row["address"],
        http_address=row["http_address"],
        began=row["began"],
        appointed=row["appointed"],
        head_epoch=row["head_epoch"],
        secrets_key=row["secrets_key"],
    )
