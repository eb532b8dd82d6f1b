"""Steps that undo others: each is there for one step alone, and takes no part in the graph."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.validation.known import Known, mapped_outputs
from penstock_coordinator.core.plan.validation.report import Report, member
from penstock_coordinator.core.plan.validation.sources import unknown_step

_OWN_WAY = ("depends_on", "trigger_rule", "when", "map", "cleanup", "compensate")
"""What says when a step runs: of one that undoes another the rollback alone does."""
_ON_FAILURE = frozenset(pb.OnFailure.values())


def check_on_failure(report: Report, spec: pb.PipelineSpec) -> None:
    if spec.on_failure not in _ON_FAILURE:
        report.add("on_failure", f"{spec.on_failure} is not known: use one of the OnFailure enum")


def check_compensation(report: Report, known: Known) -> None:
    if not known.undoes:
        # A name that no step has is all that can be wrong then.
        for number, step in enumerate(known.spec.steps):
            if step.compensate:
                _check_named(report, known, number, step)
        return
    for number, step in enumerate(known.spec.steps):
        if step.compensate:
            _check_named(report, known, number, step)
        if number in known.undoes:
            _check_undoing(report, known, number, step)
        _check_reads(report, known, number, step)
    for field, reference in _run_outputs(known.spec):
        if known.numbers.get(reference.step) in known.undoes:
            text = f"{quoted(reference.step)} runs only when the run is rolled back, and gives it nothing"
            report.add(f"{field}.step", f"{text}: name another step")


def _check_named(report: Report, known: Known, number: int, step: pb.StepSpec) -> None:
    field, name = f"steps[{number}].compensate", step.compensate
    undoing = known.numbers.get(name)
    if undoing is None:
        report.add(field, unknown_step(name, known))
    elif undoing == number:
        report.add(field, f"the step {quoted(name)} cannot undo itself: name another step")
    elif known.undoes[undoing] != number:
        other = known.spec.steps[known.undoes[undoing]].name
        text = f"{quoted(name)} undoes {quoted(other)} already, and a step undoes one other"
        report.add(field, f"{text}: give this one a step of its own, which may run the same")
    if step.cleanup:
        text = "a cleanup step stays done when the run is rolled back: remove this, or make it no cleanup step"
        report.add(field, text)


def _check_undoing(report: Report, known: Known, number: int, step: pb.StepSpec) -> None:
    undone = known.spec.steps[known.undoes[number]].name
    given = {field.name for field, _ in step.ListFields()}
    for name in _OWN_WAY:
        if name in given:
            text = f"the step undoes {quoted(undone)}, and runs when the run is rolled back: leave `{name}` out"
            report.add(f"steps[{number}].{name}", text)


def _check_reads(report: Report, known: Known, number: int, step: pb.StepSpec) -> None:
    """Nobody reads, or waits for, a step that undoes another; and such a step reads what the other one could, and what
    that one gave."""
    undone = known.undoes.get(number)
    allowed = set() if undone is None else {known.spec.steps[undone].name, *known.upstream(undone)}
    for field, name in _read(step):
        other = known.numbers.get(name)
        if other is None or other == number:
            continue
        if other in known.undoes:
            text = f"{quoted(name)} runs only when the run is rolled back: nothing can read it or wait for it"
            report.add(f"steps[{number}].{field}", f"{text}; remove this")
        elif undone is not None and field.startswith("inputs") and name not in allowed:
            whom = quoted(known.spec.steps[undone].name)
            text = f"the step undoes {whom}, and may read that step and those that come right before it"
            report.add(f"steps[{number}].{field}", f"{text}: make {quoted(name)} one of the depends_on of {whom}")


def _read(step: pb.StepSpec) -> Iterator[tuple[str, str]]:
    """The steps that it names, by field."""
    for at, name in enumerate(step.depends_on):
        yield f"depends_on[{at}]", name
    for name in sorted(step.inputs):
        source = step.inputs[name]
        if source.WhichOneof("source") == "step":
            yield f"inputs[{member(name)}].step.step", source.step.step
    for field, reference in mapped_outputs(step):
        yield f"{field}.step", reference.step


def _run_outputs(spec: pb.PipelineSpec) -> Iterator[tuple[str, pb.OutputReference]]:
    if spec.HasField("output"):
        yield "output", spec.output
    for name in sorted(spec.outputs):
        yield f"outputs[{member(name)}]", spec.outputs[name]
