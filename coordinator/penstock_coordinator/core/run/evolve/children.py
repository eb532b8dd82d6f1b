"""Step runs that are runs of their own, from their start to their end."""

from __future__ import annotations

from penstock_coordinator.core.plan.model import CHILDREN
from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.evolve.attempts import active_or_new, trim
from penstock_coordinator.core.run.evolve.counters import active_of, move
from penstock_coordinator.core.run.evolve.resting import count_away, forget_child
from penstock_coordinator.core.run.state import Run, Wait
from penstock_coordinator.core.run.states import RunState, StepState


def child_started(run: Run, _seq: int, event: e.ChildStarted) -> None:
    if run.state is RunState.PENDING:
        run.state = RunState.RUNNING
    if run.started_at is None:
        run.started_at = event.at
    step, item = run.plan.steps[event.step], event.item
    active = active_or_new(run, event.step, item)
    active.attempts = event.attempt
    active.leased_at = event.at
    if active.started_at is None:
        active.started_at = event.at
    active.wait = Wait(e.WaitReason.SUB_PIPELINE, None, event.run_id.hex())
    if not run.children:
        run.children = {}
    run.children[event.step, item] = event.run_id
    count_away(run, step, 1)
    move(run, step, item, StepState.WAITING)
    trim(run, CHILDREN)


def child_ended(run: Run, _seq: int, event: e.ChildEnded) -> None:
    forget_child(run, run.plan.steps[event.step], event.item)
    if event.failure is not None:
        active = active_of(run, event.step, event.item)
        active.failures += 1
        active.last_failure = event.failure
        if not event.reported:
            if not run.given_up:
                run.given_up = {}
            run.given_up[event.run_id] = event.failure.message
