"""Steps that are runs of pipelines: they start, and what becomes of a step when its run ends.

Each run of it is an attempt of the step. Where the run is to be stopped, its end is waited for.
"""

from __future__ import annotations

from penstock_coordinator.core.plan import values
from penstock_coordinator.core.plan.model import CHILDREN, PipelineAction
from penstock_coordinator.core.run.child_ids import child_run_id
from penstock_coordinator.core.run.displaced import stopped, stopping
from penstock_coordinator.core.run.events import (
    Budget,
    ChildEnded,
    ChildStarted,
    Failure,
    StepCompleted,
    StepFailed,
    StepReturned,
    StepWaiting,
    WaitReason,
)
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import ChildRefused, ChildReported
from penstock_coordinator.core.run.retrying import backoff, is_retried
from penstock_coordinator.core.run.state import ActiveStep, Run
from penstock_coordinator.core.run.states import RunState

SUB_PIPELINE = "SubPipeline"


def start(run: Run, now: int, ledger: Ledger) -> None:
    """What is READY to be a run becomes one, the longest READY first, as much as the turn has room for."""
    for step, item in run.queues[CHILDREN].head(max(ledger.room, 0)):
        ledger.room -= 1
        active = run.active_step(step, item)
        attempt = (run.spent_before(step, item) if active is None else active.attempts) + 1
        # The number of an item may have been that of another place before.
        run_id = child_run_id(run.run_id, step, run.kept_number(step, item), attempt, now)
        ledger.emit(ChildStarted(now, step, item, attempt, run_id))


def reported(run: Run, message: ChildReported, ledger: Ledger) -> None:
    """The end of the run that the step waits for; of any other nothing is heard."""
    active = run.waits_for(message.step, message.item, message.run_id)
    if active is None:
        return
    if message.state is RunState.COMPLETED:
        _completed(run, message, active, ledger)
    else:
        _failed(run, message, active, message.failure or _ended_badly(run, message), ledger)


def _ended_badly(run: Run, message: ChildReported) -> Failure:
    return Failure(SUB_PIPELINE, f"the run of {_pipeline(run, message.step)} is {message.state.name}")


def _pipeline(run: Run, step: int) -> str:
    action = run.plan.steps[step].action
    assert isinstance(action, PipelineAction)
    return f'"{action.pipeline}"'


def _completed(run: Run, message: ChildReported, active: ActiveStep, ledger: Ledger) -> None:
    now, step, item = message.now, message.step, message.item
    try:
        kept = message.kept
        if kept is None:
            kept = values.keep(run.plan.steps[step], message.output or values.NULL)
    except values.InvalidJson as error:
        _failed(run, message, active, Failure("OutputUnserialisable", f"the output: {error}"), ledger)
        return
    ledger.emit(ChildEnded(now, step, item, message.run_id, message.state))
    ledger.emit(StepCompleted(now, step, item, 0, kept))


def _failed(run: Run, message: ChildReported, active: ActiveStep, why: Failure, ledger: Ledger) -> None:
    now, step, item = message.now, message.step, message.item
    state = RunState.CANCELLED if message.state is RunState.CANCELLED else RunState.FAILED
    ledger.emit(ChildEnded(now, step, item, message.run_id, state, why))
    retry = run.plan.steps[step].retry
    if stopping(run, active):
        stopped(run, active, now, ledger)
    elif active.failures >= retry.max_attempts or not is_retried(retry, {why.reason}):
        ledger.emit(StepFailed(now, step, item, why, Budget.RETRIES))
    elif wait := backoff(retry, active.failures, message.jitter):
        ledger.emit(StepWaiting(now, step, item, WaitReason.BACKOFF, now + wait))
    else:
        ledger.emit(StepReturned(now, step, item))


def refused(run: Run, message: ChildRefused, ledger: Ledger) -> None:
    """No run was started, and none will be."""
    active = run.waits_for(message.step, message.item, message.run_id)
    if active is None:
        return
    now, step, item = message.now, message.step, message.item
    ledger.emit(ChildEnded(now, step, item, message.run_id, RunState.FAILED, message.failure))
    if stopping(run, active):
        stopped(run, active, now, ledger)
    else:
        ledger.emit(StepFailed(now, step, item, message.failure))
