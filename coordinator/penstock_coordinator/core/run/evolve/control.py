"""A run that is paused, and goes on."""

from __future__ import annotations

from heapq import heapify

from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.state import Paused, Run
from penstock_coordinator.core.run.states import RunState


def run_paused(run: Run, _seq: int, event: e.RunPaused) -> None:
    since = event.at if run.paused is None else run.paused.at
    run.state = RunState.PAUSED
    run.paused = Paused(since, event.requested_by, event.reason, event.from_above)


def run_resumed(run: Run, _seq: int, event: e.RunResumed) -> None:
    unpause(run, event.at)
    if not event.from_above:
        run.resumed_at = event.at
    if run.undoing is not None and run.undoing.begun:
        run.state = RunState.ROLLING_BACK
    else:
        run.state = RunState.PENDING if run.started_at is None else RunState.RUNNING


def unpause(run: Run, at: int) -> None:
    """The clocks of those that wait for an agent go on where they stood, if nothing else holds them."""
    if run.paused is None:
        return
    clocks_go_on(run, at)
    run.paused = None


def clocks_go_on(run: Run, at: int) -> None:
    """The pause of the run, or what its budget holds, ends. If the other goes on, the time until now is counted."""
    began = [] if run.paused is None else [run.paused.at]
    spending = run.spending
    if spending is not None:
        if run.over_budget and spending.since is not None:
            began.append(spending.since)
        began = [max(min(began), spending.counted)]
        spending.counted = at
    (since,) = began
    run.queued_timers = [timer._replace(due=timer.due + at - max(since, timer.since)) for timer in run.queued_timers]
    heapify(run.queued_timers)
