"""What an attempt that ends is charged to the budget of its run, or of its pipeline."""

from __future__ import annotations

from penstock_coordinator.core.plan.budget import Prices
from penstock_coordinator.core.plan.model import CHILDREN
from penstock_coordinator.core.run.events import (
    AttemptFailed,
    Charge,
    CostBudgetCharged,
    Event,
    LeaseLost,
    StepCancelled,
    StepCompleted,
    StepFailed,
)
from penstock_coordinator.core.run.messages import AttemptEnded, AttemptReport
from penstock_coordinator.core.run.state import Run

_NO_REPORT = AttemptReport()


def charge_of(run: Run, event: Event, ended: AttemptEnded | None, prices: Prices) -> CostBudgetCharged | None:
    """Before the event is folded, and as the row of the attempt says it; None: the event ends none. `ended` is the
    result that is being decided on. An attempt without one has cost the time of its lease."""
    if not isinstance(event, StepCompleted | AttemptFailed | LeaseLost | StepFailed | StepCancelled):
        return None
    if isinstance(event, LeaseLost) and event.charge is Charge.NOBODY:
        return None
    active = run.active_step(event.step, event.item)
    if active is None or not active.token or run.plan.steps[event.step].line == CHILDREN:
        return None
    own = ended is not None and (ended.step, ended.item) == (event.step, event.item)
    report = ended.report if own and ended is not None else _NO_REPORT
    slot_time = report.run_duration
    if not slot_time and active.leased_at is not None:
        slot_time = max(event.at - active.leased_at, 0)
    cpu_time, peak = max(report.cpu_duration, 0), max(report.peak_memory_bytes, 0)
    price = prices.of(slot_time, cpu_time, peak)
    return CostBudgetCharged(event.at, event.step, event.item, active.token, slot_time, cpu_time, price)
