"""What is different between two runs, and between two versions of a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.v1 import difference_pb2, pipeline_service_pb2
from penstock.v1 import run_service_pb2 as pb
from penstock_coordinator.core.plan.difference import Kind

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.difference import FieldChange, SpecDifference, StepDifference
    from penstock_coordinator.runtime.differing import Change, RunDifference, StepChanges

VALUE_CHARACTERS = 1_000
MANY_CHANGES, SHORT_CHARACTERS = 2_000, 60
"""Of two versions with more changes than this, values are shown shorter: the answer has to fit into one message."""

_KINDS = {
    Kind.ADDED: difference_pb2.DIFFERENCE_KIND_ADDED,
    Kind.REMOVED: difference_pb2.DIFFERENCE_KIND_REMOVED,
    Kind.CHANGED: difference_pb2.DIFFERENCE_KIND_CHANGED,
    Kind.RENAMED: difference_pb2.DIFFERENCE_KIND_RENAMED,
}


def run_difference(found: RunDifference) -> pb.DiffRunsResponse:
    return pb.DiffRunsResponse(
        changes=[_change(each) for each in found.changes], steps=[_step(each) for each in found.steps]
    )


def _step(each: StepChanges) -> pb.StepRunDifference:
    kind = difference_pb2.DIFFERENCE_KIND_CHANGED
    if not each.before:
        kind = difference_pb2.DIFFERENCE_KIND_ADDED
    elif not each.after:
        kind = difference_pb2.DIFFERENCE_KIND_REMOVED
    return pb.StepRunDifference(step=each.step, kind=kind, changes=[_change(change) for change in each.changes])


def _change(change: Change) -> difference_pb2.FieldChange:
    return difference_pb2.FieldChange(
        path=change.path, before_json=_shortened(change.before), after_json=_shortened(change.after)
    )


def _shortened(value: bytes | None) -> str | None:
    if value is None:
        return None
    return _cut(value.decode("utf-8", "replace"), VALUE_CHARACTERS)


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"


def version_difference(number: int, other: int, found: SpecDifference) -> pipeline_service_pb2.DiffVersionsResponse:
    many = len(found.changes) + sum(len(each.changes) for each in found.steps) > MANY_CHANGES
    characters = SHORT_CHARACTERS if many else VALUE_CHARACTERS
    return pipeline_service_pb2.DiffVersionsResponse(
        number=number,
        other_number=other,
        changes=[_field_change(each, characters) for each in found.changes],
        steps=[_step_difference(each, characters) for each in found.steps],
    )


def _step_difference(each: StepDifference, characters: int) -> pipeline_service_pb2.StepDifference:
    return pipeline_service_pb2.StepDifference(
        step=each.step,
        kind=_KINDS[each.kind],
        former_name=each.former_name,
        changes=[_field_change(change, characters) for change in each.changes],
        code_changed=each.code_changed,
    )


def _field_change(change: FieldChange, characters: int) -> difference_pb2.FieldChange:
    return difference_pb2.FieldChange(
        path=change.path,
        before_json=None if change.before is None else _cut(change.before, characters),
        after_json=None if change.after is None else _cut(change.after, characters),
    )
