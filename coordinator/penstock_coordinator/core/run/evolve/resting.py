"""Step runs come to rest, and those that depend on them may have to be decided."""

from __future__ import annotations

from penstock_coordinator.core.plan.model import Step
from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.evolve.counters import move, note_opened, note_spent
from penstock_coordinator.core.run.evolve.following import feed, note_finished
from penstock_coordinator.core.run.evolve.passing import note_passed, note_undone
from penstock_coordinator.core.run.mapped import MapState
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import StepState
from penstock_coordinator.core.run.upstream import fires_early, standing

_PENDING = StepState.PENDING


def rest(run: Run, number: int, item: int, state: StepState) -> None:
    step = run.plan.steps[number]
    if run.children:
        forget_child(run, step, item)
    move(run, step, item, state)
    if run.lookups:
        run.lookups.pop((number, item), None)
    if run.raised is not None:
        run.raised.forget(number, item)
    if step.undoes is not None:
        note_undone(run, step, item, state)
    if item == WHOLE:
        note_spent(run, number, item, state, run.active.pop(number, None))
        settle(run, step, state)
    else:
        mapped = run.maps[number]
        note_spent(run, number, item, state, mapped.active.pop(item, None))
        items_rested(run, step, mapped, state, item, item + 1)
        note_opened(run, number, mapped)


def forget_lookups(run: Run, number: int, first: int, stop: int) -> None:
    for item in range(first, stop):
        run.lookups.pop((number, item), None)


def forget_child(run: Run, step: Step, item: int) -> None:
    """The step run does not wait for a run of its own, or does so no more."""
    if run.children.pop((step.number, item), None) is not None:
        count_away(run, step, -1)


def count_away(run: Run, step: Step, more: int) -> None:
    """So many step runs of the step more, or less, wait for runs of their own."""
    plain, cleanup = run.away
    run.away = (plain, cleanup + more) if step.cleanup else (plain + more, cleanup)


def settle(run: Run, step: Step, state: int) -> None:
    """A step as a whole is at rest: tell its dependants."""
    run.frontier.pop(step.number, None)
    if run.rested:
        run.rested[step.number] = run.seq + 1
    steps, states, open_upstream = run.plan.steps, run.states, run.open_upstream
    seen = standing(state, step.allow_failure)
    expanded = step.number in run.maps
    for number in step.joiners if expanded else step.downstream:
        left = open_upstream[number] - 1
        open_upstream[number] = left
        if (not left or fires_early(steps[number], seen)) and states[number] == _PENDING:
            run.add_to_frontier(number)
    if expanded:
        for number in step.followers:
            along = run.maps.get(number)
            if along is not None:
                note_finished(run, steps[number], along)
    run.open_steps -= 1
    if step.undoes is not None:
        if expanded:
            note_undone(run, step, WHOLE, state)
        note_passed(run, step, state)
    if not step.cleanup:
        run.open_work -= 1
        if not run.open_work:
            release_cleanup(run)


def release_cleanup(run: Run) -> None:
    for number in run.plan.cleanup_roots:
        if run.states[number] == _PENDING:
            run.add_to_frontier(number)


def items_rested(run: Run, step: Step, mapped: MapState, state: int, first: int, stop: int) -> None:
    mapped.remaining -= stop - first
    note_finished(run, step, mapped)
    seen = standing(state, step.allow_failure)
    for number in mapped.watchers:
        if run.states[number] == _PENDING and fires_early(run.plan.steps[number], seen):
            run.add_to_frontier(number)
    if step.followers:
        feed(run, step, first, stop)
