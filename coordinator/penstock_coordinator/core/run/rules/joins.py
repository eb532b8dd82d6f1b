"""Trigger rules: what becomes of a step, by the states of its upstream.

A rule is decided when all upstream steps are at rest, so that the outcome does not hang on who was first. Only the
`one_*` rules fire early, and `always` waits for nobody. A skip and a failure pass on through the rules that ask for
success.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from penstock_coordinator.core.plan.model import Step, TriggerRule
from penstock_coordinator.core.run.events import WHOLE, Failure, StepFailed, StepsReadied, StepsSettled
from penstock_coordinator.core.run.judging import judge_step
from penstock_coordinator.core.run.ledger import CONDITION_COST, Ledger
from penstock_coordinator.core.run.ranges import packed
from penstock_coordinator.core.run.sources import Upstream
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import StepState
from penstock_coordinator.core.run.upstream import EARLY_RULES, ENDED_BADLY, standing

_SKIPPED, _UPSTREAM_FAILED, _READY = StepState.SKIPPED, StepState.UPSTREAM_FAILED, StepState.READY


class Tally(NamedTuple):
    """Upstream steps at rest, by what they count as."""

    success: int = 0
    failed: int = 0
    """FAILED and not allowed to, or CANCELLED."""
    upstream_failed: int = 0
    skipped: int = 0

    @property
    def bad(self) -> int:
        return self.failed + self.upstream_failed


RULES: dict[TriggerRule, Callable[[Tally], StepState]] = {
    TriggerRule.ALL_SUCCESS: lambda t: _UPSTREAM_FAILED if t.bad else _SKIPPED if t.skipped else _READY,
    TriggerRule.ALL_FAILED: lambda t: _SKIPPED if t.success or t.skipped else _READY,
    TriggerRule.ALL_DONE: lambda t: _READY,
    TriggerRule.ONE_SUCCESS: lambda t: _READY if t.success else _UPSTREAM_FAILED if t.bad else _SKIPPED,
    TriggerRule.ONE_FAILED: lambda t: _READY if t.bad else _SKIPPED,
    TriggerRule.ONE_DONE: lambda t: _READY if t.success or t.failed else _SKIPPED,
    TriggerRule.NONE_FAILED: lambda t: _UPSTREAM_FAILED if t.bad else _READY,
    TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS: lambda t: _UPSTREAM_FAILED if t.bad else _READY if t.success else _SKIPPED,
    TriggerRule.NONE_SKIPPED: lambda t: _SKIPPED if t.skipped else _READY,
    TriggerRule.ALL_SKIPPED: lambda t: _SKIPPED if t.success or t.bad else _READY,
    TriggerRule.ALWAYS: lambda t: _READY,
}
"""READY: the rule holds. Otherwise the state in which the step comes to rest. One without an upstream is not asked."""


def decide_rule(run: Run, step: Step) -> StepState:
    """What the trigger rule makes of a step of the frontier."""
    if not step.upstream:
        return _READY
    if step.rule in EARLY_RULES:
        return RULES[step.rule](_item_tally(run, step))
    states = run.states
    seen = bytes([states[number] for number in step.upstream])
    if step.rule is TriggerRule.ALL_SUCCESS and seen.count(StepState.COMPLETED) == len(seen):
        return _READY
    return RULES[step.rule](_tally(run, step, seen))


def _tally(run: Run, step: Step, seen: bytes) -> Tally:
    """A mapped upstream is one upstream. Those that are not at rest do not count."""
    steps = run.plan.steps
    allowed = sum(
        1
        for number, state in zip(step.upstream, seen, strict=True)
        if state == StepState.FAILED and steps[number].allow_failure
    )
    return Tally(
        seen.count(StepState.COMPLETED) + allowed,
        sum(seen.count(state) for state in ENDED_BADLY) - allowed,
        seen.count(_UPSTREAM_FAILED),
        seen.count(_SKIPPED),
    )


def _item_tally(run: Run, step: Step) -> Tally:
    """Each item of a mapped upstream is one upstream; an empty map counts as the step itself."""
    found = [0] * (StepState.ROLLED_BACK + 1)
    for number in step.upstream:
        allow = run.plan.steps[number].allow_failure
        mapped = run.maps.get(number)
        if mapped is None or not mapped.count:
            found[standing(run.states[number], allow)] += 1
            continue
        for state in StepState:
            found[standing(state, allow)] += mapped.tally[state]
    bad = sum(found[state] for state in ENDED_BADLY)
    return Tally(found[StepState.COMPLETED], bad, found[_UPSTREAM_FAILED], found[_SKIPPED])


def settle_frontier(run: Run, now: int, ledger: Ledger) -> list[int]:
    """Decide the steps of the frontier, as many as the turn has room for. Answers the mapped ones whose rule and
    condition hold: they are to be expanded."""
    wave = _Wave(run, ledger)
    for number in list(islice(run.frontier, max(ledger.room, 0))):
        if ledger.room <= 0:
            break
        wave.decide(run.plan.steps[number])
    wave.emit(now)
    return sorted(wave.mapped)


class _Wave:
    """Steps of the frontier that are decided together, so that their facts are few events."""

    def __init__(self, run: Run, ledger: Ledger) -> None:
        self._run = run
        self._ledger = ledger
        self._upstream = Upstream(run)
        self._settled: dict[StepState, list[int]] = {_SKIPPED: [], _UPSTREAM_FAILED: []}
        self._ready: list[int] = []
        self._failed: list[tuple[int, Failure]] = []
        self.mapped: list[int] = []

    def decide(self, step: Step) -> None:
        self._ledger.room -= 1
        outcome = decide_rule(self._run, step)
        if outcome is _READY and step.condition is not None and not step.condition.reads_item:
            self._ledger.room -= CONDITION_COST
            judged = judge_step(self._run, step, self._upstream)
            if isinstance(judged, Failure):
                self._failed.append((step.number, judged))
                return
            outcome = _READY if judged else _SKIPPED
        if outcome is not _READY:
            self._settled[outcome].append(step.number)
        elif step.map is not None:
            self.mapped.append(step.number)
        else:
            self._ready.append(step.number)

    def emit(self, now: int) -> None:
        for number, failure in self._failed:
            self._ledger.emit(StepFailed(now, number, WHOLE, failure))
        for state, numbers in self._settled.items():
            if numbers:
                self._ledger.emit(StepsSettled(now, state, packed(sorted(numbers))))
        if self._ready:
            self._ledger.emit(StepsReadied(now, packed(sorted(self._ready))))
