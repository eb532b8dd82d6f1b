"""Port `BudgetStore`, and what a commit adds to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.adapters.postgres.batch import packed_text
from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.adapters.postgres.text import storable
from penstock_coordinator.core.plan.budget import Amounts
from penstock_coordinator.ports import WindowUse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock_coordinator.adapters.postgres.connections import Connection, Database
    from penstock_coordinator.ports import Record

_QUERIES = load("budgets")


class PostgresBudgetStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def use(self, pipeline: str, start: int) -> WindowUse:
        if not storable(pipeline):
            return WindowUse(Amounts(), Amounts())
        (row,) = await self._database.fetch(_QUERIES["use"], pipeline, start)
        used = Amounts(row["slot_time"], row["cpu_time"], row["price"])
        return WindowUse(used, Amounts(row["raised_slot_time"], row["raised_cpu_time"], row["raised_price"]))

    async def raise_to(self, pipeline: str, start: int, limits: Amounts, requested_by: str, at: int) -> None:
        await self._database.fetch(_QUERIES["raise"], pipeline, start, *limits, packed_text(requested_by), at)


def has_charges(records: Iterable[Record]) -> bool:
    """Nothing is asked for the others."""
    return any(record.charge is not None for record in records)


async def write_charges(connection: Connection, records: Iterable[Record]) -> None:
    rows = [
        (r.run_id, r.first_seq, r.charge.pipeline, r.at, r.charge.slot_time, r.charge.cpu_time, r.charge.price)
        for r in records
        if r.charge is not None
    ]
    if rows:
        await connection.execute(_QUERIES["insert"], *(list(column) for column in zip(*rows, strict=True)))
