"""The values that one evaluation sees, and its budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from penstock_coordinator.core.plan.cel.cost import MAX_COST
from penstock_coordinator.core.plan.model import Json


class OutOfBudget(Exception):
    """The evaluation takes too long. No `ConditionError`: `&&` and `||` do not pass over it."""


class Frame:
    """One evaluation."""

    __slots__ = ("budget", "item", "parameters", "steps", "variables")

    def __init__(self, parameters: dict[str, Json], steps: dict[str, dict[str, Json]], item: Json, slots: int) -> None:
        self.parameters = parameters
        self.steps = steps
        self.item = item
        self.variables: list[Json] = [None] * slots
        self.budget = MAX_COST

    def spend(self, units: int) -> None:
        self.budget -= units
        if self.budget < 0:
            raise OutOfBudget


Run: TypeAlias = Callable[[Frame], Json]
