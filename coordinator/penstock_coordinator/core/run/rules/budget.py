"""The budget of a run: when nothing is left of it no more attempts begin, or the run is stopped.

What counts is committed: attempts that ended. Those that run go on, and may take the run beyond its budget.
"""

from __future__ import annotations

from penstock_coordinator.core.plan.budget import Amounts, limits_fault, used_of
from penstock_coordinator.core.run.events import CostBudgetExceeded, CostBudgetRaised
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import RaiseBudget
from penstock_coordinator.core.run.state import Run


def exceed(run: Run, now: int, ledger: Ledger) -> None:
    """What follows from it, if the run is to be stopped, is decided with it."""
    spending = run.spending
    assert spending is not None
    measure = spending.over
    assert measure is not None
    used, limit = spending.used.of(measure), spending.limits.of(measure)
    ledger.emit(CostBudgetExceeded(now, int(measure), used, limit, int(spending.action)))


def stop_reason(run: Run) -> str:
    assert run.spending is not None
    measure = run.spending.measure
    assert measure is not None
    used, limit = run.spending.used.of(measure), run.spending.limits.of(measure)
    return f"budget: its attempts have used {used_of(measure, used, limit)}"


def raise_limits(run: Run, message: RaiseBudget, ledger: Ledger) -> None:
    """The same again changes nothing. A run at rest is left as it is."""
    spending = run.spending
    if run.at_rest or not run.seq:
        return
    if spending is None:
        ledger.refusal = "the run has no budget of its own"
        return
    if run.undoing is not None:
        ledger.refusal = "the run is being rolled back, and no budget holds what undoes"
        return
    given = Amounts(message.slot_time, message.cpu_time, message.price)
    ledger.refusal = limits_fault(spending.limits, given)
    if not ledger.refusal and (limits := spending.limits.most(given)) != spending.limits:
        ledger.emit(CostBudgetRaised(message.now, *limits, message.requested_by, message.reason))
