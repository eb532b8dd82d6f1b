"""What attempts used of the budgets that pipelines have by the day, the week or the month.

Each record brings what its attempts used, in the same transaction: so each counts once, whoever restarts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import msgspec

from penstock_coordinator.core.plan.budget import Amounts


class ChargeRow(msgspec.Struct, frozen=True, gc=False):
    """Of the attempts that a record ended. Microseconds, and millionths."""

    pipeline: str
    slot_time: int
    cpu_time: int
    price: int


@dataclass(frozen=True, slots=True)
class WindowUse:
    """Of the budget of a pipeline within a window."""

    used: Amounts
    raised: Amounts
    """Limits that a person has raised it to, for this window; 0: not raised."""


class BudgetStore(Protocol):
    """All methods raise `Unavailable`."""

    async def use(self, pipeline: str, start: int) -> WindowUse:
        """From the instant on."""

    async def raise_to(self, pipeline: str, start: int, limits: Amounts, requested_by: str, at: int) -> None:
        """For the window that begins at the instant. Limits that are higher already stay."""
