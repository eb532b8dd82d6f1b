"""A run goes on with another version of its pipeline. It is at rest."""

from __future__ import annotations

from array import array

from penstock_coordinator.core.plan.model import Plan, Step
from penstock_coordinator.core.run.evolve.maps import watchers_of
from penstock_coordinator.core.run.mapped import MapState, Places
from penstock_coordinator.core.run.state import NOTHING, RETIRED, Run
from penstock_coordinator.core.run.states import StepState


def go_on_with(run: Run, plan: Plan) -> None:
    """The plan is compiled onto the run's. Steps that it has besides are PENDING."""
    for step in plan.steps[len(run.states) :]:
        run.states.append(StepState.PENDING if step.undoes is None else StepState.SKIPPED)
    if plan.undoing or run.rested:
        run.rested = run.rested[:] + array("Q", bytes(8 * (len(plan.steps) - len(run.rested))))
    run.plan = plan
    run.plans = NOTHING
    # Nobody waits in a line, and those of the new plan are at other positions.
    run.queues = NOTHING
    run.raised = None
    for step in plan.steps:
        if step.retired:
            _retire(run, step.number)
            continue
        mapped = run.maps.get(step.number)
        if mapped is not None:
            _renew_map(plan, step, mapped)
        if not step.kept_paths and not step.kept_lengths:
            run.kept.pop(step.number, None)


def _retire(run: Run, number: int) -> None:
    run.states[number] = RETIRED
    run.maps.pop(number, None)
    run.kept.pop(number, None)


def _renew_map(plan: Plan, step: Step, mapped: MapState) -> None:
    """A map that stays expanded; those that do not are forgotten next."""
    if step.map is None:
        return
    mapped.watchers = watchers_of(plan, step)
    mapped.places = Places(step.map.max_parallel, mapped.count) if step.map.max_parallel else None
    mapped.values = None
    if not step.kept_paths and not step.kept_lengths:
        mapped.kept.clear()
