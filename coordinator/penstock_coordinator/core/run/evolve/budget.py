"""Budgets of runs: what attempts used, and what becomes of it."""

from __future__ import annotations

from penstock_coordinator.core.plan.budget import Amounts, Measure, Per
from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.evolve.control import clocks_go_on
from penstock_coordinator.core.run.spending import Spending
from penstock_coordinator.core.run.state import Run


def begin_spending(run: Run) -> None:
    """A generation begins with the budget of its version."""
    budget = run.plan.budget
    run.spending = Spending(budget) if budget is not None and budget.per is Per.RUN else None


def charged(run: Run, _seq: int, event: e.CostBudgetCharged) -> None:
    spending = run.spending
    if spending is not None:
        spending.used = spending.used.plus(Amounts(event.slot_time, event.cpu_time, event.price))


def exceeded(run: Run, _seq: int, event: e.CostBudgetExceeded) -> None:
    spending = run.spending
    assert spending is not None
    spending.since = event.at
    spending.measure = Measure(event.measure)


def raised(run: Run, _seq: int, event: e.CostBudgetRaised) -> None:
    spending = run.spending
    assert spending is not None
    spending.limits = Amounts(event.slot_time, event.cpu_time, event.price)
    if spending.since is None or spending.over is not None:
        return
    if run.over_budget:
        clocks_go_on(run, event.at)
    spending.since = spending.measure = None
