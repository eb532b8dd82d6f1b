"""The values of a batch of one record: with nothing else to do, that is what a commit holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock_coordinator.adapters.postgres.batch import new_run_row, newest
from penstock_coordinator.adapters.postgres.requests import packed

if TYPE_CHECKING:
    from penstock_coordinator.ports import Record


def values_alone(record: Record) -> tuple[str, list[Any]] | None:
    """The statement for the record and its arguments after those of the fence; None if there is none of its own."""
    if record.change is not None or record.claim is not None:
        return None
    if record.new_run is None and record.request is None:
        return _step(record) if len(record.step_runs) == len(record.attempts) == 1 else None
    return None if record.step_runs or record.attempts else _start(record)


def _step(record: Record) -> tuple[str, list[Any]]:
    (s,), (a,) = record.step_runs, record.attempts
    return "commit_step_alone", [
        *(record.run_id, record.first_seq, record.last_seq, record.at, record.payload),
        *(s.step, s.item, s.generation, s.state, s.attempts, s.ready_time, s.start_time, s.end_time),
        *(s.agent, s.output, s.failure),
        *(a.step, a.item, a.number, a.token, a.outcome, a.start_time, a.end_time, a.agent, a.detail),
    ]


def _start(record: Record) -> tuple[str, list[Any]] | None:
    request, new = record.request, record.new_run
    if request is None or new is None:
        return None
    return "commit_start_alone", [
        *(record.run_id, record.first_seq, record.last_seq, record.at),
        *(packed(request.key), request.key.digest, request.answer, *newest(record), record.payload),
        *new_run_row(record.run_id, new)[1:],
    ]
