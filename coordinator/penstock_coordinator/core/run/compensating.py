"""What of a run can be undone."""

from __future__ import annotations

from penstock_coordinator.core.run.events import Range, RunRollingBack
from penstock_coordinator.core.run.ranges import packed
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import StepState

_COMPLETED = StepState.COMPLETED


def steps_to_undo(run: Run) -> list[int]:
    """The steps that would undo others that are not mapped, ascending."""
    plan = run.plan
    return [
        number
        for number in plan.undoing
        if (undone := plan.steps[number].undoes) is not None
        and undone not in run.maps
        and run.states[undone] == _COMPLETED
    ]


def items_to_undo(run: Run) -> list[tuple[int, tuple[Range, ...]]]:
    """The steps that would undo mapped ones, ascending, with the items to be undone."""
    found: list[tuple[int, tuple[Range, ...]]] = []
    for number in run.plan.undoing:
        undone = run.plan.steps[number].undoes
        mapped = None if undone is None else run.maps.get(undone)
        if mapped is not None and mapped.tally[_COMPLETED]:
            items = [item for item, state in enumerate(mapped.states) if state == _COMPLETED]
            found.append((number, packed(items)))
    return found


def rolling_back(run: Run, reason: str, requested_by: str, now: int) -> RunRollingBack:
    """That all of it is undone."""
    return RunRollingBack(now, reason, requested_by, packed(steps_to_undo(run)), tuple(items_to_undo(run)))
