"""Step runs begin to wait for an agent."""

from __future__ import annotations

from penstock_coordinator.core.plan.model import Step
from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.mapped import MapState
from penstock_coordinator.core.run.ready import UNMAPPED, ReadyQueue
from penstock_coordinator.core.run.state import NOTHING, Run
from penstock_coordinator.core.run.states import StepState
from penstock_coordinator.core.run.timers import Timer, TimerKind

_PENDING, _READY = StepState.PENDING, StepState.READY


def ready_items(run: Run, step: Step, mapped: MapState, first: int, stop: int, at: int) -> None:
    """PENDING items become READY."""
    count = stop - first
    mapped.states[first:stop] = bytes((_READY,)) * count
    for tally in (mapped.tally, run.tally_of(step)):
        tally[_PENDING] -= count
        tally[_READY] += count
    mapped.note_ready(first, stop, at)
    queue_items(run, step, mapped, first, stop)
    if step.timeouts.overall is not None:
        due = at + step.timeouts.overall
        run.start_clock(Timer(due, TimerKind.OVERALL, step.number, first, stop, at))
    start_queued_clock(run, step, first, stop, at)


def queue_items(run: Run, step: Step, mapped: MapState, first: int, stop: int) -> None:
    """Items that are READY line up, or wait for a place to do so."""
    if mapped.places is not None:
        stop = mapped.places.take(first, stop)
    enqueue(run, step, mapped.states, step.number, first, stop)


def enqueue(run: Run, step: Step, states: bytearray, owner: int, first: int, stop: int) -> None:
    if first == stop:
        return
    line = step.line
    if step.cache is not None or (run.raised is not None and stop == first + 1):
        # Those that become READY for the first time, which may be many, are in none of the run's own lines.
        line = run.line_of(step, WHOLE if owner == UNMAPPED else first)
    if run.queues is NOTHING:
        run.queues = {}
    queue = run.queues.get(line)
    if queue is None:
        queue = run.queues[line] = ReadyQueue()
    queue.add(states, owner, first, stop)


def start_queued_clock(run: Run, step: Step, first: int, stop: int, at: int) -> None:
    limit = step.timeouts.queued
    if limit is not None:
        run.start_queued_clock(Timer(at + limit, TimerKind.QUEUED, step.number, first, stop, at))
