"""Mapped steps get their items, and come to rest with them."""

from __future__ import annotations

from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.evolve.counters import note_opened, unready
from penstock_coordinator.core.run.evolve.readying import ready_items
from penstock_coordinator.core.run.evolve.resting import items_rested, settle
from penstock_coordinator.core.run.state import MapState, Run
from penstock_coordinator.core.run.states import StepState
from penstock_coordinator.core.run.upstream import EARLY_RULES

_PENDING, _READY, _RUNNING = StepState.PENDING, StepState.READY, StepState.RUNNING


def map_expanded(run: Run, _seq: int, event: e.MapExpanded) -> None:
    number, step = event.step, run.plan.steps[event.step]
    run.frontier.pop(number, None)
    watchers = tuple(d for d in step.downstream if run.plan.steps[d].rule in EARLY_RULES)
    mapped = MapState(event.count, _PENDING, watchers)
    run.maps[number] = mapped
    run.states[number] = _RUNNING
    tally = run.tallies[step.cleanup]
    tally[_PENDING] += event.count - 1
    if not event.count:
        run.finished_maps[number] = None
    elif event.ready:
        ready_items(run, step, mapped, 0, event.count, event.at)
    else:
        run.opening[number] = None


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
        for tally in (mapped.tally, run.tallies[step.cleanup]):
            for state in (_PENDING, _READY):
                tally[state] -= before.count(state)
            tally[event.state] += stop - first
        unready(run, step.line, before.count(_READY))
        if mapped.active:
            for item in range(first, stop):
                mapped.active.pop(item, None)
        items_rested(run, step, mapped, event.state, stop - first)
    note_opened(run, event.step, mapped)


def map_settled(run: Run, _seq: int, event: e.MapSettled) -> None:
    run.finished_maps.pop(event.step, None)
    run.maps[event.step].values = None
    run.states[event.step] = event.state
    settle(run, run.plan.steps[event.step], event.state)
