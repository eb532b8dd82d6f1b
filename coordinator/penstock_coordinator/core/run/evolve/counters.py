"""What every change of a step run's state brings with it."""

from __future__ import annotations

from penstock_coordinator.core.plan.model import Step
from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.evolve.readying import enqueue
from penstock_coordinator.core.run.mapped import MapState
from penstock_coordinator.core.run.state import ActiveStep, Run
from penstock_coordinator.core.run.states import StepState

_READY, _RUNNING, _WAITING = StepState.READY, StepState.RUNNING, StepState.WAITING
_COMPLETED, _FAILED = StepState.COMPLETED, StepState.FAILED


def active_of(run: Run, step: int, item: int) -> ActiveStep:
    return run.active[step] if item == WHOLE else run.maps[step].active[item]


def begin(run: Run, step: int, item: int, ready_at: int) -> ActiveStep:
    """A step run gets under way. Numbers of attempts go on where a former generation left them."""
    active = ActiveStep(step, item, ready_at, ready_at)
    if run.spent:
        active.attempts = run.spent_before(step, item)
    return active


def note_spent(run: Run, step: int, item: int, state: StepState, active: ActiveStep | None) -> None:
    """A step run comes to rest: how many numbers of attempts it has used is kept where it is not the usual count."""
    usual = state is _COMPLETED or state is _FAILED
    if run.numberings:
        item = run.kept_number(step, item)
    if active is None:
        if usual and (step, item) not in run.spent:
            spend(run, step, item, 0)
    elif active.attempts != usual:
        spend(run, step, item, active.attempts)
    elif run.spent:
        run.spent.pop((step, item), None)


def keep(run: Run, step: int, item: int, parts: tuple[bytes, ...]) -> None:
    """What conditions and maps need of an output."""
    if item != WHOLE:
        run.maps[step].kept[item] = parts
        return
    if not run.kept:
        run.kept = {}
    run.kept[step] = parts


def spend(run: Run, step: int, item: int, attempts: int) -> None:
    if not run.spent:
        run.spent = {}
    run.spent[step, item] = attempts


def move(run: Run, step: Step, item: int, after: StepState) -> None:
    """One step run changes its state, and every counter with it."""
    mapped = None
    if item == WHOLE:
        before = run.states[step.number]
        run.states[step.number] = after
    else:
        mapped = run.maps[step.number]
        before = mapped.states[item]
        mapped.states[item] = after
        mapped.tally[before] -= 1
        mapped.tally[after] += 1
    tally = run.cleanup_tally if step.cleanup else run.tally
    tally[before] -= 1
    tally[after] += 1
    if before == _RUNNING:
        run.running -= 1
    if after == _RUNNING:
        run.running += 1
    if mapped is not None and mapped.places is not None:
        _move_in_places(run, step, mapped, item, before, after)
    elif before == _READY:
        plain = step.cache is None and run.raised is None
        unready(run, step.line if plain else run.line_of(step, item), 1)


def _move_in_places(run: Run, step: Step, mapped: MapState, item: int, before: int, after: StepState) -> None:
    """An item of a map with a limit: its place goes to another one, unless it is still under way."""
    assert mapped.places is not None
    wait = mapped.active[item].wait if after == _WAITING else None
    if after == _RUNNING or (wait is not None and wait.within):
        if before == _READY:
            unready(run, run.line_of(step, item), 1)
        return
    leave(run, step, mapped, item, bytes((before,)))


def leave(run: Run, step: Step, mapped: MapState, first: int, before: bytes | bytearray) -> None:
    """Items are not under way any more, from the first one on; `before` are the states that they had. Those that were
    held move up."""
    places = mapped.places
    if step.cache is not None or run.raised is not None:
        for item, state in enumerate(before, first):
            held = places is not None and places.leave(item)
            unready(run, run.line_of(step, item), int(state == _READY and not held))
    elif places is None:
        unready(run, step.line, before.count(_READY))
    else:
        held_items = sum(places.leave(item) for item in range(first, first + len(before)))
        unready(run, step.line, before.count(_READY) - held_items)
    while places is not None and (admitted := places.admit()) >= 0:
        enqueue(run, step, mapped.states, step.number, admitted, admitted + 1)


def unready(run: Run, line: int, count: int) -> None:
    if count:
        queue = run.queues[line]
        queue.count -= count
        if not queue.count:
            del run.queues[line]


def note_opened(run: Run, number: int, mapped: MapState) -> None:
    """The map is one of those with something to decide, or is not any more."""
    if mapped.has_due:
        if not run.opening:
            run.opening = {}
        run.opening[number] = None
    else:
        run.opening.pop(number, None)
