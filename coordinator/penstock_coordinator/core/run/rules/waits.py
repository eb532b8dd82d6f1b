"""Waits, and clocks that ran out on a step run."""

from __future__ import annotations

from penstock_coordinator.core.plan.model import Step
from penstock_coordinator.core.run.deadlines import queued_since
from penstock_coordinator.core.run.duties import stop_attempt
from penstock_coordinator.core.run.events import (
    WHOLE,
    AttemptFailed,
    ChildEnded,
    Failure,
    Outcome,
    StepFailed,
    StepWoken,
)
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.spans import spelled
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.core.run.timers import Timer


def wake(_run: Run, timer: Timer, now: int, ledger: Ledger) -> None:
    """A wait is over."""
    ledger.room -= 1
    ledger.emit(StepWoken(now, timer.step, timer.first))


def queued_too_long(run: Run, timer: Timer, now: int, ledger: Ledger) -> None:
    """No agent took the step, or these items, in time. Not an attempt, so nothing to retry."""
    step = run.plan.steps[timer.step]
    for item in _positions(timer):
        if ledger.room <= 0:
            return
        if item == WHOLE or _still_queued(run, timer, item):
            ledger.room -= 1
            ledger.emit(StepFailed(now, timer.step, item, _too_long(run, step, item)))


def _too_long(run: Run, step: Step, item: int) -> Failure:
    limit = spelled(step.timeouts.queued or 0)
    places = None if item == WHOLE else run.maps[step.number].places
    if places is not None and places.holds(item):
        text = f"{places.limit} other items, the map's max_parallel, left no room for this one within {limit}"
    else:
        queue = run.plan.lines[step.line].queue
        text = f'no agent that serves the queue "{queue}" had room for the step within {limit}'
    return Failure("QueuedTimeout", text)


def _positions(timer: Timer) -> range:
    return range(WHOLE, WHOLE + 1) if timer.first == WHOLE else range(timer.first, timer.stop)


def _still_queued(run: Run, timer: Timer, item: int) -> bool:
    mapped = run.maps[timer.step]
    return mapped.states[item] == StepState.READY and queued_since(mapped, item, timer.since)


def took_too_long(run: Run, timer: Timer, now: int, ledger: Ledger) -> None:
    """The step run, with all its attempts and waits, did not come to rest in time. What runs is stopped, and its
    result will be stale."""
    limit = spelled(run.plan.steps[timer.step].timeouts.overall or 0)
    why = Failure("OverallTimeout", f"not done within {limit}, with all attempts and waits")
    for item in _positions(timer):
        if ledger.room <= 0:
            return
        if not run.state_of(timer.step, item).at_rest:
            ledger.room -= 1
            _give_up(run, timer.step, item, now, why, ledger)


def _give_up(run: Run, step: int, item: int, now: int, why: Failure, ledger: Ledger) -> None:
    active = run.active_step(step, item)
    if active is not None and active.token:
        ledger.answer(stop_attempt(active, run.plan.stop_grace, why.reason))
        ledger.emit(AttemptFailed(now, step, item, active.token, Outcome.TIMED_OUT, why, reported=False))
    child = run.children.get((step, item))
    if child is not None:
        ledger.emit(ChildEnded(now, step, item, child, RunState.CANCELLED, why, reported=False))
    ledger.emit(StepFailed(now, step, item, why))
