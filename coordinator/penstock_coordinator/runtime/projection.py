"""The rows that go with events: what people ask for later without folding a journal.

They are written in the same transaction as the events, once, when something is at rest. Failures and reports are
MessagePack in one column each: user data is never text to the database.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from penstock_coordinator.core.run.events import (
    WHOLE,
    AttemptFailed,
    Charge,
    ChildEnded,
    Event,
    Failure,
    ItemsAdded,
    LeaseLost,
    Outcome,
    RunReopened,
    StepCancelled,
    StepCompleted,
    StepFailed,
)
from penstock_coordinator.core.run.losses import lost_in_words
from penstock_coordinator.core.run.messages import AttemptEnded, AttemptReport
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.core.run.view import describe
from penstock_coordinator.ports import AttemptRow, StepRunRow
from penstock_coordinator.runtime.views import AttemptView, FailureView

if TYPE_CHECKING:
    from penstock_coordinator.core.run.state import Run
    from penstock_coordinator.core.run.view import StepRunDetail

_Ending: TypeAlias = StepCompleted | AttemptFailed | LeaseLost | StepFailed | StepCancelled | ChildEnded

COMPLETED = 1
"""The outcome of an attempt that ended well: penstock.v1.AttemptOutcome."""


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
    """Collects the rows of one turn. `note` is told each event before the run evolves by it."""

    __slots__ = ("_run", "attempts", "child_output", "message", "outputs", "reopened", "step_runs")

    def __init__(self, run: Run) -> None:
        self._run = run
        self.message: AttemptEnded | None = None
        """The result that the events that come are decided on, if it is one."""
        self.child_output = b""
        """Of the run whose end the events that come are decided on."""
        self.step_runs: list[StepRunRow] = []
        self.attempts: list[AttemptRow] = []
        self.outputs: list[tuple[int, int, bytes]] = []
        """(step, item, JSON) of steps that completed."""
        self.reopened = False
        """A new generation began."""

    def note(self, seq: int, event: Event) -> None:
        """Keep what the event ends."""
        keep = _KEEPERS.get(type(event))
        if keep is not None:
            keep(self, event)

    def note_completed(self, event: StepCompleted) -> None:
        output = (self.child_output if self.message is None else self.message.output) or b"null"
        self.outputs.append((event.step, event.item, output))
        detail = self._attempt(event, COMPLETED, None)
        self._rest(event, detail, StepState.COMPLETED, output, None)

    def note_child_ended(self, event: ChildEnded) -> None:
        if event.state is not RunState.COMPLETED:
            outcome = Outcome.CANCELLED if event.state is RunState.CANCELLED else Outcome.FAILED
            self._attempt(event, int(outcome), event.failure)

    def note_attempt_failed(self, event: AttemptFailed) -> None:
        self._attempt(event, int(event.outcome), event.failure)

    def note_lost(self, event: LeaseLost) -> None:
        if event.charge is not Charge.NOBODY:
            self._attempt(event, int(Outcome.LOST), Failure("AgentLost", lost_in_words(event.cause)))

    def note_reopened(self, _event: RunReopened) -> None:
        self.reopened = True

    def note_failed(self, event: StepFailed) -> None:
        detail = describe(self._run, event.step, event.item)
        if detail.token:
            self._attempt_row(event, detail, int(Outcome.TIMED_OUT), event.failure)
        self._rest(event, detail, StepState.FAILED, None, event.failure)

    def note_added(self, event: ItemsAdded) -> None:
        """A group without items has no row; the step as a whole tells why the first of them failed."""
        groups = self._run.groups_of(event.step)
        if event.failure is not None and groups is not None and StepState.FAILED not in groups.states:
            self.note_failed(StepFailed(event.at, event.step, WHOLE, event.failure))

    def note_cancelled(self, event: StepCancelled) -> None:
        detail = describe(self._run, event.step, event.item)
        if detail.token:
            self._attempt_row(event, detail, int(Outcome.CANCELLED), None)
        if detail.attempts or detail.displaced:
            self._rest(event, detail, StepState.CANCELLED, None, detail.displaced)

    def _attempt(
        self, event: StepCompleted | AttemptFailed | LeaseLost | ChildEnded, outcome: int, failure: Failure | None
    ) -> StepRunDetail:
        detail = describe(self._run, event.step, event.item)
        self._attempt_row(event, detail, outcome, failure)
        return detail

    def _attempt_row(self, event: _Ending, detail: StepRunDetail, outcome: int, failure: Failure | None) -> None:
        own = self._own(event)
        report = own.report if own is not None else AttemptReport()
        packed = AttemptDetail(
            report.run_duration,
            report.cpu_duration,
            report.peak_memory_bytes,
            report.exit_code,
            report.metrics,
            report.metadata,
            None if failure is None else _detail(failure, own),
        )
        self.attempts.append(
            AttemptRow(
                step=event.step,
                item=self._run.kept_number(event.step, event.item),
                number=detail.attempts,
                token=detail.token,
                outcome=outcome,
                agent=detail.agent,
                start_time=detail.leased_at if detail.leased_at is not None else event.at,
                end_time=event.at,
                detail=_encode(packed),
            )
        )

    def _rest(
        self, event: _Ending, detail: StepRunDetail, state: StepState, output: bytes | None, failure: Failure | None
    ) -> None:
        self.step_runs.append(
            StepRunRow(
                step=event.step,
                item=event.item,
                generation=self._run.generation,
                state=int(state),
                attempts=detail.attempts,
                output=output,
                failure=None if failure is None else _encode(_detail(failure, self._own(event))),
                agent=detail.agent,
                ready_time=detail.first_ready_at,
                start_time=detail.first_leased_at,
                end_time=event.at,
            )
        )

    def _own(self, event: _Ending) -> AttemptEnded | None:
        """The result, if it is that of the event's step run."""
        message = self.message
        if message is not None and (message.step, message.item) == (event.step, event.item):
            return message
        return None


_KEEPERS: dict[type, Callable[[Projection, Any], None]] = {
    StepCompleted: Projection.note_completed,
    ChildEnded: Projection.note_child_ended,
    AttemptFailed: Projection.note_attempt_failed,
    LeaseLost: Projection.note_lost,
    StepFailed: Projection.note_failed,
    ItemsAdded: Projection.note_added,
    StepCancelled: Projection.note_cancelled,
    RunReopened: Projection.note_reopened,
}


def _detail(failure: Failure, ended: AttemptEnded | None) -> FailureDetail:
    """The journal keeps a failure in short; the row keeps what the attempt itself said of it."""
    detail = FailureDetail(failure.reason, failure.message, failure.error_class)
    if ended is not None and ended.failure is not None and ended.failure.reason == failure.reason:
        detail.message = ended.failure.message
        detail.error_bases = ended.report.error_bases
        detail.traceback = ended.report.traceback
    return detail
