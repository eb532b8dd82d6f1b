"""What readers are told of runs.

Of a live run the actor's state is asked, and the answer is held back until everything that it rests on is committed.
Of a run at rest the packed states in its row are asked, of one that is live at another owner its journal. Outputs,
failures and times of what is at rest are in rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from penstock_coordinator.core.plan.model import CHILDREN
from penstock_coordinator.core.run.child_ids import child_run_id
from penstock_coordinator.core.run.explain.budget import over_budget, waits_for_window
from penstock_coordinator.core.run.numbering import kept_number
from penstock_coordinator.core.run.output import run_output
from penstock_coordinator.core.run.places import display_name, item_at, place_of
from penstock_coordinator.core.run.state import StepCounts
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.core.run.summary import Summary, unpack
from penstock_coordinator.core.run.view import describe
from penstock_coordinator.ports import ANY_GENERATION, Committed, RunRow, Unavailable
from penstock_coordinator.runtime.absent_runs import unknown
from penstock_coordinator.runtime.answers import Answers
from penstock_coordinator.runtime.history import run_at
from penstock_coordinator.runtime.outputs import joined
from penstock_coordinator.runtime.projection import decode_attempt, decode_failure, decode_source
from penstock_coordinator.runtime.views import (
    AttemptView,
    BudgetView,
    FailureView,
    LiveGlance,
    OutputTooLarge,
    RunView,
    SetAside,
    StepRunView,
    Stopping,
    Undecided,
    UnknownStepRun,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.core.run.mapped import Groups
    from penstock_coordinator.core.run.numbering import Numbering
    from penstock_coordinator.core.run.places import Shaped
    from penstock_coordinator.core.run.state import Run
    from penstock_coordinator.ports import RunId, RunIndex, StepRunRow
    from penstock_coordinator.runtime.actor import Actor
    from penstock_coordinator.runtime.supervisor import Supervisor
    from penstock_coordinator.runtime.views import RunRequest

WHOLE = -1
MAX_FAILURE_MESSAGE = 8 << 10
MOST_JOINED_BYTES = 64 << 20
"""The outputs of a map's items are put together for a reader up to here: more fits into no message."""


class States(Protocol):
    """The states of step runs: of a live run, or packed away with a run at rest."""

    def state_of(self, step: int, item: int = WHOLE) -> StepState: ...

    def items_of(self, step: int) -> bytes | bytearray | None: ...

    def groups_of(self, step: int) -> Groups | None: ...

    def began_in(self, step: int, item: int = WHOLE) -> int: ...

    @property
    def numberings(self) -> Mapping[int, Numbering]: ...

    def item_counts(self, step: int) -> StepCounts | None: ...

    def counts(self) -> StepCounts: ...


