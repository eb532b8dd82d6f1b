"""Every trigger rule over every mix of upstream states, against the rules in plain words."""

from __future__ import annotations

from itertools import combinations_with_replacement, product

import pytest
from tests.unit.run.plans import Node, build

from penstock_coordinator.core.plan.model import TriggerRule
from penstock_coordinator.core.run.events import RunStarted, StepsSettled
from penstock_coordinator.core.run.evolve import evolve
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import StepState as S
from penstock_coordinator.core.run.tallies import decide_rule

OK, FAILED, ALLOWED, SKIPPED, UPSTREAM, CANCELLED = "ok", "failed", "allowed", "skipped", "upstream_failed", "cancelled"
GOOD, TROUBLED, ENDED = {OK, ALLOWED}, {FAILED, CANCELLED, UPSTREAM}, {OK, ALLOWED, FAILED, CANCELLED}
STATES = {
    OK: S.COMPLETED,
    FAILED: S.FAILED,
    ALLOWED: S.FAILED,
    SKIPPED: S.SKIPPED,
    UPSTREAM: S.UPSTREAM_FAILED,
    CANCELLED: S.CANCELLED,
}


def plain(rule: TriggerRule, mix: tuple[str, ...]) -> S:
    """What the documentation says."""

    def some(kinds: set[str]) -> bool:
        return any(kind in kinds for kind in mix)

    def every(kinds: set[str]) -> bool:
        return all(kind in kinds for kind in mix)

    match rule:
        case TriggerRule.ALL_DONE | TriggerRule.ALWAYS:
            return S.READY
        case TriggerRule.ALL_SUCCESS:
            if every(GOOD):
                return S.READY
            return S.UPSTREAM_FAILED if some(TROUBLED) else S.SKIPPED
        case TriggerRule.ALL_FAILED:
            return S.READY if every(TROUBLED) else S.SKIPPED
        case TriggerRule.ONE_SUCCESS:
            if some(GOOD):
                return S.READY
            return S.SKIPPED if every({SKIPPED}) else S.UPSTREAM_FAILED
        case TriggerRule.ONE_FAILED:
            return S.READY if some(TROUBLED) else S.SKIPPED
        case TriggerRule.ONE_DONE:
            return S.READY if some(ENDED) else S.SKIPPED
        case TriggerRule.NONE_FAILED:
            return S.UPSTREAM_FAILED if some(TROUBLED) else S.READY
        case TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS:
            if some(TROUBLED):
                return S.UPSTREAM_FAILED
            return S.READY if some(GOOD) else S.SKIPPED
        case TriggerRule.NONE_SKIPPED:
            return S.SKIPPED if some({SKIPPED}) else S.READY
        case TriggerRule.ALL_SKIPPED:
            return S.READY if every({SKIPPED}) else S.SKIPPED


def settled(rule: TriggerRule, mix: tuple[str, ...], pending: int = 0) -> Run:
    """A run whose last step has that upstream at rest, and `pending` more that are not."""
    names = [f"u{number}" for number in range(len(mix) + pending)]
    nodes = [Node(name, allow_failure=kind == ALLOWED) for name, kind in zip(names, mix, strict=False)]
    nodes += [Node(name) for name in names[len(mix) :]]
    run = Run(build([*nodes, Node("x", names, rule=rule)]))
    evolve(run, 1, RunStarted(0, "", b"{}", None))
    for number, kind in enumerate(mix):
        evolve(run, run.seq + 1, StepsSettled(0, STATES[kind], ((number, number + 1),)))
    return run


@pytest.mark.parametrize("rule", TriggerRule)
def test_rule_when_all_are_at_rest(rule: TriggerRule) -> None:
    for size in (1, 2, 3):
        for mix in combinations_with_replacement(STATES, size):
            run = settled(rule, mix)
            assert len(run.plan.steps) - 1 in run.frontier
            assert decide_rule(run, run.plan.steps[-1]) is plain(rule, mix), mix


@pytest.mark.parametrize("rule", TriggerRule)
def test_rule_before_all_are_at_rest(rule: TriggerRule) -> None:
    """Only what cannot change any more is decided early."""
    early = {TriggerRule.ONE_SUCCESS: GOOD, TriggerRule.ONE_FAILED: TROUBLED, TriggerRule.ONE_DONE: ENDED}
    for mix in product(STATES, repeat=2):
        run = settled(rule, mix, pending=1)
        fires = rule is TriggerRule.ALWAYS or any(kind in early.get(rule, set()) for kind in mix)
        assert (3 in run.frontier) == fires, mix
        if fires:
            assert decide_rule(run, run.plan.steps[-1]) is S.READY
