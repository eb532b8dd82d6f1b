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
    """The clocks of those that wait for an agent go on where they stood."""
    if run.paused is None:
        return
    since, run.paused = run.paused.at, None
    run.queued_timers = [timer._replace(due=timer.due + at - max(since, timer.since)) for timer in run.queued_timers]
    heapify(run.queued_timers)
