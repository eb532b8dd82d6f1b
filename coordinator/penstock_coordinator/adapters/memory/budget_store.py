"""Port `BudgetStore` in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.adapters.memory.reaching import reached
from penstock_coordinator.core.plan.budget import Amounts
from penstock_coordinator.ports import Record, WindowUse

if TYPE_CHECKING:
    from penstock_coordinator.adapters.memory.database import MemoryDatabase


class MemoryBudgetStore:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def use(self, pipeline: str, start: int) -> WindowUse:
        await reached(self._database)
        used = Amounts()
        for row, at in self._database.charges.values():
            if row.pipeline == pipeline and at >= start:
                used = used.plus(Amounts(row.slot_time, row.cpu_time, row.price))
        return WindowUse(used, self._database.raised_budgets.get((pipeline, start), Amounts()))

    async def raise_to(self, pipeline: str, start: int, limits: Amounts, requested_by: str, at: int) -> None:
        await reached(self._database)
        raised = self._database.raised_budgets
        raised[pipeline, start] = raised.get((pipeline, start), Amounts()).most(limits)


def project_charges(database: MemoryDatabase, record: Record) -> None:
    if record.charge is not None:
        database.charges[record.run_id, record.first_seq] = (record.charge, record.at)
