"""What every change of a step run's state brings with it."""

from __future__ import annotations

from penstock_coordinator.core.plan.model import Step
from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.state import ActiveStep, MapState, Run
from penstock_coordinator.core.run.states import StepState

_PENDING, _READY, _RUNNING = StepState.PENDING, StepState.READY, StepState.RUNNING


def active_of(run: Run, step: int, item: int) -> ActiveStep:
    return run.active[step] if item == WHOLE else run.maps[step].active[item]


def move(run: Run, step: Step, item: int, after: StepState) -> None:
    """One step run changes its state, and every counter with it."""
    if item == WHOLE:
        before = run.states[step.number]
        run.states[step.number] = after
    else:
        mapped = run.maps[step.number]
        before = mapped.states[item]
        mapped.states[item] = after
        mapped.tally[before] -= 1
        mapped.tally[after] += 1
    tally = run.tallies[step.cleanup]
    tally[before] -= 1
    tally[after] += 1
    if before == _READY:
        unready(run, step.line, 1)
    elif before == _RUNNING:
        run.running -= 1
    if after == _READY:
        run.ready[step.line] = run.ready.get(step.line, 0) + 1
    elif after == _RUNNING:
        run.running += 1


def unready(run: Run, line: int, count: int) -> None:
    if count:
        left = run.ready[line] - count
        if left:
            run.ready[line] = left
        else:
            del run.ready[line]


def note_opened(run: Run, number: int, mapped: MapState) -> None:
    """The conditions of all items are decided."""
    if not mapped.tally[_PENDING]:
        run.opening.pop(number, None)
