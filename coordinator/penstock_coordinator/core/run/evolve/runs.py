"""The run as a whole: its start, its stop, its end."""

from __future__ import annotations

from heapq import heappush

from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.evolve.budget import begin_spending
from penstock_coordinator.core.run.evolve.control import unpause
from penstock_coordinator.core.run.evolve.following import close_doomed
from penstock_coordinator.core.run.evolve.resting import release_cleanup
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.core.run.timers import Timer, TimerKind


def run_started(run: Run, _seq: int, event: e.RunStarted) -> None:
    run.created_at = event.at
    run.parameters = event.parameters
    run.semantics = event.semantics
    run.cache = event.cache
    run.deadline = event.deadline
    run.admitted_at = event.at
    if run.plan.budget is not None:
        begin_spending(run)
    if event.deadline is not None:
        heappush(run.timers, Timer(event.deadline, TimerKind.RUN))
    for number in run.plan.entries:
        run.frontier[number] = None
    if not run.open_work:
        release_cleanup(run)


def run_cancelling(run: Run, _seq: int, event: e.RunCancelling) -> None:
    unpause(run, event.at)
    run.state = RunState.CANCELLING
    run.verdict = event.verdict
    run.reason = event.reason
    run.immediate = event.now
    run.cancel_deadline = event.deadline
    run.held = None
    heappush(run.timers, Timer(event.deadline, TimerKind.CANCEL))
    close_doomed(run)


def run_ended(run: Run, _seq: int, event: e.RunEnded) -> None:
    run.state = event.state
    run.paused = None
    run.reason = event.reason
    run.ended_at = event.at
    run.timers.clear()
    run.queued_timers.clear()
