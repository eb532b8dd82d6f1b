"""Stopping a run: by a person, by its timeout, by its first failure.

Politely: what runs is asked to stop, what waits is CANCELLED, cleanup steps run. At once: everything is killed. A
polite stop that does not end in time becomes one at once, and that ends by force.
"""

from __future__ import annotations

import re

from penstock_coordinator.core.run.events import (
    WHOLE,
    AttemptFailed,
    ChildEnded,
    Failure,
    ItemsSettled,
    Outcome,
    RunCancelling,
    StepCancelled,
    StepsSettled,
)
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import CancelRun
from penstock_coordinator.core.run.ranges import packed
from penstock_coordinator.core.run.spans import spelled
from penstock_coordinator.core.run.state import ActiveStep, Run
from penstock_coordinator.core.run.states import RunState, StepState

POLITE_LIMIT = 300_000_000
"""How long a polite stop may take, cleanup steps included."""
FORCE_AFTER = 60_000_000
"""How long, beyond the grace, agents may take to say that what they were told to kill is dead."""

_UNLEASED = re.compile(rb"[\x01\x02\x04]")
"""PENDING, READY, WAITING."""


def start_polite(run: Run, verdict: RunState, reason: str, now: int, ledger: Ledger, requested_by: str = "") -> None:
    limit = max(POLITE_LIMIT, run.plan.stop_grace + FORCE_AFTER)
    ledger.emit(RunCancelling(now, verdict, reason, False, now + limit, requested_by))


def start_immediate(run: Run, verdict: RunState, reason: str, now: int, ledger: Ledger, requested_by: str = "") -> None:
    ledger.emit(RunCancelling(now, verdict, reason, True, now + run.plan.stop_grace + FORCE_AFTER, requested_by))


def cancel(run: Run, message: CancelRun, ledger: Ledger) -> None:
    """A person stops the run. Again changes nothing, but for `immediate` after polite; a run that is being stopped for
    another reason ends CANCELLED all the same."""
    if run.at_rest or not run.seq:
        return
    now, reason = message.now, message.reason or "cancelled"
    # Of a run that is held nothing has begun: there is nothing to be polite to, and nothing to clean up.
    if (message.immediate or run.held is not None) and not run.immediate:
        start_immediate(run, RunState.CANCELLED, reason, now, ledger, message.requested_by)
    elif run.state is not RunState.CANCELLING:
        start_polite(run, RunState.CANCELLED, reason, now, ledger, message.requested_by)
    elif run.verdict is not RunState.CANCELLED:
        deadline, by = run.cancel_deadline, message.requested_by
        ledger.emit(RunCancelling(now, RunState.CANCELLED, reason, run.immediate, deadline, by))


def refuse(run: Run, reason: str, now: int, ledger: Ledger, *, over: bool = False) -> None:
    """A run that is not to begin at all. `over`: it fails, because nothing is left of a budget."""
    if run.state is RunState.PENDING:
        start_immediate(run, RunState.FAILED if over else RunState.CANCELLED, reason, now, ledger)


def run_timed_out(run: Run, now: int, ledger: Ledger) -> None:
    reason = f"the run did not end within its timeout of {spelled(run.plan.timeout or 0)}"
    start_polite(run, RunState.FAILED, reason, now, ledger)


def cancel_overdue(run: Run, now: int, ledger: Ledger) -> None:
    """A stop had its time. Polite: kill. Killed: whoever still holds a lease is not waited for any more."""
    if not run.immediate:
        start_immediate(run, run.verdict or RunState.CANCELLED, run.reason, now, ledger)
        return
    _give_up_children(run, now, ledger)
    for active in list(run.leased()):
        if ledger.room <= 0:
            return
        ledger.room -= 1
        why = Failure("Cancelled", f"the agent {active.agent} did not say in time that the attempt was stopped")
        outcome = Outcome.CANCELLED
        step, item = active.step, active.item
        ledger.emit(AttemptFailed(now, step, item, active.token, outcome, why, reported=False))
        ledger.emit(StepCancelled(now, step, item))


def _give_up_children(run: Run, now: int, ledger: Ledger) -> None:
    for (step, item), run_id in list(run.children.items()):
        if ledger.room <= 0:
            return
        ledger.room -= 1
        why = Failure("Cancelled", "the run that the step waits for did not stop in time")
        ledger.emit(ChildEnded(now, step, item, run_id, RunState.CANCELLED, why, reported=False))
        ledger.emit(StepCancelled(now, step, item))


def sweep(run: Run, now: int, ledger: Ledger) -> None:
    """What is to be cancelled and holds no lease comes to rest, as much as the turn has room for."""
    if run.unswept:
        _sweep_steps(run, now, ledger)
    for number in list(run.maps) if run.unswept else ():
        if ledger.room > 0 and run.doomed(number):
            _sweep_items(run, number, now, ledger)


def _sweep_steps(run: Run, now: int, ledger: Ledger) -> None:
    untried: list[int] = []
    tried: list[ActiveStep] = []
    for found in _UNLEASED.finditer(run.states):
        number = found.start()
        if ledger.room <= 0:
            break
        if run.doomed(number) and (number, WHOLE) not in run.children:
            ledger.room -= 1
            _sort(run.active.get(number), number, tried, untried)
    _cancel_tried(tried, now, ledger)
    if untried:
        ledger.emit(StepsSettled(now, StepState.CANCELLED, packed(untried)))


def _sweep_items(run: Run, number: int, now: int, ledger: Ledger) -> None:
    mapped = run.maps[number]
    untried: list[int] = []
    tried: list[ActiveStep] = []
    for found in _UNLEASED.finditer(mapped.states):
        if ledger.room <= 0:
            break
        if (number, found.start()) in run.children:
            continue
        ledger.room -= 1
        _sort(mapped.active.get(found.start()), found.start(), tried, untried)
    _cancel_tried(tried, now, ledger)
    if untried:
        ledger.emit(ItemsSettled(now, number, StepState.CANCELLED, packed(untried)))


def _sort(active: ActiveStep | None, position: int, tried: list[ActiveStep], untried: list[int]) -> None:
    """What had an attempt has a history of its own, the others are alike."""
    if active is not None and (active.attempts or active.losses or active.wait):
        tried.append(active)
    else:
        untried.append(position)


def _cancel_tried(tried: list[ActiveStep], now: int, ledger: Ledger) -> None:
    for active in tried:
        ledger.emit(StepCancelled(now, active.step, active.item))
