"""What is different between two runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.v1 import difference_pb2
from penstock.v1 import run_service_pb2 as pb

if TYPE_CHECKING:
    from penstock_coordinator.runtime.differing import Change, RunDifference, StepChanges

VALUE_CHARACTERS = 1_000


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
    text = value.decode("utf-8", "replace")
    return text if len(text) <= VALUE_CHARACTERS else text[: VALUE_CHARACTERS - 1] + "…"
