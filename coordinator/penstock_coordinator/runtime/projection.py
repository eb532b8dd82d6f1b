"""The rows that go with events: what people ask for later without folding a journal.

They are written in the same transaction as the events, once, when something is at rest. Failures and reports are
MessagePack in one column each: user data is never text to the database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock_coordinator.core.run.events import Failure
from penstock_coordinator.core.run.messages import AttemptEnded, AttemptReport, Message
from penstock_coordinator.core.run.states import StepState
from penstock_coordinator.ports import AttemptRow, StepRunRow
from penstock_coordinator.runtime.views import AttemptView, FailureView

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock_coordinator.core.run.ledger import EndedAttempt, RestedStep

COMPLETED = 1
"""The outcome of an attempt that ended well: penstock.v1.AttemptOutcome."""
GENERATION = 1
"""Runs have one generation until they can be retried."""


class FailureDetail(msgspec.Struct, array_like=True):
    reason: str
    message: str = ""
    error_class: str = ""
    error_bases: tuple[str, ...] = ()
    traceback: str = ""


class AttemptDetail(msgspec.Struct, array_like=True):
    run_duration: int = 0
    cpu_duration: int = 0
    peak_memory_bytes: int = 0
    exit_code: int | None = None
    metrics: tuple[tuple[str, float], ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    failure: FailureDetail | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode_failure = msgspec.msgpack.Decoder(FailureDetail).decode
_decode_attempt = msgspec.msgpack.Decoder(AttemptDetail).decode


def decode_failure(packed: bytes | None) -> FailureView | None:
    return None if packed is None else _view(_decode_failure(packed))


def decode_attempt(row: AttemptRow) -> AttemptView:
    detail = _decode_attempt(row.detail)
    report = AttemptReport(
        run_duration=detail.run_duration,
        cpu_duration=detail.cpu_duration,
        peak_memory_bytes=detail.peak_memory_bytes,
        exit_code=detail.exit_code,
        metrics=detail.metrics,
        metadata=detail.metadata,
    )
    failure = None if detail.failure is None else _view(detail.failure)
    return AttemptView(row.number, row.agent, row.outcome, failure, row.start_time, row.end_time, report)


def _view(detail: FailureDetail) -> FailureView:
    return FailureView(detail.reason, detail.message, detail.error_class, detail.error_bases, detail.traceback)


class Projection:
    """Collects the rows of one turn."""

    __slots__ = ("attempts", "outputs", "step_runs")

    def __init__(self) -> None:
        self.step_runs: list[StepRunRow] = []
        self.attempts: list[AttemptRow] = []
        self.outputs: list[tuple[int, int, bytes]] = []
        """(step, item, JSON) of steps that completed."""

    def add(self, message: Message, attempts: Iterable[EndedAttempt], rested: Iterable[RestedStep]) -> None:
        """What one message led to."""
        ended = message if isinstance(message, AttemptEnded) else None
        for attempt in attempts:
            self.attempts.append(_attempt_row(attempt, ended))
        for step_run in rested:
            output = None
            if step_run.state is StepState.COMPLETED:
                output = ended.output or b"null" if ended is not None else b"null"
                self.outputs.append((step_run.step, step_run.item, output))
            self.step_runs.append(_step_run_row(step_run, ended, output))


def _attempt_row(attempt: EndedAttempt, ended: AttemptEnded | None) -> AttemptRow:
    own = ended if ended is not None and (ended.step, ended.item) == (attempt.step, attempt.item) else None
    report = own.report if own is not None else AttemptReport()
    detail = AttemptDetail(
        report.run_duration,
        report.cpu_duration,
        report.peak_memory_bytes,
        report.exit_code,
        report.metrics,
        report.metadata,
        None if attempt.failure is None else _detail(attempt.failure, own),
    )
    return AttemptRow(
        step=attempt.step,
        item=attempt.item,
        number=attempt.number,
        token=attempt.token,
        outcome=COMPLETED if attempt.outcome is None else int(attempt.outcome),
        agent=attempt.agent,
        start_time=attempt.leased_at,
        end_time=attempt.ended_at,
        detail=_encode(detail),
    )


def _step_run_row(rested: RestedStep, ended: AttemptEnded | None, output: bytes | None) -> StepRunRow:
    own = ended if ended is not None and (ended.step, ended.item) == (rested.step, rested.item) else None
    return StepRunRow(
        step=rested.step,
        item=rested.item,
        generation=GENERATION,
        state=int(rested.state),
        attempts=rested.attempts,
        output=output,
        failure=None if rested.failure is None else _encode(_detail(rested.failure, own)),
        agent=rested.agent,
        ready_time=rested.ready_at,
        start_time=rested.started_at,
        end_time=rested.ended_at,
    )


def _detail(failure: Failure, ended: AttemptEnded | None) -> FailureDetail:
    """The journal keeps a failure in short; the row keeps what the attempt itself said of it."""
    detail = FailureDetail(failure.reason, failure.message, failure.error_class)
    if ended is not None and ended.failure is not None and ended.failure.reason == failure.reason:
        detail.message = ended.failure.message
        detail.error_bases = ended.report.error_bases
        detail.traceback = ended.report.traceback
    return detail
