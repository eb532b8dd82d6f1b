"""How a step run ends that had to make place for another."""

from __future__ import annotations

from penstock_coordinator.core.run.events import StepCancelled, StepFailed
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.state import ActiveStep, Run


def stopping(run: Run, active: ActiveStep) -> bool:
    """Whether the step run comes to rest with its attempt, unless that completes."""
    return active.displaced is not None or run.doomed(active.step)


def stopped(run: Run, active: ActiveStep, now: int, ledger: Ledger) -> None:
    """Its attempt, if it had one, has ended. Where a failure is allowed, being displaced is one."""
    failure, step = active.displaced, active.step
    if failure is not None and run.plan.steps[step].allow_failure and not run.doomed(step):
        ledger.emit(StepFailed(now, step, active.item, failure))
    else:
        ledger.emit(StepCancelled(now, step, active.item))
