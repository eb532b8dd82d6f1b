"""The order in which steps are undone: of two that an edge joins first the one that came to rest later.

An edge is passed once in a rollback, so that all of it takes time by the size of the plan.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from penstock_coordinator.core.plan.model import Step
from penstock_coordinator.core.run.evolve.counters import note_opened
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import StepState
from penstock_coordinator.core.run.undoing import Undoing

_PENDING, _COMPLETED, _FAILED = StepState.PENDING, StepState.COMPLETED, StepState.FAILED


def begin_order(run: Run, undoing: Undoing) -> None:
    """What can be undone first is begun."""
    if not run.plan.undoing:
        return
    steps = run.plan.steps
    undoing.later = array("I", [sum(1 for _ in later(run, step)) for step in steps])
    undoing.passed = bytearray(len(steps))
    undoing.blocked = bytearray(len(steps))
    # Found before any is passed: those that come after a passed one are begun with it.
    for number in [step.number for step in steps if step.undoes is None and not undoing.later[step.number]]:
        if not _begin(run, undoing, number):
            _pass(run, undoing, number, True)


def later(run: Run, step: Step) -> Iterator[int]:
    """The neighbours that came to rest later. What depends on a step is the later one of two that came at once."""
    rested, own = run.rested, run.rested[step.number]
    yield from (number for number in step.downstream if rested[number] >= own)
    yield from (number for number in step.upstream if rested[number] > own)


def _earlier(run: Run, step: Step) -> Iterator[int]:
    rested, own = run.rested, run.rested[step.number]
    yield from (number for number in step.upstream if rested[number] <= own)
    yield from (number for number in step.downstream if rested[number] < own)


def note_undone(run: Run, step: Step, item: int, state: int) -> None:
    """A step run that undoes another one is at rest."""
    undoing, undone = run.undoing, step.undoes
    if undoing is None or undone is None or not _has_undone(step, state):
        return
    if run.state_of(undone, item) is _COMPLETED:
        undoing.undone.append((undone, item))


def note_passed(run: Run, step: Step, state: int) -> None:
    """A step that undoes another one is at rest as a whole."""
    undoing = run.undoing
    if undoing is None or step.undoes is None:
        return
    undoing.stuck.pop(step.number, None)
    _pass(run, undoing, step.undoes, _has_undone(step, state))


def _has_undone(step: Step, state: int) -> bool:
    return state == _COMPLETED or (state == _FAILED and step.allow_failure)


def _pass(run: Run, undoing: Undoing, number: int, done: bool) -> None:
    """Nothing of the step is left to undo, and so it may be with those before it. No recursion: chains are long."""
    passing = [(number, done)]
    while passing:
        number, done = passing.pop()
        if undoing.passed[number]:
            continue
        undoing.passed[number] = True
        for other in _earlier(run, run.plan.steps[number]):
            if not done:
                undoing.blocked[other] = True
            undoing.later[other] -= 1
            if not undoing.later[other] and not _begin(run, undoing, other):
                passing.append((other, not undoing.blocked[other]))


def _begin(run: Run, undoing: Undoing, number: int) -> bool:
    """All that is to be undone before the step is, or never will be. Whether the step is undone next."""
    undo = run.plan.steps[number].compensate
    if undo is None or run.states[undo] >= _COMPLETED:
        return False
    if undoing.blocked[number]:
        undoing.stuck[undo] = None
        return False
    mapped = run.maps.get(undo)
    if mapped is None:
        run.add_to_frontier(undo)
    else:
        mapped.due.add(0, mapped.count)
        note_opened(run, undo, mapped)
    return True


def may_begin(run: Run, step: Step) -> bool:
    """Whether a step that undoes another one need not wait for others any more."""
    undoing = run.undoing
    if undoing is None or step.undoes is None or not undoing.begun:
        return False
    return not undoing.later[step.undoes] and not undoing.blocked[step.undoes]
