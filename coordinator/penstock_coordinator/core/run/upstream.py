"""What a step at rest counts as for the steps that come after it."""

from __future__ import annotations

from penstock_coordinator.core.plan.model import Step, TriggerRule
from penstock_coordinator.core.run.states import StepState

ENDED_BADLY = frozenset({StepState.FAILED, StepState.CANCELLED})
"""States of a step that had its turn, or would have had it, and brought nothing."""

_EARLY: dict[TriggerRule, frozenset[StepState]] = {
    TriggerRule.ONE_SUCCESS: frozenset({StepState.COMPLETED}),
    TriggerRule.ONE_FAILED: ENDED_BADLY | {StepState.UPSTREAM_FAILED},
    TriggerRule.ONE_DONE: ENDED_BADLY | {StepState.COMPLETED},
}
"""The rules that one upstream, or one item of it, can make hold while the others are still under way."""

EARLY_RULES = frozenset(_EARLY)
_NEVER: frozenset[StepState] = frozenset()


def standing(state: int, allow_failure: bool) -> int:
    """The state that dependants see: an allowed failure is a success."""
    return StepState.COMPLETED if allow_failure and state == StepState.FAILED else state


def may_fire_early(step: Step) -> bool:
    """Whether the step's rule is one that need not wait for all upstream. Not for one that goes along with the items of
    another step: these are decided one by one anyway."""
    return step.rule in _EARLY and step.followed is None


def fires_early(step: Step, seen: int) -> bool:
    """Whether an upstream that is seen in this state makes the rule hold at once, whatever becomes of the others."""
    return seen in _EARLY.get(step.rule, _NEVER) and step.followed is None
