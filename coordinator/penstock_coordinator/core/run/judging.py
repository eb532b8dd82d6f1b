"""Conditions, as rules ask them."""

from __future__ import annotations

from penstock_coordinator.core.plan.conditions import NO_ITEM, ConditionError
from penstock_coordinator.core.plan.model import Json, Step
from penstock_coordinator.core.plan.values import InvalidJson, NoSuchPath
from penstock_coordinator.core.run.events import Failure
from penstock_coordinator.core.run.sources import Upstream, item_value
from penstock_coordinator.core.run.state import Run


def judge_step(run: Run, step: Step, upstream: Upstream) -> bool | Failure:
    """Whether the step may run; a failure if its condition cannot be evaluated. True if it has none, or one that is
    for its items."""
    if step.condition is None or step.condition.reads_item:
        return True
    return _judge(run, step, upstream, NO_ITEM)


def judge_item(run: Run, step: Step, upstream: Upstream, item: int) -> bool | Failure:
    """Whether the step may run for the item of that number."""
    try:
        value = item_value(run, step.number, item)
    except (InvalidJson, NoSuchPath) as error:
        return Failure("Condition", f"the item: {error}")
    return _judge(run, step, upstream, value)


def _judge(run: Run, step: Step, upstream: Upstream, item: Json) -> bool | Failure:
    condition = step.condition
    assert condition is not None
    try:
        return condition.evaluate(run.parameter_values, upstream.of(condition.steps), item)
    except (ConditionError, InvalidJson) as error:
        return Failure("Condition", str(error))
