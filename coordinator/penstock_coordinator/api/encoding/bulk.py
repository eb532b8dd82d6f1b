"""Jobs over many runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.v1 import bulk_service_pb2 as pb
from penstock.v1 import run_pb2, run_service_pb2
from penstock_coordinator.api.encoding.dead_letters import selection as letter_selection
from penstock_coordinator.api.encoding.values import instant, known_instant
from penstock_coordinator.api.fields import run_id_text

if TYPE_CHECKING:
    from penstock_coordinator.runtime.bulk import BulkJob, Order


def job(found: BulkJob) -> pb.BulkJob:
    row, progress = found.row, found.progress
    message = _order(found.order)
    message.id = run_id_text(row.job_id)
    message.state = pb.BulkJobState.ValueType(int(row.state))
    message.seen_count, message.done_count = progress.seen, progress.done
    message.unchanged_count, message.failed_count = progress.unchanged, progress.failed
    for refusal in progress.refusals:
        message.refusals.add(run_id=run_id_text(refusal.run_id), message=refusal.message)
    message.create_time.CopyFrom(instant(row.create_time))
    if (ended := known_instant(row.end_time)) is not None:
        message.end_time.CopyFrom(ended)
    return message


def counted(order: Order, runs: int, letters: int) -> pb.BulkJob:
    """Of a job that is not made: how many runs it would look at, and dead letters."""
    message = _order(order)
    message.seen_count, message.letter_count = runs, letters
    return message


def _order(order: Order) -> pb.BulkJob:
    chosen = order.selection
    mode = run_service_pb2.CANCEL_MODE_NOW if order.immediate else run_service_pb2.CANCEL_MODE_POLITE
    message = pb.BulkJob(
        action=pb.BulkAction.ValueType(order.action),
        selection=pb.RunSelection(
            pipeline=chosen.pipeline,
            states=[run_pb2.RunState.ValueType(state) for state in chosen.states],
            labels=dict(chosen.labels),
            created_after=known_instant(chosen.created_after),
            created_before=known_instant(chosen.created_before),
        ),
        cancel_mode=mode if order.action == pb.BULK_ACTION_CANCEL else run_service_pb2.CANCEL_MODE_UNSPECIFIED,
        newest_version=order.newest_version,
        reason=order.reason,
        requested_by=order.requested_by,
    )
    if order.letters is not None:
        message.ClearField("selection")
        message.letters.CopyFrom(letter_selection(order.letters))
    return message
