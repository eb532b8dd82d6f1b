"""Undoing what was done: by a person, or because the run would end FAILED.

Each step that is COMPLETED and names a `compensate` step is undone by it, the latest first: of two steps that an edge
joins, directly or by way of others, the one that came to rest later. Which that is, is in the journal. What cannot be
undone keeps what it rests on from being undone, and nothing else.
"""

from __future__ import annotations

from penstock_coordinator.core.run.compensating import rolling_back
from penstock_coordinator.core.run.events import WHOLE, ItemsRolledBack, ItemsSettled, StepsRolledBack, StepsSettled
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.ranges import packed
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import StepState
from penstock_coordinator.core.run.undoing import Undoing


def proceed(run: Run, now: int, ledger: Ledger) -> None:
    """Begin, if the run has its place; else draw what the steps that came to rest lead to."""
    undoing = run.undoing
    assert undoing is not None
    if not undoing.begun:
        ledger.emit(rolling_back(run, undoing.reason, undoing.requested_by, now))
        return
    if undoing.undone:
        _mark(undoing, now, ledger)
    if undoing.stuck:
        _give_up(run, undoing, now, ledger)


def _mark(undoing: Undoing, now: int, ledger: Ledger) -> None:
    """Items before the steps that they are of."""
    steps: list[int] = []
    items: dict[int, list[int]] = {}
    for step, item in undoing.undone:
        if item == WHOLE:
            steps.append(step)
        else:
            items.setdefault(step, []).append(item)
    for step, found in sorted(items.items()):
        ledger.emit(ItemsRolledBack(now, step, packed(sorted(found))))
    if steps:
        ledger.emit(StepsRolledBack(now, packed(sorted(steps))))


def _give_up(run: Run, undoing: Undoing, now: int, ledger: Ledger) -> None:
    """Something that rests on the steps that these undo could not be undone."""
    steps: list[int] = []
    for number in sorted(undoing.stuck)[: max(ledger.room, 0)]:
        ledger.room -= 1
        mapped = run.maps.get(number)
        if mapped is None:
            steps.append(number)
        else:
            items = [item for item, state in enumerate(mapped.states) if state == StepState.PENDING]
            ledger.emit(ItemsSettled(now, number, StepState.UPSTREAM_FAILED, packed(items)))
    if steps:
        ledger.emit(StepsSettled(now, StepState.UPSTREAM_FAILED, packed(steps)))
