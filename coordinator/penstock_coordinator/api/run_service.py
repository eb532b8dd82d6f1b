"""penstock.v1.RunService."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, nullcontext
from typing import TYPE_CHECKING, cast

from penstock.v1 import run_pb2
from penstock.v1 import run_service_pb2 as pb
from penstock_coordinator.api.encoding import costs as encode_costs
from penstock_coordinator.api.encoding import runs as encode
from penstock_coordinator.api.encoding.differences import run_difference
from penstock_coordinator.api.encoding.events import EventEncoder
from penstock_coordinator.api.encoding.explanations import explained
from penstock_coordinator.api.errors import invalid
from penstock_coordinator.api.fields import (
    count_of,
    event_of,
    instant_of,
    labels_of,
    name_of,
    place_in,
    run_id_of,
    run_id_text,
    states_of,
)
from penstock_coordinator.api.log_reader import MAX_SEARCH_CHARACTERS, MAX_TAIL_LINES, LogQuery
from penstock_coordinator.api.paging import PageTokens, page_size
from penstock_coordinator.api.run_control import RunControl, encoded, step_number
from penstock_coordinator.api.run_keys import run_key_of
from penstock_coordinator.core.run.events import WHOLE, RunReopened
from penstock_coordinator.core.run.places import place_of
from penstock_coordinator.ports import Costs, LogFilter, RunFilter, Unavailable
from penstock_coordinator.runtime.views import EventNotYet, OutputTooLarge, UnknownRun

if TYPE_CHECKING:
    from penstock_coordinator.api.encoding.costs import Prices
    from penstock_coordinator.api.guard import Context
    from penstock_coordinator.api.log_reader import LogReader
    from penstock_coordinator.api.run_starter import RunStarter
    from penstock_coordinator.core.plan.limits import Limits
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.core.run.events import Event
    from penstock_coordinator.core.run.places import Shaped
    from penstock_coordinator.ports import Clock, RunId, RunRow, Stores
    from penstock_coordinator.runtime.engine import Engine
    from penstock_coordinator.runtime.views import StepRunView

STEP_RUNS_PAGE = 100
PAGE_BYTES = 2 << 20
"""A page of step runs ends early rather than be larger."""
WATCH_BYTES, WATCH_EVENTS = 1 << 20, 500
MAX_WAITED = 1_000
WAITING = b""
"""In place of a run: a call waits for many."""
PACKED_INLINE_BYTES = 64 << 10
"""More than this of packed states is unpacked in a thread."""


class RunService(RunControl):
    def __init__(
        self,
        stores: Stores,
        engine: Engine,
        clock: Clock,
        limits: Limits,
        starter: RunStarter,
        logs: LogReader,
        prices: Prices,
    ) -> None:
        super().__init__(engine, stores.runs, clock)
        self._limits = limits
        self._starter = starter
        self._logs = logs
        self._costs = stores.costs
        self._prices = prices

    # --- starting and ending

    async def Start(self, request: pb.StartRunRequest, context: Context) -> pb.StartRunResponse:
        started = await self._starter.start(request)
        warnings = await self._starter.warnings(started.version)
        if started.request is None:
            run = await self._run(started.run_id)
            return pb.StartRunResponse(run=run, existing=started.existing, warnings=warnings)
        run = await encoded(await self._engine.started(started.run_id, started.request))
        return pb.StartRunResponse(run=run, warnings=warnings)

    async def StartMany(self, request: pb.StartManyRunsRequest, context: Context) -> pb.StartManyRunsResponse:
        started = await self._starter.start_many(request.requests)
        warnings = await self._starter.warnings(*started.versions)
        return pb.StartManyRunsResponse(run_ids=[run_id_text(each) for each in started.run_ids], warnings=warnings)

    # --- runs

    async def WaitMany(
        self, request: pb.WaitManyRunsRequest, context: Context
    ) -> AsyncIterator[pb.WaitManyRunsResponse]:
        if not 1 <= len(request.run_ids) <= MAX_WAITED:
            raise invalid("run_ids", f"must be between 1 and {MAX_WAITED:,}, and there are {len(request.run_ids):,}")
        run_ids = [run_id_of(text, f"run_ids[{number}]") for number, text in enumerate(request.run_ids)]
        with self._engine.waiting_seats.taken(WAITING):
            async with aclosing(self._engine.wait_many(run_ids)) as ended:
                try:
                    async for views in ended:
                        runs = [await encoded(view) for view in views]
                        await self._tell_parents(runs, [view.row for view in views])
                        for response in _wait_responses(runs):
                            yield response
                except UnknownRun as unknown:
                    unknown.field = f"run_ids[{run_ids.index(unknown.run_id)}]"
                    raise

    async def Get(self, request: pb.GetRunRequest, context: Context) -> pb.GetRunResponse:
        view = await self._engine.run(run_id_of(request.run_id), event_of(request.at_event, "at_event"))
        message = await encoded(view)
        await self._tell_parents([message], [view.row])
        if view.row.start_time is not None and not request.at_event:
            await self._tell_costs(message, view.row.run_id)
        return pb.GetRunResponse(run=message)

    async def _tell_costs(self, message: run_pb2.Run, run_id: RunId) -> None:
        """While the database is away the run is told of without them."""
        with contextlib.suppress(Unavailable):
            found = await self._costs.of_run(run_id)
            if found:
                total = sum((costs for _, costs in found), Costs())
                message.costs.CopyFrom(encode_costs.costs(total, self._prices))

    async def List(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        where = RunFilter(
            pipeline=name_of(request.pipeline, "pipeline", "a pipeline") if request.pipeline else "",
            states=states_of(request.states, run_pb2.RunState.values()),
            labels=tuple(sorted(labels_of(request.labels, "labels", self._limits).items())),
            run_key=run_key_of(request.run_key),
            parent=run_id_of(request.parent_run_id, "parent_run_id") if request.parent_run_id else None,
            top_level=request.top_level,
        )
        size, tokens = page_size(request.page_size), PageTokens(request, bytes)
        rows = await self._runs.list_runs(where, size + 1, tokens.read(request.page_token))
        runs = await _listed(rows[:size])
        glances = await self._engine.glances(rows[:size])
        for run, row in zip(runs, rows, strict=False):
            if (glance := glances.get(row.run_id)) is not None:
                run.step_counts.CopyFrom(encode.counts(glance.counts))
                run.held_by_key = glance.held_by_key
                run.held_by_budget = glance.held_by_budget
        await self._tell_parents(runs, rows)
        return pb.ListRunsResponse(
            runs=runs,
            next_page_token=tokens.write(rows[size - 1].run_id) if len(rows) > size else "",
        )

    async def _tell_parents(self, runs: Sequence[run_pb2.Run], rows: Sequence[RunRow]) -> None:
        """Of runs that are steps of others: of which. Each of these is looked up once; of a removed one nothing is
        known but the id."""
        known: dict[RunId, tuple[Plan, Shaped] | None] = {}
        for run, row in zip(runs, rows, strict=False):
            parent = row.origin.parent
            if parent is None:
                continue
            if parent.run_id not in known:
                known[parent.run_id] = await self._shaped(parent.run_id)
            above = known[parent.run_id]
            if above is not None:
                place = place_of(*above, parent.step, parent.item)
                encode.lineage(run, above[0].steps[parent.step].name, place)

    async def _shaped(self, run_id: RunId) -> tuple[Plan, Shaped] | None:
        """None if the run was removed."""
        try:
            return (await self._engine.run(run_id)).plan, await self._engine.shape(run_id)
        except UnknownRun:
            return None

    async def Watch(self, request: pb.WatchRunRequest, context: Context) -> AsyncIterator[pb.WatchRunResponse]:
        run_id = run_id_of(request.run_id)
        first = max(event_of(request.from_event, "from_event"), 1)
        view = await self._engine.run(run_id)
        if first > view.row.last_seq + 1:
            raise EventNotYet(view.row.last_seq)
        # The events that come first are those of the first version.
        first_version = await self._engine.plan((*view.plan.lineage, view.plan.digest)[0])
        encoder = EventEncoder(first_version, reopened=view.generation > 1)
        with self._engine.seats.taken(run_id):
            await self._catch_up(encoder, run_id, first)
            async with aclosing(self._watched(run_id, first)) as watched:
                async for events in watched:
                    await self._expect_versions(encoder, events)
                    for response in _watch_responses(encoder, events):
                        yield response

    def _watched(self, run_id: RunId, first: int) -> AsyncGenerator[list[tuple[int, Event]], None]:
        return cast("AsyncGenerator[list[tuple[int, Event]], None]", self._engine.watch(run_id, first))

    async def _catch_up(self, encoder: EventEncoder, run_id: RunId, first: int) -> None:
        """Tell the encoder what was before the first event that is wanted. The first events are enough."""
        if first == 1:
            return
        async with aclosing(self._watched(run_id, 1)) as watched:
            async for events in watched:
                before = [(number, event) for number, event in events if number < first]
                await self._expect_versions(encoder, before)
                for _, event in before:
                    encoder.skip(event)
                if not (encoder.pending or encoder.hangs_on_all) or events[-1][0] >= first - 1:
                    return

    async def _expect_versions(self, encoder: EventEncoder, events: list[tuple[int, Event]]) -> None:
        for _, event in events:
            if isinstance(event, RunReopened) and event.version_digest != encoder.newest_plan.digest:
                encoder.expect(await self._engine.plan_onto(encoder.newest_plan, event.version_digest))

    # --- step runs

    async def ListStepRuns(self, request: pb.ListStepRunsRequest, context: Context) -> pb.ListStepRunsResponse:
        run_id = run_id_of(request.run_id)
        states = frozenset(states_of(request.states, run_pb2.StepRunState.values()))
        size, tokens = page_size(request.page_size, STEP_RUNS_PAGE), PageTokens(request, tuple[int, int])
        after = tokens.read(request.page_token)
        at_event = event_of(request.at_event, "at_event")
        plan = (await self._engine.run(run_id, at_event)).plan
        step = step_number(plan, request.step) if request.step else None
        views = await self._engine.step_runs(run_id, step, states, after, size + 1, at_event)
        page = _fitting(run_id, plan, views[:size])
        last = views[len(page) - 1] if len(page) < len(views) else None
        return pb.ListStepRunsResponse(
            step_runs=page, next_page_token="" if last is None else tokens.write((last.step, last.item))
        )

    async def GetStepRun(self, request: pb.GetStepRunRequest, context: Context) -> pb.GetStepRunResponse:
        run_id = run_id_of(request.run_id)
        at_event = event_of(request.at_event, "at_event")
        plan = (await self._engine.run(run_id, at_event)).plan
        step = step_number(plan, request.step)
        item = await self._item(run_id, plan, request.item, request.step, at_event)
        view, attempts = await self._engine.step_run(run_id, step, item, at_event)
        message = encode.step_run(run_id, plan, view)
        encode.describe_newest(message, attempts)
        spent = encode_costs.of_attempts(attempts)
        if spent is not None:
            message.costs.CopyFrom(encode_costs.costs(spent, self._prices))
        told = [encode.attempt(each, self._prices) for each in attempts]
        response = pb.GetStepRunResponse(step_run=message, attempts=told)
        if response.ByteSize() > self._limits.message_bytes:
            raise OutputTooLarge
        return response

    async def Explain(self, request: pb.ExplainRunRequest, context: Context) -> pb.ExplainRunResponse:
        run_id = run_id_of(request.run_id)
        view = await self._engine.run(run_id)
        step = step_number(view.plan, request.step) if request.step else None
        item = await self._item(run_id, view.plan, request.item, request.step)
        explanation = await self._engine.explain(run_id, step, item)
        return explained(await encoded(view), explanation)

    async def Diff(self, request: pb.DiffRunsRequest, context: Context) -> pb.DiffRunsResponse:
        first, second = run_id_of(request.run_id), run_id_of(request.other_run_id, "other_run_id")
        return run_difference(await self._engine.difference(first, second))

    async def TailLogs(self, request: pb.TailLogsRequest, context: Context) -> AsyncIterator[pb.TailLogsResponse]:
        run_id = run_id_of(request.run_id)
        _check_tail(request)
        attempt = count_of(request.attempt, "attempt")
        plan = (await self._engine.run(run_id)).plan
        step = step_number(plan, request.step) if request.step else None
        item = await self._item(run_id, plan, request.item, request.step)
        where = LogFilter(step, None if item == WHOLE else item, attempt or None, instant_of(request, "since", ""))
        tail = self._logs.tail(run_id, plan, _query(request, where))
        with self._engine.seats.taken(run_id) if request.follow else nullcontext():
            async with aclosing(tail) as responses:
                async for response in responses:
                    yield response

    async def _item(self, run_id: RunId, plan: Plan, item: Sequence[int], step: str, at_event: int = 0) -> int:
        """The number of the item at the place that was asked for. `step` is one of the plan's, or empty."""
        place = place_in(item, step, plan)
        return await self._engine.item_at(run_id, plan.numbers[step], place, at_event) if place else WHOLE


