"""The epoch of a coordinator's incarnation, and the fence rows that enforce it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.adapters.postgres.queries import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock_coordinator.adapters.postgres.connections import Database
    from penstock_coordinator.ports import RunId

_QUERIES = load("incarnations")


class PostgresIncarnations:
    """Port `Incarnations`. `on_own_epoch` hears the epoch of the coordinator that these stores belong to."""

    def __init__(self, database: Database, coordinator_id: str, on_own_epoch: Callable[[int], None]) -> None:
        self._database = database
        self._coordinator_id = coordinator_id
        self._on_own_epoch = on_own_epoch

    async def incarnate(self, coordinator_id: str, lanes: int) -> int:
        async with self._database.transaction() as connection:
            await connection.execute(_QUERIES["one_at_a_time"], coordinator_id)
            await connection.fetch(_QUERIES["lock_fences"], coordinator_id)
            epoch: int = await connection.fetchval(_QUERIES["next_epoch"])
            await connection.execute(_QUERIES["raise_fences"], coordinator_id, epoch)
            await connection.execute(_QUERIES["add_fences"], coordinator_id, epoch, lanes)
        if coordinator_id == self._coordinator_id:
            self._on_own_epoch(epoch)
        return epoch

    async def is_current(self, coordinator_id: str, epoch: int) -> bool:
        (row,) = await self._database.fetch(_QUERIES["newest_fence"], coordinator_id)
        return row["epoch"] is None or bool(row["epoch"] <= epoch)

    def speak_as(self, epoch: int) -> None:
        self._on_own_epoch(epoch)

    async def take_over_run(self, run_id: RunId, epoch: int) -> bool:
        return bool(await self._database.fetch(_QUERIES["take_over_run"], self._coordinator_id, epoch, run_id))
