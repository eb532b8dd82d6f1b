"""Trigger rules, by their plain definition."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.core.plan.model import TriggerRule
from penstock_coordinator.core.run.states import StepState as S

if TYPE_CHECKING:
    from penstock_coordinator.core.run.state import Run

_BAD = (S.FAILED, S.UPSTREAM_FAILED, S.CANCELLED)


def seen_state(run: Run, number: int) -> S:
    """The state of an upstream as rules see it: an allowed failure is a success."""
    state = run.state_of(number)
    return S.COMPLETED if state is S.FAILED and run.plan.steps[number].allow_failure else state


def holds(rule: TriggerRule, states: list[S]) -> bool:
    done = [state for state in states if state.at_rest]
    good = [state for state in done if state is S.COMPLETED]
    bad = [state for state in done if state in _BAD]
    skipped = [state for state in done if state is S.SKIPPED]
    everything = len(done) == len(states)
    match rule:
        case TriggerRule.ALL_SUCCESS:
            return everything and len(good) == len(states)
        case TriggerRule.ALL_FAILED:
            return everything and len(bad) == len(states)
        case TriggerRule.ALL_DONE:
            return everything
        case TriggerRule.ONE_SUCCESS:
            return bool(good)
        case TriggerRule.ONE_FAILED:
            return bool(bad)
        case TriggerRule.ONE_DONE:
            return bool(good or bad)
        case TriggerRule.NONE_FAILED:
            return everything and not bad
        case TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS:
            return everything and not bad and bool(good)
        case TriggerRule.NONE_SKIPPED:
            return everything and not skipped
        case TriggerRule.ALL_SKIPPED:
            return everything and len(skipped) == len(states)
        case TriggerRule.ALWAYS:
            return True