def _check_tail(request: pb.TailLogsRequest) -> None:
    if not 0 <= request.tail_lines <= MAX_TAIL_LINES:
        raise invalid("tail_lines", f"must be between 0 (for all) and {MAX_TAIL_LINES:,}")
    if len(request.contains) > MAX_SEARCH_CHARACTERS:
        raise invalid("contains", f"must have at most {MAX_SEARCH_CHARACTERS:,} characters")
    if request.after_position < 0 or (request.after_position and request.tail_lines):
        raise invalid("after_position", "must be the position of a response, and not together with tail_lines")


def _query(request: pb.TailLogsRequest, where: LogFilter) -> LogQuery:
    return LogQuery(
        where,
        request.tail_lines,
        request.after_position,
        request.contains,
        request.ignore_case,
        request.follow,
    )


async def _listed(rows: list[RunRow]) -> list[run_pb2.Run]:
    packed = sum(len(row.summary or b"") for row in rows)
    if packed <= PACKED_INLINE_BYTES:
        return [encode.listed_run(row) for row in rows]
    return await asyncio.to_thread(lambda: [encode.listed_run(row) for row in rows])


def _fitting(run_id: RunId, plan: Plan, views: list[StepRunView]) -> list[run_pb2.StepRun]:
    """As many as fit into a page; at least one."""
    page: list[run_pb2.StepRun] = []
    left = PAGE_BYTES
    for view in views:
        message = encode.step_run(run_id, plan, view, listed=True)
        left -= message.ByteSize()
        if page and left < 0:
            break
        page.append(message)
    return page


def _wait_responses(runs: list[run_pb2.Run]) -> Iterator[pb.WaitManyRunsResponse]:
    """In messages of bounded size."""
    response, size = pb.WaitManyRunsResponse(), 0
    for run in runs:
        size += run.ByteSize()
        if response.runs and size > WATCH_BYTES:
            yield response
            response, size = pb.WaitManyRunsResponse(), run.ByteSize()
        response.runs.append(run)
    if response.runs:
        yield response


def _watch_responses(encoder: EventEncoder, events: list[tuple[int, Event]]) -> Iterator[pb.WatchRunResponse]:
    """In messages of bounded size."""
    response, size = pb.WatchRunResponse(), 0
    for number, event in events:
        message = encoder.encode(number, event)
        size += message.ByteSize()
        if response.events and (size > WATCH_BYTES or len(response.events) == WATCH_EVENTS):
            yield response
            response, size = pb.WatchRunResponse(), message.ByteSize()
        response.events.append(message)
    yield response
