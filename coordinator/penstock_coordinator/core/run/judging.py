"""Conditions, as rules ask them."""

from __future__ import annotations

from penstock_coordinator.core.plan.model import Json, Step
from penstock_coordinator.core.run.events import Failure
from penstock_coordinator.core.run.sources import Upstream
from penstock_coordinator.core.run.state import Run


def judge_step(run: Run, step: Step, upstream: Upstream) -> bool | Failure:
    """Whether the step may run; a failure if its condition cannot be evaluated. True if it has none, or one that is
    for its items."""
    from penstock_coordinator.core.plan.conditions import NO_ITEM

    return True if step.condition is None or step.condition.reads_item else _judge(run, step, upstream, NO_ITEM)


def judge_item(run: Run, step: Step, upstream: Upstream, item: Json) -> bool | Failure:
    """Whether the step may run for the item."""
    return _judge(run, step, upstream, item)


def _judge(run: Run, step: Step, upstream: Upstream, item: Json) -> bool | Failure:
    from penstock_coordinator.core.plan.conditions import ConditionError

    condition = step.condition
    assert condition is not None
    try:
        return condition.evaluate(run.parameter_values, upstream.of(condition.steps), item)
    except ConditionError as error:
        return Failure("Condition", str(error))
