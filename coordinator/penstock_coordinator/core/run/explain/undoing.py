"""Steps that undo others: what they wait for, and why they did not run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from penstock_coordinator.core.plan.model import Json, Step
from penstock_coordinator.core.run.evolve.passing import later
from penstock_coordinator.core.run.explain.situations import Reason
from penstock_coordinator.core.run.explain.words import listed
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import StepState


def waiting_to_undo(run: Run, step: Step) -> Iterator[Reason]:
    """Of one that is PENDING."""
    undone = _undone(run, step)
    found = _nearest(run, step, lambda number: run.states[number] < StepState.COMPLETED)
    texts = [_is(run, number) for number in found]
    text = f'It undoes "{undone}", and waits until all that rests on that is undone'
    text += f": {listed(texts)}." if texts else "."
    yield Reason("Compensation", text, _details(undone, [run.plan.steps[number].name for number in found]))


def at_rest_undoing(run: Run, step: Step, state: StepState) -> Iterator[Reason]:
    undone = _undone(run, step)
    if state is StepState.SKIPPED:
        why = "if the run is rolled back" if run.undoing is None else "and there was nothing to undo"
        text = f'It undoes "{undone}", {why}.'
    elif state is StepState.UPSTREAM_FAILED:
        bad = (StepState.FAILED, StepState.CANCELLED, StepState.UPSTREAM_FAILED)
        texts = [_is(run, number) for number in _nearest(run, step, lambda number: run.states[number] in bad)]
        text = f'It did not undo "{undone}", because what rests on that could not be undone'
        text += f": {listed(texts)}." if texts else "."
    else:
        return
    yield Reason("Compensation", text, _details(undone, []))


def was_undone(run: Run, step: Step) -> Iterator[Reason]:
    """Of a step that is ROLLED_BACK."""
    if step.compensate is not None:
        name = run.plan.steps[step.compensate].name
        yield Reason("Compensation", f'"{name}" has undone it.', {"compensate": name})


def _undone(run: Run, step: Step) -> str:
    assert step.undoes is not None
    return run.plan.steps[step.undoes].name


def _is(run: Run, number: int) -> str:
    return f'"{run.plan.steps[number].name}" is {run.state_of(number).name}'


def _details(undone: str, waits_for: list[str]) -> dict[str, Json]:
    return {"undoes": undone, "waits_for": list(waits_for)}


def _nearest(run: Run, step: Step, wanted: Callable[[int], bool]) -> list[int]:
    """The steps that undo what rests on the one that this step undoes, of those wanted the nearest."""
    assert step.undoes is not None
    seen, ahead, found = {step.undoes}, [step.undoes], set()
    while ahead:
        for number in later(run, run.plan.steps[ahead.pop()]):
            if number in seen:
                continue
            seen.add(number)
            undo = run.plan.steps[number].compensate
            if undo is not None and wanted(undo):
                found.add(undo)
            else:
                ahead.append(number)
    return sorted(found)
