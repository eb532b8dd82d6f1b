"""Which runs are free: they share nothing with other runs that is kept in the memory of one coordinator, so that any
owner may have them. All others are bound, and stay with the head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.core.plan.model import CHILDREN
from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.slo_tiers import SloTier

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.model import Plan


def bound_by(plan: Plan) -> str:
    """Why runs of it are bound, to be read behind "because"; empty: they are free, if what asks for them is."""
    if plan.concurrency is not None:
        return "its runs share a limit (concurrency)"
    if plan.max_active_runs:
        return "so many of its runs may be active at once (max_active_runs)"
    if plan.window_budget is not None:
        return f"its runs share a budget of a {plan.window_budget.per.name.lower()} (budget)"
    if plan.slo_tier is not SloTier.DEFAULT:
        return f"its runs are {plan.slo_tier.label} (slo_tier)"
    for step in plan.steps:
        if step.concurrency is not None:
            return f"the step {quoted(step.name)} shares a limit (concurrency)"
        if step.cache is not None:
            return f"the step {quoted(step.name)} may take its value from the cache (cache)"
        if step.line == CHILDREN:
            return f"the step {quoted(step.name)} is a run of another pipeline (pipeline)"
    return ""


def asked_bound_by(priority: int, weight: float, run_key: str, *, child: bool = False) -> str:
    """As `bound_by`, of what asks for one run."""
    if run_key:
        return "it has a run key"
    if child:
        return "it is a step of another run"
    if priority:
        return f"its priority is {priority}, and not 0"
    if weight != 1.0:
        return f"its weight is {weight:g}, and not 1"
    return ""
