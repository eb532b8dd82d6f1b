"""Mapped steps get their items, and come to rest with them."""

from __future__ import annotations

from array import array

from penstock_coordinator.core.plan.model import MapForm, Plan, Step
from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.evolve.counters import leave, note_opened
from penstock_coordinator.core.run.evolve.following import catch_up, grow, note_finished, number_items, open_followers
from penstock_coordinator.core.run.evolve.readying import ready_items
from penstock_coordinator.core.run.evolve.resting import forget_lookups, items_rested, settle
from penstock_coordinator.core.run.mapped import Groups, MapState, Places
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import StepState
from penstock_coordinator.core.run.upstream import may_fire_early

_PENDING, _READY, _RUNNING = StepState.PENDING, StepState.READY, StepState.RUNNING


def map_expanded(run: Run, _seq: int, event: e.MapExpanded) -> None:
    number, step = event.step, run.plan.steps[event.step]
    run.frontier.pop(number, None)
    mapped = _new_map(run, step, event.count)
    if not run.maps:
        run.maps = {}
    run.maps[number] = mapped
    run.states[number] = _RUNNING
    number_items(run, number, 0, event.count)
    tally = run.tally_of(step)
    tally[_PENDING] += event.count - 1
    if step.followed is not None:
        catch_up(run, step, mapped)
    elif event.ready:
        ready_items(run, step, mapped, 0, event.count, event.at)
    else:
        mapped.due.add(0, event.count)
        note_opened(run, number, mapped)
    note_finished(run, step, mapped)
    open_followers(run, step)


def _new_map(run: Run, step: Step, count: int) -> MapState:
    over = step.map
    assert over is not None
    mapped = MapState(count, _PENDING, watchers_of(run.plan, step))
    if over.max_parallel:
        mapped.places = Places(over.max_parallel, count)
    if over.form is MapForm.EACH:
        mapped.ready_times = array("q", bytes(8 * count))
    elif over.form is MapForm.NESTED:
        assert over.followed is not None
        mapped.groups = Groups(run.maps[over.followed].count)
    return mapped


def watchers_of(plan: Plan, step: Step) -> tuple[int, ...]:
    """Those that look at single items of the step."""
    return tuple(number for number in step.joiners if may_fire_early(plan.steps[number]))


def items_added(run: Run, _seq: int, event: e.ItemsAdded) -> None:
    step, mapped = run.plan.steps[event.step], run.maps[event.step]
    assert mapped.groups is not None
    first = mapped.count
    mapped.groups.add(event.owner, first, event.count, event.state)
    if event.failure is not None and run.first_failure is None and not step.allow_failure:
        run.first_failure = (event.step, e.WHOLE, event.failure)
    if event.count:
        grow(run, step, event.count)
        if event.state is _READY:
            ready_items(run, step, mapped, first, mapped.count, event.at)
        else:
            mapped.due.add(first, mapped.count)
    note_opened(run, event.step, mapped)
    note_finished(run, step, mapped)


def items_readied(run: Run, _seq: int, event: e.ItemsReadied) -> None:
    step, mapped = run.plan.steps[event.step], run.maps[event.step]
    for first, stop in event.ranges:
        ready_items(run, step, mapped, first, stop, event.at)
    note_opened(run, event.step, mapped)


def items_settled(run: Run, _seq: int, event: e.ItemsSettled) -> None:
    step, mapped = run.plan.steps[event.step], run.maps[event.step]
    for first, stop in event.ranges:
        before = mapped.states[first:stop]
        mapped.states[first:stop] = bytes((event.state,)) * (stop - first)
        for tally in (mapped.tally, run.tally_of(step)):
            for state in (_PENDING, _READY):
                tally[state] -= before.count(state)
            tally[event.state] += stop - first
        leave(run, step, mapped, first, before)
        if run.lookups:
            forget_lookups(run, event.step, first, stop)
        if mapped.active:
            for item in range(first, stop):
                mapped.active.pop(item, None)
        items_rested(run, step, mapped, event.state, first, stop)
    note_opened(run, event.step, mapped)


def map_settled(run: Run, _seq: int, event: e.MapSettled) -> None:
    run.finished_maps.pop(event.step, None)
    run.maps[event.step].values = None
    run.states[event.step] = event.state
    settle(run, run.plan.steps[event.step], event.state)
