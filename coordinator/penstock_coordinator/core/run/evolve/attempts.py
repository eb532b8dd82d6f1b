"""Leases, their ends, and waits."""

from __future__ import annotations

from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.evolve.counters import active_of, begin, move
from penstock_coordinator.core.run.raised import Raised, RaisedLine
from penstock_coordinator.core.run.state import ActiveStep, Run, Wait
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.core.run.timers import Timer, TimerKind

_RUNNING, _WAITING = StepState.RUNNING, StepState.WAITING


def steps_leased(run: Run, seq: int, event: e.StepsLeased) -> None:
    steps, at = run.plan.steps, event.at
    if run.state is RunState.PENDING:
        run.state = RunState.RUNNING
    if run.started_at is None:
        run.started_at = at
    line = -1
    for number, item, attempt in event.leases:
        step = steps[number]
        active = active_or_new(run, number, item)
        active.attempts = attempt
        active.token = seq
        active.session = event.session
        active.agent = event.agent
        active.leased_at = at
        if active.started_at is None:
            active.started_at = at
        move(run, step, item, _RUNNING)
        own = step.line if run.raised is None else run.agents_line(number, item)
        if own != line:
            trim(run, line)
            line = own
    trim(run, line)


def active_or_new(run: Run, step: int, item: int) -> ActiveStep:
    """An item is under way from its first attempt on."""
    if item == WHOLE:
        return run.active[step]
    mapped = run.maps[step]
    active = mapped.active.get(item)
    if active is None:
        active = mapped.active[item] = begin(run, step, item, mapped.first_ready_at(item))
    return active


def trim(run: Run, line: int) -> None:
    """The line's queue forgets those at its head that are not READY any more."""
    queue = run.queues.get(line)
    if queue is not None:
        queue.trim()


def attempt_failed(run: Run, _seq: int, event: e.AttemptFailed) -> None:
    active = active_of(run, event.step, event.item)
    active.failures += 1
    active.last_failure = event.failure
    active.token = 0
    if event.reported:
        run.hear(event.step, event.item, event.token)


def memory_raised(run: Run, _seq: int, event: e.MemoryRaised) -> None:
    if run.raised is None:
        run.raised = Raised(run.plan)
    base = run.plan.steps[event.step].line
    run.raised.put(run.plan, event.step, event.item, RaisedLine(base, event.memory_bytes, event.wanted_bytes))


def lease_lost(run: Run, _seq: int, event: e.LeaseLost) -> None:
    active = active_of(run, event.step, event.item)
    active.token = 0
    if event.charge is e.Charge.NOBODY:
        active.attempts -= 1
    elif event.charge is e.Charge.INFRASTRUCTURE:
        active.losses += 1
    elif event.charge is e.Charge.POISON:
        active.deaths = (*active.deaths, event.boot)


def step_waiting(run: Run, _seq: int, event: e.StepWaiting) -> None:
    active = active_of(run, event.step, event.item)
    active.wait = Wait(event.reason, event.until, event.key)
    move(run, run.plan.steps[event.step], event.item, _WAITING)
    if event.until is not None:
        run.start_clock(Timer(event.until, TimerKind.WAKE, event.step, event.item, 0, event.at))
