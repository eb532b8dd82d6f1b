"""Trigger rules: what becomes of a step, by the states of its upstream.

A rule is decided when all upstream steps are at rest, so that the outcome does not hang on who was first. Only the
`one_*` rules fire early, and `always` waits for nobody. A skip and a failure pass on through the rules that ask for
success.
"""

from __future__ import annotations

from itertools import islice

from penstock_coordinator.core.plan.model import Step
from penstock_coordinator.core.run.events import WHOLE, Failure, StepFailed, StepsReadied, StepsSettled
from penstock_coordinator.core.run.judging import judge_step
from penstock_coordinator.core.run.ledger import CONDITION_COST, Ledger
from penstock_coordinator.core.run.ranges import packed
from penstock_coordinator.core.run.sources import Upstream
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import StepState
from penstock_coordinator.core.run.tallies import ItemRule, decide_rule, goes_along

_SKIPPED, _UPSTREAM_FAILED, _READY = StepState.SKIPPED, StepState.UPSTREAM_FAILED, StepState.READY


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
        if outcome is _READY and self._asks(step):
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

    def _asks(self, step: Step) -> bool:
        """Whether a condition is to be asked now, of the step as a whole. Not if no item could run anyway."""
        if step.condition is None or step.condition.reads_item:
            return False
        return not goes_along(self._run, step) or ItemRule(self._run, step).may_hold

    def emit(self, now: int) -> None:
        for number, failure in self._failed:
            self._ledger.emit(StepFailed(now, number, WHOLE, failure))
        for state, numbers in self._settled.items():
            if numbers:
                self._ledger.emit(StepsSettled(now, state, packed(sorted(numbers))))
        if self._ready:
            self._ledger.emit(StepsReadied(now, packed(sorted(self._ready))))
