"""Dead letters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from penstock.v1 import dead_letter_pb2, run_pb2
from penstock.v1 import dead_letter_service_pb2 as pb
from penstock_coordinator.api.encoding.values import instant, known_instant
from penstock_coordinator.api.fields import run_id_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock_coordinator.ports import DeadLetter
    from penstock_coordinator.runtime.bulk import LetterSelection

SHOWN_INPUT_BYTES = 64 << 10
_POSITION = re.compile(r"\[([0-9]+)\]")


def letter_id(found: DeadLetter) -> str:
    return f"{run_id_text(found.run_id)}:{found.letter.seq}"


def letter(found: DeadLetter) -> dead_letter_pb2.DeadLetter:
    row = found.letter
    return dead_letter_pb2.DeadLetter(
        id=letter_id(found),
        run_id=run_id_text(found.run_id),
        pipeline=row.pipeline,
        step=row.step_name,
        # The place is told as it was when it failed; names have no brackets.
        item=[int(position) for position in _POSITION.findall(row.display_name)],
        display_name=row.display_name,
        generation=row.generation,
        budget=run_pb2.Budget.ValueType(row.budget),
        failure=run_pb2.Failure(
            reason=_text(row.reason), message=_text(row.message), error_class=_text(row.error_class)
        ),
        attempt_count=row.attempts,
        fail_time=instant(row.at),
        state=dead_letter_pb2.DeadLetterState.ValueType(int(found.state)),
        close_time=known_instant(found.close_time),
        closed_by=_text(found.closed_by),
    )


def inputs(found: Mapping[str, bytes]) -> list[pb.DeadLetterInput]:
    """By name."""
    return [
        pb.DeadLetterInput(
            name=name,
            json=value.decode("utf-8", "replace") if len(value) <= SHOWN_INPUT_BYTES else "",
            size_bytes=len(value),
        )
        for name, value in sorted(found.items())
    ]


def selection(chosen: LetterSelection) -> dead_letter_pb2.DeadLetterSelection:
    return dead_letter_pb2.DeadLetterSelection(
        pipeline=chosen.pipeline,
        run_id=run_id_text(chosen.run_id) if chosen.run_id else "",
        step=chosen.step,
        reason=chosen.reason,
        budgets=[run_pb2.Budget.ValueType(budget) for budget in chosen.budgets],
        labels=dict(chosen.labels),
        failed_after=known_instant(chosen.failed_after),
        failed_before=known_instant(chosen.failed_before),
        error_class=chosen.error_class,
    )


def _text(text: str) -> str:
    """What no text of the wire can hold is replaced."""
    return text.encode("utf-8", "replace").decode()