async def barrier(actor: Actor) -> None:
    """Returns when everything that the actor has decided so far is committed. Raises `Stopping` if it never will be,
    and `Unavailable` if it takes longer than callers wait."""
    if not actor.in_flight:
        return
    answers = Answers(1)
    actor.in_flight[-1].answers.append(answers.part(0))
    try:
        (outcome,) = await answers.all(actor.patience)
    except Undecided:
        raise Unavailable("commits wait for the database") from None
    if not isinstance(outcome, Committed):
        raise Stopping


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the answers of one call come from."""

    plan: Plan
    states: States
    run_id: RunId
    actor: Actor | None = None
    """Of a live run; the answer waits until all that it has decided is committed."""
    run: Run | None = None
    """Of a live run, and of one that is looked at as it was."""
    as_of: int | None = None
    """The instant that a former state is from: what was stored later is not of it."""

    @property
    def generation(self) -> int:
        """No row of a later one is of the state."""
        return ANY_GENERATION if self.run is None else self.run.generation

    def tells_of(self, row: StepRunRow) -> bool:
        """Whether the row was there already."""
        return self.as_of is None or row.end_time <= self.as_of


class Reader:
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    @property
    def _index(self) -> RunIndex:
        return self._supervisor.stores.runs

    async def run(self, run_id: RunId, at_event: int = 0) -> RunView:
        """The run as it is, or as it was after that event. Raises `UnknownRun`, `EventNotYet`, `Unavailable`."""
        if at_event:
            row = await self._row(run_id, self._supervisor.actor(run_id))
            past, _ = await self._past(row, at_event)
            return _run_view(past, await self._of_version(row, past.plan.digest))
        actor = self._supervisor.actor(run_id)
        if actor is not None:
            row = await self._row(run_id, actor)
            view = _run_view(actor.run, row, self._held_by_budget(actor), self._owner_of(row))
            await barrier(actor)
            return view
        row = await self._row_at_rest(run_id)
        if self._is_elsewhere(row):
            past, _ = await self._past(row, row.last_seq)
            return _run_view(past, await self._of_version(row, past.plan.digest), owner=row.owner)
        states, plan = await self._at_rest(row)
        return RunView(row, plan, states.counts(), row.generation)

    async def started(self, run_id: RunId, request: RunRequest) -> RunView:
        """As `run`, of one that was just started: its row need not be read for what it was started with."""
        actor = self._supervisor.actor(run_id)
        if actor is None or actor.run.created_at is None:
            return await self.run(run_id)
        run, version = actor.run, request.version
        row = RunRow(
            run_id=run_id,
            pipeline=version.pipeline,
            version_number=version.number,
            version_digest=version.digest,
            parameters=request.parameters,
            labels=request.labels,
            trace_context=request.trace_context,
            owner=self._supervisor.coordinator_id,
            state=int(run.state),
            reason=run.reason,
            create_time=actor.run.created_at,
            start_time=None,
            end_time=None,
            summary=None,
            origin=request.origin,
        )
        view = _run_view(run, row, owner=self._owner_of(row))
        await barrier(actor)
        return view

    def _owner_of(self, row: RunRow) -> str:
        return row.owner if self._supervisor.whereabouts.several else ""

    def _is_elsewhere(self, row: RunRow) -> bool:
        """Live at another owner: its journal tells of it, as far as it is committed."""
        supervisor = self._supervisor
        return row.summary is None and row.owner != supervisor.coordinator_id and supervisor.whereabouts.several

    async def runs_at_rest(self, run_ids: Sequence[RunId]) -> list[RunView]:
        """Those of them that are at rest, in any order. Raises `UnknownRun` with the id of one that is not there."""
        rows = await self._index.get_many(run_ids)
        if missing := set(run_ids).difference(row.run_id for row in rows):
            raise await unknown(self._supervisor.stores, missing.pop())
        views: list[RunView] = []
        for row in rows:
            if RunState(row.state).at_rest:
                states, plan = await self._at_rest(row)
                views.append(RunView(row, plan, states.counts(), row.generation))
        return views

    async def live_glance(self, run_id: RunId) -> LiveGlance | None:
        """Of a run that is live here; None of others."""
        actor = self._supervisor.actor(run_id)
        if actor is None:
            return None
        held = actor.run.held
        glance = LiveGlance(actor.run.counts(), "" if held is None else held.key, self._held_by_budget(actor))
        await barrier(actor)
        return glance

    def _held_by_budget(self, actor: Actor) -> str:
        """Why nothing of the run starts, in a sentence."""
        if actor.run.over_budget:
            return over_budget(actor.run).message
        window = self._supervisor.budgets.situation(actor)
        return "" if window is None else waits_for_window(window, self._supervisor.clock.now()).message

    async def _of_version(self, row: RunRow, digest: str) -> RunRow:
        """The row as it was when the run was of that version."""
        if digest == row.version_digest:
            return row
        version = await self._supervisor.stores.pipelines.version_by_digest(digest)
        assert version is not None, "versions are never removed"
        return replace(row, version_number=version.number, version_digest=digest)

    async def _past(self, row: RunRow, at_event: int) -> tuple[Run, int]:
        return await run_at(self._supervisor.stores.journal, self._supervisor.plans, row.run_id, at_event)

    async def _row_at_rest(self, run_id: RunId) -> RunRow:
        if run_id in self._supervisor.set_aside:
            raise SetAside(run_id, self._supervisor.set_aside[run_id])
        return await self._row(run_id, None)

    async def _row(self, run_id: RunId, actor: Actor | None) -> RunRow:
        if actor is not None:
            await barrier(actor)
        row = await self._index.get(run_id)
        if row is None:
            raise await unknown(self._supervisor.stores, run_id)
        return row

    async def step_runs(
        self,
        run_id: RunId,
        step: int | None,
        states: frozenset[int],
        after: tuple[int, int] | None,
        limit: int,
        at_event: int = 0,
    ) -> list[StepRunView]:
        """Steps as wholes, or the items of one step, in order, of those in the states (empty: all)."""
        source = await self._source(run_id, at_event)
        keys = [key for key in _keys(source, step, after) if not states or source.states.state_of(*key) in states]
        views = [_step_view(source, key) for key in keys[:limit]]
        if source.actor is not None:
            await barrier(source.actor)
        if not views:
            return []
        first, last = views[0], views[-1]
        if step is None:
            rows = await self._index.whole_steps(run_id, first.step, last.step, source.generation)
        else:
            rows = await self._index.step_runs(run_id, (step, first.item), (step, last.item), source.generation)
        stored = {(found.step, found.item): found for found in rows}
        merged = [_merge(source, view, stored.get((view.step, view.item))) for view in views]
        return [await self._with_failure_of_item(run_id, source, view) for view in merged]

    async def step_run(
        self, run_id: RunId, step: int, item: int, at_event: int = 0
    ) -> tuple[StepRunView, list[AttemptView]]:
        """Raises `UnknownRun`, `UnknownStepRun`, `EventNotYet`."""
        source = await self._source(run_id, at_event)
        try:
            view = _step_view(source, (step, item))
        except LookupError as error:
            raise UnknownStepRun from error
        if source.actor is not None:
            await barrier(source.actor)
        rows = await self._index.step_runs(run_id, (step, item), (step, item), source.generation)
        kept = kept_number(source.states.numberings, step, item)
        attempts = await self._index.attempts(run_id, step, kept)
        if source.as_of is not None:
            attempts = [row for row in attempts if row.end_time <= source.as_of]
        view = _merge(source, view, rows[0] if rows else None)
        view = await self._with_failure_of_item(run_id, source, view)
        if attempts and attempts[-1].number > view.attempts:
            # It came to rest without one in its newest generation.
            view = replace(view, attempts=attempts[-1].number)
        if view.child is None and attempts and source.plan.steps[step].line == CHILDREN:
            last = attempts[-1]
            view = replace(view, child=child_run_id(run_id, step, kept, last.number, last.start_time))
        if view.item_counts is not None and view.state == StepState.COMPLETED:
            view = replace(view, output=await self._joined(run_id, source, step))
        return view, [decode_attempt(row) for row in attempts]

    async def _with_failure_of_item(self, run_id: RunId, source: _Source, view: StepRunView) -> StepRunView:
        """A mapped step that failed because of its items tells why the first of them did."""
        if view.item_counts is None or view.state != StepState.FAILED or view.failure is not None:
            return view
        item = (source.states.items_of(view.step) or b"").find(StepState.FAILED)
        key = (view.step, item)
        rows = await self._index.step_runs(run_id, key, key, source.generation) if item >= 0 else []
        failure = decode_failure(rows[0].failure) if rows else None
        if failure is None:
            return view
        where = f"{display_name(source.plan, source.states, view.step, item)}: "
        return replace(view, failure=replace(failure, message=(where + failure.message)[:MAX_FAILURE_MESSAGE]))

    async def _joined(self, run_id: RunId, source: _Source, step: int) -> bytes:
        if await self._index.outputs_size(run_id, step, source.generation) > MOST_JOINED_BYTES:
            raise OutputTooLarge
        outputs = dict(await self._index.outputs(run_id, step, source.generation))
        # Of an item that did not complete this time, the output of a former generation may be there.
        states = source.states.items_of(step) or b""
        done = (state == StepState.COMPLETED for state in states)
        parts = [outputs.get(item, b"null") if there else b"null" for item, there in enumerate(done)]
        return joined(source.plan, source.states, step, parts)

    async def shape(self, run_id: RunId) -> Shaped:
        """What knows the places of items; of a live run for as long as it is not at rest. Raises `UnknownRun`."""
        return (await self._source(run_id, 0)).states

    async def item_at(self, run_id: RunId, step: int, place: Sequence[int], at_event: int = 0) -> int:
        """The number of the item at the place. Raises `UnknownRun`, `UnknownStepRun`, `EventNotYet`."""
        source = await self._source(run_id, at_event)
        try:
            return item_at(source.plan, source.states, step, place)
        except LookupError as error:
            raise UnknownStepRun from error

    async def _source(self, run_id: RunId, at_event: int) -> _Source:
        actor = self._supervisor.actor(run_id)
        if at_event:
            past, at = await self._past(await self._row(run_id, actor), at_event)
            return _Source(past.plan, past, run_id, run=past, as_of=at)
        if actor is not None:
            # Of a run that is about to go on with another version the actor has the plan of that one already.
            return _Source(actor.run.plan, actor.run, run_id, actor, actor.run)
        row = await self._row_at_rest(run_id)
        if self._is_elsewhere(row):
            past, _ = await self._past(row, row.last_seq)
            return _Source(past.plan, past, run_id, run=past)
        states, plan = await self._at_rest(row)
        return _Source(plan, states, run_id)

    async def _at_rest(self, row: RunRow) -> tuple[Summary, Plan]:
        """The states that went to rest with the run, and what numbers them. Raises `Stopping`."""
        if row.summary is None:
            # Live, but not here: between a failed append and the actor's return.
            raise Stopping
        states = unpack(row.summary)
        return states, await self._supervisor.plans.get(row.version_digest, states.lineage)


def _run_view(run: Run, row: RunRow, held_by_budget: str = "", owner: str = "") -> RunView:
    live = replace(
        row,
        state=int(run.state),
        reason=run.reason,
        start_time=run.started_at,
        end_time=run.ended_at,
        parameters=run.parameters,
        output=run_output(run) if run.state is RunState.COMPLETED else None,
        last_seq=run.seq,
    )
    held = "" if run.held is None else run.held.key
    return RunView(
        live,
        run.plan,
        run.counts(),
        run.generation,
        held,
        run.paused,
        _budget(run),
        held_by_budget,
        "" if run.at_rest else owner,
    )


def _budget(run: Run) -> BudgetView | None:
    spending, budget = run.spending, run.plan.budget
    if spending is None or budget is None or run.at_rest:
        return None
    budget = replace(budget, limits=spending.limits)
    return BudgetView(budget, spending.used, spending.measure, spending.since)


def _keys(source: _Source, step: int | None, after: tuple[int, int] | None) -> Iterator[tuple[int, int]]:
    if step is None:
        first = 0 if after is None else after[0] + 1
        yield from ((step.number, WHOLE) for step in source.plan.steps[first:] if not step.retired)
        return
    first = 0 if after is None else after[1] + 1
    yield from ((step, item) for item in range(first, len(source.states.items_of(step) or b"")))


def _step_view(source: _Source, key: tuple[int, int]) -> StepRunView:
    """Raises `LookupError`."""
    step, item = key
    state = source.states.state_of(step, item)
    place = place_of(source.plan, source.states, step, item)
    counts = source.states.item_counts(step) if item == WHOLE else None
    if source.run is None:
        return StepRunView(step, item, int(state), place=place, item_counts=counts)
    detail = describe(source.run, step, item)
    failure = detail.failure
    return StepRunView(
        step=step,
        item=item,
        state=int(detail.state),
        place=place,
        attempts=detail.attempts,
        failure=None if failure is None else FailureView(failure.reason, failure.message, failure.error_class),
        ready_time=detail.first_ready_at,
        start_time=detail.first_leased_at,
        agent=detail.agent,
        wait_reason=detail.wait.reason.name.lower() if detail.wait else "",
        wait_until=detail.wait.until if detail.wait else None,
        item_counts=counts,
        generation=0 if detail.state.at_rest and source.run.generation > 1 else source.run.generation,
        child=source.run.children.get(key),
    )


def _merge(source: _Source, view: StepRunView, row: StepRunRow | None) -> StepRunView:
    """A row tells more than the state alone, if the step run is at rest."""
    if row is None or not source.tells_of(row):
        return view
    if row.generation < source.states.began_in(view.step, view.item):
        # It has begun again since. Numbers of attempts go on.
        if view.item != WHOLE and view.step in source.states.numberings:
            return view  # the row may be of another place
        return replace(view, attempts=max(view.attempts, row.attempts))
    if row.state != view.state and not _tells_of_undone(view, row):
        return view
    if view.item_counts is not None and view.state == StepState.COMPLETED:
        # It is of a former generation, in which the step was none of items: a map that completes has no row.
        return view
    return replace(
        view,
        attempts=row.attempts,
        output=row.output,
        failure=decode_failure(row.failure),
        ready_time=row.ready_time,
        start_time=row.start_time,
        end_time=row.end_time,
        agent=row.agent,
        generation=row.generation,
        source=decode_source(row.source),
        child=_last_child(source, view, row.attempts, row.start_time),
    )


def _tells_of_undone(view: StepRunView, row: StepRunRow) -> bool:
    """What a step run gave before it was undone is told on."""
    return view.state == StepState.ROLLED_BACK and row.state == StepState.COMPLETED


def _last_child(source: _Source, view: StepRunView, attempts: int, started: int | None) -> RunId | None:
    """The id of the run that a step run at rest was. A list knows it if there was one attempt."""
    if source.plan.steps[view.step].line != CHILDREN or attempts != 1 or started is None:
        return None
    kept = kept_number(source.states.numberings, view.step, view.item)
    return child_run_id(source.run_id, view.step, kept, attempts, started)
