"""When something will have to happen in a run that no message brings about."""

from __future__ import annotations

import re
from heapq import heappop, heapreplace

from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.mapped import MapState
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.core.run.timers import Timer, TimerKind

_OPEN = re.compile(rb"[\x01-\x04]")
"""Step states that are not at rest."""


def next_deadline(run: Run, queued_open_at: int = 0) -> int | None:
    """The instant at which the run wants a ClockTick, None if only messages can move it. May be in the past: then one
    is due at once. Queued clocks ring no earlier than `queued_open_at`."""
    timer = _head(run, run.timers)
    queued = _queued_head(run)
    if queued is None:
        return None if timer is None else timer.due
    queued_due = max(queued.due, queued_open_at)
    return queued_due if timer is None else min(timer.due, queued_due)


def due_timer(run: Run, now: int, queued_open_at: int) -> Timer | None:
    """A timer that rings now, the oldest of its kind. It stays until an event takes its cause away."""
    timer = _head(run, run.timers)
    if timer is not None and timer.due <= now:
        return timer
    queued = _queued_head(run)
    if queued is not None and max(queued.due, queued_open_at) <= now:
        return queued
    return None


def _queued_head(run: Run) -> Timer | None:
    """The clocks of those that wait for an agent stand still while the run does."""
    return None if run.stands_still else _head(run, run.queued_timers)


def standing_timers(run: Run) -> list[Timer]:
    """Those that still have a cause, item by item, each once, in order. For tests: as slow as the run is large."""
    single = {each for timer in run.timers + run.queued_timers for each in _one_by_one(timer)}
    return sorted(timer for timer in single if _current(run, timer) is not None)


def _one_by_one(timer: Timer) -> list[Timer]:
    if timer.stop - timer.first <= 1:
        return [timer]
    return [timer._replace(first=item, stop=item + 1) for item in range(timer.first, timer.stop)]


def _head(run: Run, heap: list[Timer]) -> Timer | None:
    while heap:
        timer = heap[0]
        current = _current(run, timer)
        if current is None:
            heappop(heap)
        elif current is timer:
            return timer
        else:
            heapreplace(heap, current)
    return None


def _current(run: Run, timer: Timer) -> Timer | None:
    """The timer as it stands now: its range may have shrunk, and with no cause left there is none."""
    kind = timer.kind
    if kind is TimerKind.RUN:
        # A rollback takes the time that it needs.
        return timer if run.state < RunState.CANCELLING and run.undoing is None else None
    if kind is TimerKind.CANCEL:
        return timer if _cancel_stands(run, timer) else None
    if run.doomed(timer.step):
        return None
    if kind is TimerKind.WAKE:
        active = run.active_step(timer.step, timer.first)
        wait = None if active is None else active.wait
        return timer if wait is not None and wait.until == timer.due else None
    if timer.first == WHOLE:
        return timer if _step_stands(run, timer) else None
    return _items_standing(run.maps[timer.step], timer)


def _cancel_stands(run: Run, timer: Timer) -> bool:
    """The last deadline rings for leases and for runs that steps wait for: all else comes to rest without waiting."""
    if run.state is not RunState.CANCELLING or run.cancel_deadline != timer.due:
        return False
    return not run.immediate or run.running > 0 or bool(run.children)


def _step_stands(run: Run, timer: Timer) -> bool:
    active = run.active.get(timer.step)
    if active is None:
        return False
    if timer.kind is TimerKind.OVERALL:
        return True
    return run.states[timer.step] == StepState.READY and active.ready_at == timer.since


def _items_standing(mapped: MapState, timer: Timer) -> Timer | None:
    if timer.kind is TimerKind.OVERALL:
        found = _OPEN.search(mapped.states, timer.first, timer.stop)
        first = found.start() if found is not None else -1
    else:
        first = _first_queued(mapped, timer)
    if first < 0:
        return None
    return timer if first == timer.first else timer._replace(first=first)


def _first_queued(mapped: MapState, timer: Timer) -> int:
    """The first item of the range that has been READY since the clock was started; -1 if there is none."""
    at = mapped.states.find(StepState.READY, timer.first, timer.stop)
    while at >= 0 and not queued_since(mapped, at, timer.since):
        at = mapped.states.find(StepState.READY, at + 1, timer.stop)
    return at


def queued_since(mapped: MapState, item: int, since: int) -> bool:
    """Whether an item that is READY became so at that instant."""
    active = mapped.active.get(item)
    return (mapped.first_ready_at(item) if active is None else active.ready_at) == since
