"""The fold: what each event makes of a run. Total and dumb.

It decides nothing, so it gives the same on every replay, for ever. Per settled step it does no more than arithmetic on
the step's dependants; nothing here takes time by the size of the run but the start of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.events import Event
from penstock_coordinator.core.run.evolve import (
    admission,
    attempts,
    budget,
    caching,
    children,
    control,
    maps,
    reopening,
    rollback,
    runs,
    steps,
)
from penstock_coordinator.core.run.state import Run


def evolve(run: Run, seq: int, event: Event) -> None:
    """Fold one event into the run, in place. `seq` is the event's number, one more than the run's newest."""
    _TABLE[type(event)](run, seq, event)
    run.seq = seq


_TABLE: dict[type, Callable[[Run, int, Any], None]] = {
    e.RunStarted: runs.run_started,
    e.StepsReadied: steps.steps_readied,
    e.StepsSettled: steps.steps_settled,
    e.MapExpanded: maps.map_expanded,
    e.ItemsAdded: maps.items_added,
    e.ItemsReadied: maps.items_readied,
    e.ItemsSettled: maps.items_settled,
    e.StepsLeased: attempts.steps_leased,
    e.StepCompleted: steps.step_completed,
    e.AttemptFailed: attempts.attempt_failed,
    e.StepFailed: steps.step_failed,
    e.StepWaiting: attempts.step_waiting,
    e.StepWoken: steps.step_again_ready,
    e.LeaseLost: attempts.lease_lost,
    e.MemoryRaised: attempts.memory_raised,
    e.StepReturned: steps.step_again_ready,
    e.StepCancelled: steps.step_cancelled,
    e.MapSettled: maps.map_settled,
    e.RunCancelling: runs.run_cancelling,
    e.RunEnded: runs.run_ended,
    e.ChildStarted: children.child_started,
    e.ChildEnded: children.child_ended,
    e.RunPaused: control.run_paused,
    e.RunResumed: control.run_resumed,
    e.RunReopened: reopening.run_reopened,
    e.RunHeld: admission.run_held,
    e.RunAdmitted: admission.run_admitted,
    e.StepDisplaced: admission.step_displaced,
    e.RunRollingBack: rollback.run_rolling_back,
    e.StepsRolledBack: rollback.steps_rolled_back,
    e.ItemsRolledBack: rollback.items_rolled_back,
    e.CacheAsked: caching.cache_asked,
    e.StepCached: caching.step_cached,
    e.CacheMissed: caching.cache_missed,
    e.CacheAwaited: caching.cache_awaited,
    e.ArtifactsMade: steps.artifacts_made,
    e.AttemptTimed: steps.attempt_timed,
    e.CostBudgetCharged: budget.charged,
    e.CostBudgetExceeded: budget.exceeded,
    e.CostBudgetRaised: budget.raised,
}
