"""Steps that become READY, and step runs at rest."""

from __future__ import annotations

from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.evolve.counters import active_of, begin, keep, move
from penstock_coordinator.core.run.evolve.readying import enqueue, queue_items, start_queued_clock
from penstock_coordinator.core.run.evolve.resting import rest
from penstock_coordinator.core.run.ready import UNMAPPED
from penstock_coordinator.core.run.state import NOTHING, Run
from penstock_coordinator.core.run.states import StepState
from penstock_coordinator.core.run.timers import Timer, TimerKind

_READY = StepState.READY
_COMPLETED, _FAILED, _CANCELLED = StepState.COMPLETED, StepState.FAILED, StepState.CANCELLED


def steps_readied(run: Run, _seq: int, event: e.StepsReadied) -> None:
    steps, at = run.plan.steps, event.at
    for first, stop in event.ranges:
        for number in range(first, stop):
            step = steps[number]
            run.frontier.pop(number, None)
            run.active[number] = begin(run, number, WHOLE, at)
            move(run, step, WHOLE, _READY)
            enqueue(run, step, run.states, UNMAPPED, number, number + 1)
            if step.timeouts.overall is not None:
                due = at + step.timeouts.overall
                run.start_clock(Timer(due, TimerKind.OVERALL, number, WHOLE, 0, at))
            start_queued_clock(run, step, WHOLE, 0, at)
    if not run.frontier:
        run.frontier = NOTHING


def step_again_ready(run: Run, _seq: int, event: e.StepReturned | e.StepWoken) -> None:
    again_ready(run, event.step, event.item, event.at)


def again_ready(run: Run, number: int, item: int, at: int) -> None:
    step = run.plan.steps[number]
    active = active_of(run, number, item)
    active.wait = None
    active.ready_at = at
    move(run, step, item, _READY)
    if item == WHOLE:
        enqueue(run, step, run.states, UNMAPPED, number, number + 1)
        start_queued_clock(run, step, WHOLE, 0, at)
    else:
        queue_items(run, step, run.maps[number], item, item + 1)
        start_queued_clock(run, step, item, item + 1, at)


def step_completed(run: Run, _seq: int, event: e.StepCompleted) -> None:
    if event.token:
        run.hear(event.step, event.item, event.token)
    if event.kept:
        keep(run, event.step, event.item, event.kept)
    rest(run, event.step, event.item, _COMPLETED)


def artifacts_made(_run: Run, _seq: int, _event: e.ArtifactsMade) -> None:
    """For their rows alone: no decision rests on them."""


def attempt_timed(_run: Run, _seq: int, _event: e.AttemptTimed) -> None:
    """For its spans alone: no decision rests on it."""


def step_failed(run: Run, _seq: int, event: e.StepFailed) -> None:
    _note_failure(run, event.step, event.item, event.failure)
    rest(run, event.step, event.item, _FAILED)


def _note_failure(run: Run, step: int, item: int, failure: e.Failure) -> None:
    if run.first_failure is None and not run.plan.steps[step].allow_failure:
        run.first_failure = (step, item, failure)


def step_cancelled(run: Run, _seq: int, event: e.StepCancelled) -> None:
    active = run.active_step(event.step, event.item)
    if active is not None and active.displaced is not None:
        _note_failure(run, event.step, event.item, active.displaced)
    rest(run, event.step, event.item, _CANCELLED)


def steps_settled(run: Run, _seq: int, event: e.StepsSettled) -> None:
    for first, stop in event.ranges:
        for number in range(first, stop):
            rest(run, number, WHOLE, event.state)
