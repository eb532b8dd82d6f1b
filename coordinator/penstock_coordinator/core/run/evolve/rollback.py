"""What was done is undone."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.evolve.following import number_items
from penstock_coordinator.core.run.evolve.passing import begin_order
from penstock_coordinator.core.run.mapped import MapState, Places
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.core.run.undoing import Undoing

_PENDING, _RUNNING, _SKIPPED = StepState.PENDING, StepState.RUNNING, StepState.SKIPPED
_COMPLETED, _ROLLED_BACK = StepState.COMPLETED, StepState.ROLLED_BACK


def run_rolling_back(run: Run, _seq: int, event: e.RunRollingBack) -> None:
    """Takes time by the size of the plan, as the start of the run does."""
    run.state = RunState.ROLLING_BACK if run.paused is None else RunState.PAUSED
    run.reason = event.reason
    run.verdict, run.immediate, run.cancel_deadline, run.deadline = None, False, 0, None
    # What failed before is the reason, and not what the end of the rollback hangs on.
    run.first_failure = run.earlier_failure = None
    undoing = run.undoing = Undoing(event.reason, event.requested_by)
    undoing.begun = True
    for first, stop in event.steps:
        for number in range(first, stop):
            _open(run, number, _PENDING)
            run.tally[_PENDING] += 1
    for number, ranges in event.items:
        _open(run, number, _RUNNING)
        _expand(run, number, ranges)
    begin_order(run, undoing)


def _open(run: Run, number: int, state: StepState) -> None:
    run.states[number] = state
    run.tally[_SKIPPED] -= 1
    run.open_steps += 1
    run.open_work += 1


def _expand(run: Run, number: int, ranges: Iterable[e.Range]) -> None:
    """As the map that is undone; what was undone of it in a former generation stays so."""
    step = run.plan.steps[number]
    assert step.undoes is not None
    assert step.map is not None
    undone = run.maps[step.undoes]
    mapped = MapState(undone.count, _SKIPPED, ())
    number_items(run, number, 0, mapped.count)
    for item, state in enumerate(undone.states):
        if state == _ROLLED_BACK and run.spent_before(number, item):
            mapped.states[item] = _COMPLETED
    for first, stop in ranges:
        mapped.states[first:stop] = bytes((_PENDING,)) * (stop - first)
    mapped.tally = [mapped.states.count(state) for state in range(len(mapped.tally))]
    mapped.remaining = mapped.tally[_PENDING]
    mapped.ready_times = array("q", bytes(8 * mapped.count))
    if step.map.max_parallel:
        mapped.places = Places(step.map.max_parallel, mapped.count)
    if not run.maps:
        run.maps = {}
    run.maps[number] = mapped
    tally = run.tally
    tally[:] = [some + more for some, more in zip(tally, mapped.tally, strict=True)]


def steps_rolled_back(run: Run, _seq: int, event: e.StepsRolledBack) -> None:
    for first, stop in event.ranges:
        for number in range(first, stop):
            run.states[number] = _ROLLED_BACK
            run.kept.pop(number, None)
            if number not in run.maps:
                tally = run.tally
                tally[_COMPLETED] -= 1
                tally[_ROLLED_BACK] += 1
    _forget_undone(run)


def items_rolled_back(run: Run, _seq: int, event: e.ItemsRolledBack) -> None:
    mapped = run.maps[event.step]
    for first, stop in event.ranges:
        count = stop - first
        mapped.states[first:stop] = bytes((_ROLLED_BACK,)) * count
        for tally in (mapped.tally, run.tally):
            tally[_COMPLETED] -= count
            tally[_ROLLED_BACK] += count
        for item in range(first, stop):
            mapped.kept.pop(item, None)
    _forget_undone(run)


def _forget_undone(run: Run) -> None:
    """Those that are told to be ROLLED_BACK need not be told again."""
    undoing = run.undoing
    assert undoing is not None
    undoing.undone = [key for key in undoing.undone if run.state_of(*key) is not _ROLLED_BACK]
