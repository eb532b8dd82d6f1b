"""The run as a whole: its start, its stop, its end."""

from __future__ import annotations

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
    run.admitted_at = event.at
    if event.cache is not run.cache:
        run.cache = event.cache
    if run.plan.budget is not None:
        begin_spending(run)
    if event.deadline is not None:
        run.deadline = event.deadline
        run.start_clock(Timer(event.deadline, TimerKind.RUN))
    for number in run.plan.entries:
        run.add_to_frontier(number)
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
    run.start_clock(Timer(event.deadline, TimerKind.CANCEL))
    close_doomed(run)


def run_ended(run: Run, _seq: int, event: e.RunEnded) -> None:
    run.state = event.state
    run.ended_at = event.at
    if run.paused is not None:
        run.paused = None
    if run.reason != event.reason:
        run.reason = event.reason
    run.stop_clocks()
