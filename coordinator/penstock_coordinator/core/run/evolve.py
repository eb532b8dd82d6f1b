"""The fold: what each event makes of a run. Total and dumb.

It decides nothing, so it gives the same on every replay, for ever. Per settled step it does no more than arithmetic on
the step's dependants; nothing here takes time by the size of the run but the start of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush
from typing import Any

from penstock_coordinator.core.plan.model import Step, TriggerRule
from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.events import WHOLE, Event
from penstock_coordinator.core.run.ready import UNMAPPED, ReadyQueue
from penstock_coordinator.core.run.state import ActiveStep, MapState, Run, Wait
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.core.run.timers import Timer, TimerKind
from penstock_coordinator.core.run.upstream import EARLY_RULES, fires_early, standing

_PENDING, _READY, _RUNNING, _WAITING = StepState.PENDING, StepState.READY, StepState.RUNNING, StepState.WAITING
_COMPLETED, _FAILED, _CANCELLED = StepState.COMPLETED, StepState.FAILED, StepState.CANCELLED


def evolve(run: Run, seq: int, event: Event) -> None:
    """Fold one event into the run, in place. `seq` is the event's number, one more than the run's newest."""
    _TABLE[type(event)](run, seq, event)
    run.seq = seq


# --- the run ---------------------------------------------------------------------------------------------------------


def _run_started(run: Run, _seq: int, event: e.RunStarted) -> None:
    run.created_at = event.at
    run.parameters = event.parameters
    run.semantics = event.semantics
    run.deadline = event.deadline
    if event.deadline is not None:
        heappush(run.timers, Timer(event.deadline, TimerKind.RUN))
    for step in run.plan.steps:
        if (not step.upstream and not step.cleanup) or (step.upstream and step.rule is TriggerRule.ALWAYS):
            run.frontier[step.number] = None
    if not run.open_work:
        _release_cleanup(run)


def _run_cancelling(run: Run, _seq: int, event: e.RunCancelling) -> None:
    run.state = RunState.CANCELLING
    run.verdict = event.verdict
    run.reason = event.reason
    run.immediate = event.now
    run.cancel_deadline = event.deadline
    heappush(run.timers, Timer(event.deadline, TimerKind.CANCEL))


def _run_ended(run: Run, _seq: int, event: e.RunEnded) -> None:
    run.state = event.state
    run.reason = event.reason
    run.ended_at = event.at
    run.timers.clear()
    run.queued_timers.clear()


# --- steps become READY ----------------------------------------------------------------------------------------------


def _steps_readied(run: Run, _seq: int, event: e.StepsReadied) -> None:
    steps, at = run.plan.steps, event.at
    for first, stop in event.ranges:
        for number in range(first, stop):
            step = steps[number]
            run.frontier.pop(number, None)
            run.active[number] = ActiveStep(number, WHOLE, at)
            _move(run, step, WHOLE, _READY)
            _enqueue(run, step, run.states, UNMAPPED, number, number + 1)
            if step.timeouts.overall is not None:
                due = at + step.timeouts.overall
                heappush(run.timers, Timer(due, TimerKind.OVERALL, number, WHOLE, 0, at))
            _start_queued_clock(run, step, WHOLE, 0, at)


def _map_expanded(run: Run, _seq: int, event: e.MapExpanded) -> None:
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
        _ready_items(run, step, mapped, 0, event.count, event.at)
    else:
        run.opening[number] = None


def _items_readied(run: Run, _seq: int, event: e.ItemsReadied) -> None:
    step, mapped = run.plan.steps[event.step], run.maps[event.step]
    for first, stop in event.ranges:
        _ready_items(run, step, mapped, first, stop, event.at)
    _note_opened(run, event.step, mapped)


def _ready_items(run: Run, step: Step, mapped: MapState, first: int, stop: int, at: int) -> None:
    """PENDING items become READY."""
    count = stop - first
    mapped.states[first:stop] = bytes((_READY,)) * count
    for tally in (mapped.tally, run.tallies[step.cleanup]):
        tally[_PENDING] -= count
        tally[_READY] += count
    mapped.ready_marks.append((first, at))
    run.ready[step.line] = run.ready.get(step.line, 0) + count
    _enqueue(run, step, mapped.states, step.number, first, stop)
    if step.timeouts.overall is not None:
        due = at + step.timeouts.overall
        heappush(run.timers, Timer(due, TimerKind.OVERALL, step.number, first, stop, at))
    _start_queued_clock(run, step, first, stop, at)


def _step_again_ready(run: Run, _seq: int, event: e.StepReturned | e.StepWoken) -> None:
    step, item = run.plan.steps[event.step], event.item
    active = _active(run, event.step, item)
    active.wait = None
    active.ready_at = event.at
    _move(run, step, item, _READY)
    if item == WHOLE:
        _enqueue(run, step, run.states, UNMAPPED, event.step, event.step + 1)
        _start_queued_clock(run, step, WHOLE, 0, event.at)
    else:
        _enqueue(run, step, run.maps[event.step].states, event.step, item, item + 1)
        _start_queued_clock(run, step, item, item + 1, event.at)


def _enqueue(run: Run, step: Step, states: bytearray, owner: int, first: int, stop: int) -> None:
    queue = run.queues.get(step.line)
    if queue is None:
        queue = run.queues[step.line] = ReadyQueue()
    queue.add(states, owner, first, stop)


def _start_queued_clock(run: Run, step: Step, first: int, stop: int, at: int) -> None:
    limit = step.timeouts.queued
    if limit is not None:
        heappush(run.queued_timers, Timer(at + limit, TimerKind.QUEUED, step.number, first, stop, at))


# --- attempts --------------------------------------------------------------------------------------------------------


def _steps_leased(run: Run, seq: int, event: e.StepsLeased) -> None:
    steps, at = run.plan.steps, event.at
    if run.state is RunState.PENDING:
        run.state = RunState.RUNNING
    if run.started_at is None:
        run.started_at = at
    line = -1
    for number, item, attempt in event.leases:
        step = steps[number]
        active = run.active[number] if item == WHOLE else _active_item(run, number, item)
        active.attempts = attempt
        active.token = seq
        active.session = event.session
        active.agent = event.agent
        active.leased_at = at
        if active.started_at is None:
            active.started_at = at
        _move(run, step, item, _RUNNING)
        if step.line != line:
            _trim(run, line)
            line = step.line
    _trim(run, line)


def _active_item(run: Run, step: int, item: int) -> ActiveStep:
    mapped = run.maps[step]
    active = mapped.active.get(item)
    if active is None:
        active = mapped.active[item] = ActiveStep(step, item, mapped.first_ready_at(item))
    return active


def _trim(run: Run, line: int) -> None:
    queue = run.queues.get(line)
    if queue is not None:
        if line in run.ready:
            queue.trim()
        else:
            queue.clear()


def _attempt_failed(run: Run, _seq: int, event: e.AttemptFailed) -> None:
    active = _active(run, event.step, event.item)
    active.failures += 1
    active.last_failure = event.failure
    active.token = 0
    if event.reported:
        run.heard.append((event.step, event.item, event.token))


def _lease_lost(run: Run, _seq: int, event: e.LeaseLost) -> None:
    active = _active(run, event.step, event.item)
    active.token = 0
    if event.charge is e.Charge.NOBODY:
        active.attempts -= 1
    elif event.charge is e.Charge.INFRASTRUCTURE:
        active.losses += 1


def _step_waiting(run: Run, _seq: int, event: e.StepWaiting) -> None:
    active = _active(run, event.step, event.item)
    active.wait = Wait(event.reason, event.until, event.key)
    _move(run, run.plan.steps[event.step], event.item, _WAITING)
    if event.until is not None:
        heappush(run.timers, Timer(event.until, TimerKind.WAKE, event.step, event.item, 0, event.at))


# --- step runs come to rest ------------------------------------------------------------------------------------------


def _step_completed(run: Run, _seq: int, event: e.StepCompleted) -> None:
    run.heard.append((event.step, event.item, event.token))
    if event.kept:
        kept = run.kept if event.item == WHOLE else run.maps[event.step].kept
        kept[event.step if event.item == WHOLE else event.item] = event.kept
    _rest(run, event.step, event.item, _COMPLETED)


def _step_failed(run: Run, _seq: int, event: e.StepFailed) -> None:
    if run.first_failure is None and not run.plan.steps[event.step].allow_failure:
        run.first_failure = (event.step, event.item, event.failure)
    _rest(run, event.step, event.item, _FAILED)


def _step_cancelled(run: Run, _seq: int, event: e.StepCancelled) -> None:
    _rest(run, event.step, event.item, _CANCELLED)


def _steps_settled(run: Run, _seq: int, event: e.StepsSettled) -> None:
    for first, stop in event.ranges:
        for number in range(first, stop):
            _rest(run, number, WHOLE, event.state)


def _items_settled(run: Run, _seq: int, event: e.ItemsSettled) -> None:
    step, mapped = run.plan.steps[event.step], run.maps[event.step]
    for first, stop in event.ranges:
        before = mapped.states[first:stop]
        mapped.states[first:stop] = bytes((event.state,)) * (stop - first)
        for tally in (mapped.tally, run.tallies[step.cleanup]):
            for state in (_PENDING, _READY):
                tally[state] -= before.count(state)
            tally[event.state] += stop - first
        _unready(run, step.line, before.count(_READY))
        if mapped.active:
            for item in range(first, stop):
                mapped.active.pop(item, None)
        _items_rested(run, step, mapped, event.state, stop - first)
    _note_opened(run, event.step, mapped)


def _map_settled(run: Run, _seq: int, event: e.MapSettled) -> None:
    run.finished_maps.pop(event.step, None)
    run.maps[event.step].values = None
    run.states[event.step] = event.state
    _settle(run, run.plan.steps[event.step], event.state)


def _rest(run: Run, number: int, item: int, state: StepState) -> None:
    step = run.plan.steps[number]
    _move(run, step, item, state)
    if item == WHOLE:
        run.active.pop(number, None)
        _settle(run, step, state)
    else:
        mapped = run.maps[number]
        mapped.active.pop(item, None)
        _items_rested(run, step, mapped, state, 1)
        _note_opened(run, number, mapped)


def _settle(run: Run, step: Step, state: int) -> None:
    """A step as a whole is at rest: tell its dependants."""
    run.frontier.pop(step.number, None)
    steps, states, open_upstream = run.plan.steps, run.states, run.open_upstream
    seen = standing(state, step.allow_failure)
    for number in step.downstream:
        left = open_upstream[number] - 1
        open_upstream[number] = left
        if (not left or fires_early(steps[number].rule, seen)) and states[number] == _PENDING:
            run.frontier[number] = None
    run.open_steps -= 1
    if not step.cleanup:
        run.open_work -= 1
        if not run.open_work:
            _release_cleanup(run)


def _release_cleanup(run: Run) -> None:
    for number in run.plan.cleanup_roots:
        if run.states[number] == _PENDING:
            run.frontier[number] = None


def _items_rested(run: Run, step: Step, mapped: MapState, state: int, count: int) -> None:
    mapped.remaining -= count
    if not mapped.remaining:
        run.finished_maps[step.number] = None
    seen = standing(state, step.allow_failure)
    for number in mapped.watchers:
        if run.states[number] == _PENDING and fires_early(run.plan.steps[number].rule, seen):
            run.frontier[number] = None


# --- counters --------------------------------------------------------------------------------------------------------


def _active(run: Run, step: int, item: int) -> ActiveStep:
    return run.active[step] if item == WHOLE else run.maps[step].active[item]


def _move(run: Run, step: Step, item: int, after: StepState) -> None:
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
        _unready(run, step.line, 1)
    elif before == _RUNNING:
        run.running -= 1
    if after == _READY:
        run.ready[step.line] = run.ready.get(step.line, 0) + 1
    elif after == _RUNNING:
        run.running += 1


def _unready(run: Run, line: int, count: int) -> None:
    if count:
        left = run.ready[line] - count
        if left:
            run.ready[line] = left
        else:
            del run.ready[line]


def _note_opened(run: Run, number: int, mapped: MapState) -> None:
    """The conditions of all items are decided."""
    if not mapped.tally[_PENDING]:
        run.opening.pop(number, None)


_TABLE: dict[type, Callable[[Run, int, Any], None]] = {
    e.RunStarted: _run_started,
    e.StepsReadied: _steps_readied,
    e.StepsSettled: _steps_settled,
    e.MapExpanded: _map_expanded,
    e.ItemsReadied: _items_readied,
    e.ItemsSettled: _items_settled,
    e.StepsLeased: _steps_leased,
    e.StepCompleted: _step_completed,
    e.AttemptFailed: _attempt_failed,
    e.StepFailed: _step_failed,
    e.StepWaiting: _step_waiting,
    e.StepWoken: _step_again_ready,
    e.LeaseLost: _lease_lost,
    e.StepReturned: _step_again_ready,
    e.StepCancelled: _step_cancelled,
    e.MapSettled: _map_settled,
    e.RunCancelling: _run_cancelling,
    e.RunEnded: _run_ended,
}
