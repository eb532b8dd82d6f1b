"""Budgets, as pipelines say them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from penstock.errors import DefinitionError
from penstock.names import nearest

LEAST = 1e-3
MOST = 1e12


class BudgetPer(StrEnum):
    """What has the budget: each run, or all runs of the pipeline together within a day, a week or a month (UTC)."""

    RUN = "run"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class OnExceeded(StrEnum):
    """What becomes of what would go on, or begin, when nothing is left of a budget."""

    HOLD = "hold"
    STOP = "stop"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much the attempts of a run may cost, or those of all runs of a pipeline within a day, a week or a month.

    `slot_seconds`, `cpu_seconds` and `price` (by the prices of the coordinator) are limits; 0 is none. What counts are
    attempts that ended, also those that did not complete. When nothing is left, no more attempts begin until the budget
    is raised ("hold"), or the run is stopped and FAILED ("stop"); of a budget of the pipeline it is new runs that wait
    for the next day, week or month, or are FAILED at once.
    """

    slot_seconds: float = 0
    cpu_seconds: float = 0
    price: float = 0
    per: BudgetPer | str = BudgetPer.RUN
    on_exceeded: OnExceeded | str = OnExceeded.HOLD

    def __post_init__(self) -> None:
        for name in ("slot_seconds", "cpu_seconds", "price"):
            _check_amount(getattr(self, name), f"budget.{name}")
        if not (self.slot_seconds or self.cpu_seconds or self.price):
            raise DefinitionError(
                "there is no limit", field="budget", remedy="give slot_seconds=..., cpu_seconds=... or price=..."
            )
        object.__setattr__(self, "per", _word(BudgetPer, self.per, "budget.per"))
        object.__setattr__(self, "on_exceeded", _word(OnExceeded, self.on_exceeded, "budget.on_exceeded"))


def _check_amount(value: Any, field: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # What is not finite is not between them, and a whole number may be too large for a float.
    if not number or (value and not LEAST <= value <= MOST):
        remedy = f"give a number from {LEAST:g} to {MOST:g}, or leave it out for no limit"
        raise DefinitionError(f"{value!r} is no limit", field=field, remedy=remedy)


def _word(kind: type[StrEnum], value: Any, field: str) -> StrEnum:
    try:
        return kind(value.lower() if isinstance(value, str) else value)
    except ValueError:
        remedy = nearest(str(value), [each.value for each in kind])
        raise DefinitionError(f"{value!r} is not known", field=field, remedy=remedy) from None


def read_budget(value: Any) -> Budget:
    if not isinstance(value, Budget):
        raise DefinitionError(f"{value!r} is no budget", field="budget", remedy="give a Budget(...)")
    return value
