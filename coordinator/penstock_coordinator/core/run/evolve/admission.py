"""Places under limits: of runs, and of steps."""

from __future__ import annotations

from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.events import WHOLE, Failure
from penstock_coordinator.core.run.evolve.counters import active_of, begin
from penstock_coordinator.core.run.state import Held, Run
from penstock_coordinator.core.run.timers import Timer, TimerKind


def run_held(run: Run, _seq: int, event: e.RunHeld) -> None:
    run.held = Held(event.key, event.limit, event.at)


def run_admitted(run: Run, _seq: int, event: e.RunAdmitted) -> None:
    run.held = None
    run.admitted_at = event.at
    run.deadline = event.deadline
    if event.deadline is not None:
        run.start_clock(Timer(event.deadline, TimerKind.RUN))


def step_displaced(run: Run, _seq: int, event: e.StepDisplaced) -> None:
    failure = Failure("Displaced", e.displaced_by(event))
    if event.item == WHOLE:
        active = active_of(run, event.step, WHOLE)
    else:
        mapped = run.maps[event.step]
        active = mapped.active.setdefault(
            event.item, begin(run, event.step, event.item, mapped.first_ready_at(event.item))
        )
    active.displaced = failure
