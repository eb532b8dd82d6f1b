"""The rows that go with events: what people ask for later without folding a journal.

They are written in the same transaction as the events, once, when something is at rest. Failures and reports are
MessagePack in one column each: user data is never text to the database.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from msgspec.structs import replace

from penstock_coordinator.core.plan.budget import Amounts
from penstock_coordinator.core.plan.cache_keys import artifacts_in
from penstock_coordinator.core.plan.model import CHILDREN
from penstock_coordinator.core.run.displaced import stopping
from penstock_coordinator.core.run.events import (
    WHOLE,
    ArtifactsMade,
    AttemptFailed,
    Budget,
    CacheSource,
    Charge,
    ChildEnded,
    CostBudgetCharged,
    Event,
    Failure,
    ItemsAdded,
    LeaseLost,
    Outcome,
    RunReopened,
    StepCached,
    StepCancelled,
    StepCompleted,
    StepFailed,
)
from penstock_coordinator.core.run.losses import lost_in_words
from penstock_coordinator.core.run.messages import AttemptEnded, AttemptReport, ChildReported, ValueFound
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.core.run.view import describe
from penstock_coordinator.ports import (
    LETTER_MESSAGE_CHARACTERS,
    ArtifactRow,
    AttemptCost,
    AttemptRow,
    CacheEntryRow,
    ChargeRow,
    LetterClosing,
    LetterRow,
    StepRunRow,
    cost_in,
    with_cost,
    without_cost,
)
from penstock_coordinator.runtime.artifact_rows import artifact_rows, work_row
from penstock_coordinator.runtime.views import AttemptView, FailureView

if TYPE_CHECKING:
    from penstock_coordinator.core.run.state import Run
    from penstock_coordinator.core.run.view import StepRunDetail

_Ending: TypeAlias = StepCompleted | AttemptFailed | LeaseLost | StepFailed | StepCancelled | StepCached | ChildEnded

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
    charged_to: int = 0
    """A `Budget`."""


_PAID_BY = {
    Charge.STARTED: Budget.NONE,
    Charge.INFRASTRUCTURE: Budget.INFRASTRUCTURE,
    Charge.POISON: Budget.POISON,
}
_encode = msgspec.msgpack.Encoder().encode
_decode_failure = msgspec.msgpack.Decoder(FailureDetail).decode
_decode_source = msgspec.msgpack.Decoder(CacheSource).decode
_decode_attempt = msgspec.msgpack.Decoder(AttemptDetail).decode


def decode_failure(packed: bytes | None) -> FailureView | None:
    return None if packed is None else _view(_decode_failure(packed))


def decode_source(packed: bytes | None) -> CacheSource | None:
    return None if packed is None else _decode_source(packed)


def decode_attempt(row: AttemptRow) -> AttemptView:
    detail = _decode_attempt(without_cost(row.detail))
    report = AttemptReport(
        run_duration=detail.run_duration,
        cpu_duration=detail.cpu_duration,
        peak_memory_bytes=detail.peak_memory_bytes,
        exit_code=detail.exit_code,
        metrics=detail.metrics,
        metadata=detail.metadata,
    )
    failure = None if detail.failure is None else _view(detail.failure)
    return AttemptView(
        row.number,
        row.agent,
        row.outcome,
        failure,
        row.start_time,
        row.end_time,
        report,
        detail.charged_to,
        cost_in(row.detail) or AttemptCost(slot_time=max(row.end_time - row.start_time, 0)),
    )


def _view(detail: FailureDetail) -> FailureView:
    return FailureView(detail.reason, detail.message, detail.error_class, detail.error_bases, detail.traceback)


class Projection:
    """Collects the rows of one turn. `note` is told each event before the run evolves by it."""

    __slots__ = (
        "_run",
        "_seq",
        "answered",
        "artifacts",
        "attempts",
        "charged",
        "child_end",
        "closings",
        "entries",
        "found",
        "letters",
        "message",
        "outputs",
        "reopened",
        "step_runs",
    )

    def __init__(self, run: Run) -> None:
        self._run = run
        self.message: AttemptEnded | None = None
        """The result that the events that come are decided on, if it is one."""
        self.child_end: ChildReported | None = None
        """The end of a run, if the events that come are decided on it."""
        self.found: ValueFound | None = None
        """What the cache has, if the events that come are decided on it."""
        self._seq = 0
        self.answered: list[StepRunRow] = []
        """From the cache."""
        self.entries: list[CacheEntryRow] = []
        """That it gains."""
        self.step_runs: list[StepRunRow] = []
        self.attempts: list[AttemptRow] = []
        self.outputs: list[tuple[int, int, bytes]] = []
        """(step, item, JSON) of steps that completed."""
        self.letters: list[LetterRow] = []
        self.artifacts: list[ArtifactRow] = []
        self.charged = Amounts()
        """To the budget of the pipeline."""
        self.closings: list[LetterClosing] = []
        self.reopened = False
        """A new generation began."""

    def note(self, seq: int, event: Event) -> None:
        """Keep what the event ends."""
        keep = _KEEPERS.get(type(event))
        if keep is not None:
            self._seq = seq
            keep(self, event)

    def note_completed(self, event: StepCompleted) -> None:
        ended = self.message or self.child_end
        output = b"null" if ended is None else ended.output or b"null"
        self.outputs.append((event.step, event.item, output))
        detail = self._attempt(event, COMPLETED, None, Budget.NONE)
        self._rest(event, detail, StepState.COMPLETED, output, None)
        if self._run.lookups:
            self._fill_cache(event, detail, output)

    def _fill_cache(self, event: StepCompleted, detail: StepRunDetail, output: bytes) -> None:
        run = self._run
        lookup, step = run.lookups.get((event.step, event.item)), run.plan.steps[event.step]
        if lookup is None or not lookup.key or step.cache is None:
            return
        expires = step.cache.expires
        self.entries.append(
            CacheEntryRow(
                key=lookup.key,
                step=event.step,
                item=run.kept_number(event.step, event.item),
                attempt=detail.attempts,
                at=event.at,
                expire_time=None if expires is None else event.at + expires,
                pipeline=run.plan.pipeline,
                step_name=step.name,
                display_name=run.display_name(event.step, event.item),
                output=output,
                artifacts=artifacts_in(output),
            )
        )

    def note_cached(self, event: StepCached) -> None:
        output = b"null" if self.found is None else self.found.output
        self.outputs.append((event.step, event.item, output))
        detail = describe(self._run, event.step, event.item)
        row = self._row(event, detail, StepState.COMPLETED, output, None)
        self.answered.append(replace(row, source=_encode(event.source)))

    def note_artifacts(self, event: ArtifactsMade) -> None:
        detail = describe(self._run, event.step, event.item)
        work = work_row(self._run, event.step, event.item, detail.attempts, event.token)
        self.artifacts += artifact_rows(self._seq, event, work)

    def note_charged(self, event: CostBudgetCharged) -> None:
        if self._run.plan.window_budget is not None:
            self.charged = self.charged.plus(Amounts(event.slot_time, event.cpu_time, event.price))

    @property
    def charge(self) -> ChargeRow | None:
        return ChargeRow(self._run.plan.pipeline, *self.charged) if any(self.charged) else None

    def note_child_ended(self, event: ChildEnded) -> None:
        if event.state is not RunState.COMPLETED:
            outcome = Outcome.CANCELLED if event.state is RunState.CANCELLED else Outcome.FAILED
            self._attempt(event, int(outcome), event.failure, Budget.RETRIES)

    def note_attempt_failed(self, event: AttemptFailed) -> None:
        self._attempt(event, int(event.outcome), event.failure, Budget.RETRIES if event.reported else Budget.NONE)

    def note_lost(self, event: LeaseLost) -> None:
        if event.charge is not Charge.NOBODY:
            why = Failure("AgentLost", lost_in_words(event.cause))
            self._attempt(event, int(Outcome.LOST), why, _PAID_BY[event.charge])

    def note_reopened(self, event: RunReopened) -> None:
        self.reopened = True
        run = self._run
        plan = run.plans.get(event.version_digest, run.plan)
        left = tuple((step.number, step.number + 1) for step in plan.steps if step.retired)
        self.closings.append(LetterClosing(self._seq, event.at, event.requested_by, (*event.steps, *left), event.items))

    def note_failed(self, event: StepFailed) -> None:
        detail = describe(self._run, event.step, event.item)
        if detail.token:
            self._attempt_row(event, detail, int(Outcome.TIMED_OUT), event.failure)
        self._rest(event, detail, StepState.FAILED, None, event.failure)
        if self._is_dead(event):
            self.add_letter(event, event.failure, event.budget, detail.attempts)

    def _is_dead(self, event: StepFailed) -> bool:
        """Whether somebody has to look at it: nobody at what was allowed to fail, nor twice at what failed in a run
        that the step is, and at what a person stopped there."""
        if self._run.plan.steps[event.step].allow_failure:
            return False
        child = self.child_end
        below = child is not None and (child.step, child.item) == (event.step, event.item)
        return not below or (child is not None and child.state is RunState.COMPLETED)

    def add_letter(self, event: _Ending, failure: Failure, budget: Budget, attempts: int) -> None:
        """Somebody has to look at the step run that the event is of."""
        plan = self._run.plan
        self.letters.append(
            LetterRow(
                seq=self._seq,
                step=event.step,
                item=event.item,
                generation=self._run.generation,
                budget=int(budget),
                attempts=attempts,
                at=event.at,
                pipeline=plan.pipeline,
                step_name=plan.steps[event.step].name,
                display_name=self._run.display_name(event.step, event.item),
                reason=failure.reason,
                message=failure.message[:LETTER_MESSAGE_CHARACTERS],
                error_class=failure.error_class,
            )
        )

    def note_added(self, event: ItemsAdded) -> None:
        """A group without items has no row; the step as a whole tells why the first of them failed."""
        groups = self._run.groups_of(event.step)
        if event.failure is not None and groups is not None and StepState.FAILED not in groups.states:
            self.note_failed(StepFailed(event.at, event.step, WHOLE, event.failure))

    def note_cancelled(self, event: StepCancelled) -> None:
        detail = describe(self._run, event.step, event.item)
        if detail.token:
            self._attempt_row(event, detail, int(Outcome.CANCELLED), None, Budget.NONE)
        if detail.attempts or detail.displaced:
            self._rest(event, detail, StepState.CANCELLED, None, detail.displaced)

    def _attempt(
        self,
        event: StepCompleted | AttemptFailed | LeaseLost | ChildEnded,
        outcome: int,
        failure: Failure | None,
        paid_by: Budget,
    ) -> StepRunDetail:
        detail = describe(self._run, event.step, event.item)
        self._attempt_row(event, detail, outcome, failure, paid_by)
        return detail

    def _charged(self, step: int, item: int, paid_by: Budget) -> Budget:
        """What is being stopped is charged to nobody."""
        active = self._run.active_step(step, item) if paid_by else None
        return Budget.NONE if active is not None and stopping(self._run, active) else paid_by

    def _attempt_row(
        self,
        event: _Ending,
        detail: StepRunDetail,
        outcome: int,
        failure: Failure | None,
        paid_by: Budget = Budget.NONE,
    ) -> None:
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
            int(self._charged(event.step, event.item, paid_by)),
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
                detail=with_cost(self._cost(event, detail, report), _encode(packed)),
            )
        )

    def _cost(self, event: _Ending, detail: StepRunDetail, report: AttemptReport) -> AttemptCost:
        """An attempt of which no result came has cost the time of its lease. A step that is a run costs nothing itself:
        that run has attempts of its own."""
        slot_time = report.run_duration
        if not slot_time and detail.leased_at is not None:
            slot_time = max(event.at - detail.leased_at, 0)
        if self._run.plan.steps[event.step].line == CHILDREN:
            slot_time = 0
        return AttemptCost(slot_time, report.cpu_duration, report.peak_memory_bytes, report.bytes_moved)

    def _rest(
        self, event: _Ending, detail: StepRunDetail, state: StepState, output: bytes | None, failure: Failure | None
    ) -> None:
        self.step_runs.append(self._row(event, detail, state, output, failure))

    def _row(
        self, event: _Ending, detail: StepRunDetail, state: StepState, output: bytes | None, failure: Failure | None
    ) -> StepRunRow:
        return StepRunRow(
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

    def _own(self, event: _Ending) -> AttemptEnded | None:
        """The result, if it is that of the event's step run."""
        message = self.message
        if message is not None and (message.step, message.item) == (event.step, event.item):
            return message
        return None


_KEEPERS: dict[type, Callable[[Projection, Any], None]] = {
    StepCompleted: Projection.note_completed,
    StepCached: Projection.note_cached,
    ChildEnded: Projection.note_child_ended,
    AttemptFailed: Projection.note_attempt_failed,
    LeaseLost: Projection.note_lost,
    StepFailed: Projection.note_failed,
    ItemsAdded: Projection.note_added,
    StepCancelled: Projection.note_cancelled,
    RunReopened: Projection.note_reopened,
    ArtifactsMade: Projection.note_artifacts,
    CostBudgetCharged: Projection.note_charged,
}


def _detail(failure: Failure, ended: AttemptEnded | None) -> FailureDetail:
    """The journal keeps a failure in short; the row keeps what the attempt itself said of it."""
    detail = FailureDetail(failure.reason, failure.message, failure.error_class)
    if ended is not None and ended.failure is not None and ended.failure.reason == failure.reason:
        detail.message = ended.failure.message
        detail.error_bases = ended.report.error_bases
        detail.traceback = ended.report.traceback
    return detail
