"""What was used of budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.v1 import budget_pb2, pipeline_pb2
from penstock_coordinator.api.encoding.values import instant
from penstock_coordinator.core.plan.budget import FIELDS

if TYPE_CHECKING:
    from penstock_coordinator.runtime.views import BudgetView


def budget_use(view: BudgetView) -> budget_pb2.BudgetUse:
    budget, used = view.budget, view.used
    message = budget_pb2.BudgetUse(
        budget=pipeline_pb2.CostBudget(
            slot_seconds=budget.limits.slot_time / 1e6,
            cpu_seconds=budget.limits.cpu_time / 1e6,
            price=budget.limits.price / 1e6,
            per=pipeline_pb2.CostBudgetPer.ValueType(budget.per),
            on_exceeded=pipeline_pb2.OnExceeded.ValueType(budget.on_exceeded),
        ),
        used_slot_seconds=used.slot_time / 1e6,
        used_cpu_seconds=used.cpu_time / 1e6,
        used_price=used.price / 1e6,
        exceeded="" if view.exceeded is None else FIELDS[view.exceeded],
    )
    if view.exceeded_at is not None:
        message.exceeded_time.CopyFrom(instant(view.exceeded_at))
    if view.window is not None:
        message.window_start.CopyFrom(instant(view.window.start))
        message.window_end.CopyFrom(instant(view.window.stop))
    return message
