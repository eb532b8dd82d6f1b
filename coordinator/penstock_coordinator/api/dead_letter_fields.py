"""What requests say of dead letters, in the core's form."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from penstock.v1 import dead_letter_pb2, run_pb2
from penstock_coordinator.api.errors import invalid, shown
from penstock_coordinator.api.fields import instant_of, labels_of, name_of, run_id_of, states_of, text_of
from penstock_coordinator.ports import LetterFilter, LetterState
from penstock_coordinator.runtime.bulk import LetterSelection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_coordinator.core.plan.limits import Limits
    from penstock_coordinator.ports import RunId

MAX_FAILURE_REASON = 200
MAX_ERROR_CLASS = 500
_LETTER_ID = re.compile(r"([0-9a-fA-F-]{36}):([1-9][0-9]{0,17})")


def letter_id_of(text: str) -> tuple[RunId, int]:
    """The run's id and the number of the event."""
    if not text:
        raise invalid("id", "is required: the id of a dead letter, as `penstock dead-letters list` (List) gives it")
    found = _LETTER_ID.fullmatch(text)
    if found is None:
        raise invalid("id", f"{shown(text)} is no id of a dead letter: `penstock dead-letters list` (List) shows them")
    return run_id_of(found[1], "id"), int(found[2])


def letter_selection(chosen: dead_letter_pb2.DeadLetterSelection, field: str, limits: Limits) -> LetterSelection:
    after = instant_of(chosen, "failed_after", field)
    before = instant_of(chosen, "failed_before", field)
    if after is not None and before is not None and after >= before:
        raise invalid(f"{field}.failed_after", "must be before failed_before")
    return LetterSelection(
        pipeline=name_of(chosen.pipeline, f"{field}.pipeline", "a pipeline") if chosen.pipeline else "",
        run_id=run_id_of(chosen.run_id, f"{field}.run_id") if chosen.run_id else b"",
        step=name_of(chosen.step, f"{field}.step", "a step") if chosen.step else "",
        reason=text_of(chosen.reason, f"{field}.reason", MAX_FAILURE_REASON),
        budgets=states_of(chosen.budgets, run_pb2.Budget.values(), f"{field}.budgets", "budget"),
        labels=tuple(sorted(labels_of(chosen.labels, f"{field}.labels", limits).items())),
        failed_after=after,
        failed_before=before,
        error_class=text_of(chosen.error_class, f"{field}.error_class", MAX_ERROR_CLASS),
    )


def letter_filter(chosen: LetterSelection, states: Sequence[int]) -> LetterFilter:
    """For a list."""
    return LetterFilter(
        pipeline=chosen.pipeline,
        run_id=chosen.run_id or None,
        step=chosen.step,
        reason=chosen.reason,
        budgets=chosen.budgets,
        labels=chosen.labels,
        since=chosen.failed_after,
        before=chosen.failed_before,
        error_class=chosen.error_class,
        states=states_of(states, dead_letter_pb2.DeadLetterState.values()) or (int(LetterState.OPEN),),
    )
