"""Maps that go along with other maps: what happens to those follows here."""

from __future__ import annotations

import re

from penstock_coordinator.core.plan.model import Step
from penstock_coordinator.core.run.evolve.counters import note_opened
from penstock_coordinator.core.run.mapped import MapState
from penstock_coordinator.core.run.places import place_of
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import StepState

_PENDING, _RUNNING = StepState.PENDING, StepState.RUNNING
_AT_REST = re.compile(rb"[\x05-\x0a]+")


def open_followers(run: Run, step: Step) -> None:
    """The step is expanded: those that go along with it need not wait for it any more."""
    for number in step.followers:
        left = run.open_upstream[number] - 1
        run.open_upstream[number] = left
        if not left and run.states[number] == _PENDING:
            run.add_to_frontier(number)


def catch_up(run: Run, step: Step, mapped: MapState) -> None:
    """A step that goes along with another one was expanded: what is at rest there already can be decided."""
    assert step.followed is not None
    for found in _AT_REST.finditer(run.maps[step.followed].states):
        _due(run, step.number, mapped, *found.span())
    note_opened(run, step.number, mapped)


def feed(run: Run, step: Step, first: int, stop: int) -> None:
    """Items of the step came to rest: what goes along with them can be decided."""
    for number in step.followers:
        mapped = run.maps.get(number)
        if mapped is not None and run.states[number] == _RUNNING:
            _due(run, number, mapped, first, stop)
            note_opened(run, number, mapped)


def _due(run: Run, number: int, mapped: MapState, first: int, stop: int) -> None:
    if mapped.groups is None:
        mapped.due.add(first, stop)
    elif not run.doomed(number):
        mapped.due_owners.add(first, stop)


def grow(run: Run, step: Step, count: int) -> None:
    """A nested map has so many items more, all PENDING; and so has what goes along with it, and with that."""
    growing = [step]
    while growing:
        node = growing.pop()
        mapped = run.maps[node.number]
        mapped.grow(count)
        number_items(run, node.number, mapped.count - count, mapped.count)
        run.tally_of(node)[_PENDING] += count
        for number in node.followers:
            other = run.maps.get(number)
            if other is None or run.states[number] != _RUNNING:
                continue
            if other.groups is None:
                growing.append(run.plan.steps[number])
            else:
                other.groups.grow(count)


def number_items(run: Run, number: int, first: int, stop: int) -> None:
    """What was kept of the places of these items before the step was reset is theirs again."""
    numbering = run.numberings.get(number)
    if numbering is not None:
        numbering.add(place_of(run.plan, run, number, item) for item in range(first, stop))


def note_finished(run: Run, step: Step, mapped: MapState) -> None:
    """The map comes to rest next if all its items are at rest and there will be no more."""
    if not mapped.remaining and run.states[step.number] == _RUNNING and _is_complete(run, step, mapped):
        if not run.finished_maps:
            run.finished_maps = {}
        run.finished_maps[step.number] = None


def _is_complete(run: Run, step: Step, mapped: MapState) -> bool:
    if step.followed is None or run.doomed(step.number):
        return True
    if run.states[step.followed] < StepState.COMPLETED:
        return False
    return mapped.groups is None or not mapped.groups.undecided


def close_doomed(run: Run) -> None:
    """The run is being cancelled: groups that are not decided never get items."""
    for number, mapped in run.maps.items():
        if run.doomed(number):
            mapped.due_owners.clear()
            note_opened(run, number, mapped)
            note_finished(run, run.plan.steps[number], mapped)
