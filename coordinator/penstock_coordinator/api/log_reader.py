"""TailLogs: what steps wrote, and what they are writing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from penstock.v1 import run_service_pb2 as pb
from penstock_coordinator.api.encoding.values import instant, span
from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.numbering import Place, kept_number, kept_place
from penstock_coordinator.core.run.places import FLAT, nests, place_of
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.ports import LogChunk, LogFilter
from penstock_coordinator.runtime.live_logs import EVERYTHING, LiveLogs, Page
from penstock_coordinator.runtime.log_packing import is_meant
from penstock_coordinator.runtime.views import SlowReader, Stopping

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.core.run.places import Shaped
    from penstock_coordinator.ports import Clock, RunId
    from penstock_coordinator.runtime.engine import Engine
    from penstock_coordinator.runtime.log_history import LogHistory
    from penstock_coordinator.runtime.log_hub import LogHub

READ_CHUNKS = 100
RESPONSE_BYTES = 1 << 20
MAX_TAIL_LINES = 10_000
MAX_SEARCH_CHARACTERS = 1_000
SEARCHED_LINES = 2_000_000
"""Of what is there, by one search."""
NO_ITEM = -2
"""Nothing is kept under it."""
LATE_SECONDS = 1.0
"""Lines come by a stream of their own and may be behind the result: so long nothing must come before a follower is let
go."""
EXPECTED_SECONDS = 30.0
"""The same where it is known that lines are still to come: their agent may be gone."""


@dataclass(frozen=True, slots=True)
class LogQuery:
    """`where` in the numbers that steps have now."""

    where: LogFilter = EVERYTHING
    tail_lines: int = 0
    after: int = 0
    contains: str = ""
    ignore_case: bool = False
    follow: bool = False

    def cut(self, chunks: list[LogChunk]) -> list[LogChunk]:
        """Without the lines that do not have the text."""
        if not self.contains:
            return chunks
        cut = (replace(chunk, lines=tuple(line for line in chunk.lines if self._has(line.text))) for chunk in chunks)
        return [chunk for chunk in cut if chunk.lines]

    def _has(self, text: str) -> bool:
        if self.ignore_case:
            return self.contains.casefold() in text.casefold()
        return self.contains in text


class LogReader:
    def __init__(self, engine: Engine, logs: LogHistory, hub: LogHub, clock: Clock) -> None:
        self._engine = engine
        self._logs = logs
        self._live = LiveLogs(logs)
        self._hub = hub
        self._clock = clock

    async def tail(self, run_id: RunId, plan: Plan, query: LogQuery) -> AsyncGenerator[pb.TailLogsResponse, None]:
        """Lines in the order in which they were received. With `follow` until the step run, or the run, is at rest."""
        with self._hub.follow(run_id) as fresh:
            reading = _Reading(run_id, plan, query)
            if query.tail_lines:
                shape = await self._shape(run_id, plan)
                chunks = await self._newest(run_id, _kept(shape, query.where), query.tail_lines)
                for response in reading.responses(shape, _last_lines(chunks, query.tail_lines)):
                    yield response
            async for response in self._history(reading):
                yield response
            if query.follow and not reading.has_stopped:
                async for response in self._following(reading, fresh):
                    yield response

    async def _history(self, reading: _Reading) -> AsyncGenerator[pb.TailLogsResponse, None]:
        """What is there."""
        run_id, query = reading.run_id, reading.query
        end = await self._logs.end(run_id) if query.follow else 0
        shape = await self._shape(run_id, reading.plan)
        where = _kept(shape, query.where)
        while chunks := await self._logs.read_logs(run_id, where, reading.position, READ_CHUNKS):
            for response in reading.responses(shape, chunks):
                yield response
            if reading.has_stopped:
                return
        # What others wrote meanwhile need not be looked at again.
        reading.position = max(reading.position, end)

    async def _following(self, reading: _Reading, fresh: asyncio.Event) -> AsyncGenerator[pb.TailLogsResponse, None]:
        resting = asyncio.create_task(self._rest(reading.run_id, reading.query.where))
        try:
            while True:
                fresh.clear()
                while (page := await self._live.read(reading.run_id, reading.position)).chunks:
                    for response in reading.page(await self._shape(reading.run_id, reading.plan), page):
                        yield response
                if not await self._more_may_come(reading, fresh, resting):
                    return
        finally:
            resting.cancel()

    async def _shape(self, run_id: RunId, plan: Plan) -> Shaped:
        return await self._engine.shape(run_id) if nests(plan) else FLAT

    async def _newest(self, run_id: RunId, where: LogFilter, lines: int) -> list[LogChunk]:
        """The newest chunks with at least so many lines, if there are."""
        limit = 16
        while True:
            chunks = await self._logs.last_logs(run_id, where, limit)
            if len(chunks) < limit or sum(len(chunk.lines) for chunk in chunks) >= lines:
                return chunks
            limit *= 4

    async def _more_may_come(self, reading: _Reading, fresh: asyncio.Event, resting: asyncio.Task[int]) -> bool:
        """Returns when there is something to read, or nothing more will come."""
        waiting = asyncio.create_task(fresh.wait())
        try:
            if not resting.done():
                await asyncio.wait({waiting, resting}, return_when=asyncio.FIRST_COMPLETED)
            if resting.done():
                rested_at = resting.result()
                where = _kept(await self._shape(reading.run_id, reading.plan), reading.query.where)
                if self._hub.expects(reading.run_id, where):
                    await asyncio.wait({waiting}, timeout=EXPECTED_SECONDS)
                else:
                    rested = (self._clock.now() - rested_at) / 1_000_000
                    await asyncio.wait({waiting}, timeout=max(LATE_SECONDS - rested, 0))
            return waiting.done()
        finally:
            waiting.cancel()

    async def _rest(self, run_id: RunId, where: LogFilter) -> int:
        """When what is followed came to rest, once it has. Raises `Stopping` if this coordinator stops before."""
        if where.step is None:
            return await self._run_rest(run_id)
        item = e.WHOLE if where.item is None else where.item
        while True:
            try:
                return await self._step_run_rest(run_id, where.step, item)
            except SlowReader:
                continue

    async def _run_rest(self, run_id: RunId) -> int:
        await self._engine.at_rest(run_id)
        row = (await self._engine.run(run_id)).row
        if not RunState(row.state).at_rest:
            raise Stopping
        return row.end_time or 0

    async def _step_run_rest(self, run_id: RunId, step: int, item: int) -> int:
        seen = (await self._engine.run(run_id)).row.last_seq
        view, _ = await self._engine.step_run(run_id, step, item)
        if StepState(view.state).at_rest:
            return view.end_time or 0
        await self._settling(run_id, step, item, seen + 1)
        return self._clock.now()

    async def _settling(self, run_id: RunId, step: int, item: int, first: int) -> None:
        async for events in self._engine.watch(run_id, first):
            if any(settles(event, step, item) for _, event in events):
                return


def settles(event: e.Event, step: int, item: int) -> bool:
    """Whether the step run is at rest by this event."""
    match event:
        case e.StepCompleted() | e.StepFailed() | e.StepCancelled():
            return (event.step, event.item) == (step, item)
        case e.MapSettled():
            return (event.step, e.WHOLE) == (step, item)
        case e.StepsSettled():
            return item == e.WHOLE and any(first <= step < stop for first, stop in event.ranges)
        case e.ItemsSettled():
            return event.step == step and any(first <= item < stop for first, stop in event.ranges)
        case e.RunEnded():
            return True
        case _:
            return False


class _Reading:
    """How far one reader has come."""

    def __init__(self, run_id: RunId, plan: Plan, query: LogQuery) -> None:
        self.run_id, self.plan, self.query = run_id, plan, query
        self.position = query.after
        self.has_stopped = False
        self._looked_at = 0

    def responses(self, shape: Shaped, chunks: list[LogChunk]) -> list[pb.TailLogsResponse]:
        """Of what is there. A search that has looked at enough says so, and is over."""
        if not chunks:
            return []
        self.position = chunks[-1].position
        self._looked_at += sum(len(chunk.lines) for chunk in chunks) if self.query.contains else 0
        found = _responses(self.plan, shape, self.query.cut(chunks))
        self.has_stopped = self._looked_at >= SEARCHED_LINES
        if self.has_stopped:
            found.append(pb.TailLogsResponse(stopped_after_lines=self._looked_at))
        if found:
            found[-1].position = self.position
        return found

    def page(self, shape: Shaped, page: Page) -> list[pb.TailLogsResponse]:
        """Of what has just come. All who want all of it are told the same."""
        self.position = page.chunks[-1].position
        for_all = self.query.where == EVERYTHING and not self.query.contains and not nests(self.plan)
        if for_all and page.encoded is not None:
            shared: list[pb.TailLogsResponse] = page.encoded
            return shared
        where = _kept(shape, self.query.where)
        chunks = [c for c in page.chunks if is_meant(where, c.step, c.item, c.attempt, c.at)]
        found = _responses(self.plan, shape, self.query.cut(chunks))
        if found:
            found[-1].position = self.position
        if for_all:
            page.encoded = found
        return found


def _last_lines(chunks: list[LogChunk], wanted: int) -> list[LogChunk]:
    """Without the lines before the last `wanted`."""
    surplus = sum(len(chunk.lines) for chunk in chunks) - wanted
    kept = []
    for chunk in chunks:
        cut = min(max(surplus, 0), len(chunk.lines))
        surplus -= cut
        if cut < len(chunk.lines):
            kept.append(replace(chunk, lines=chunk.lines[cut:]))
    return kept


def _responses(plan: Plan, shape: Shaped, chunks: list[LogChunk]) -> list[pb.TailLogsResponse]:
    responses: list[pb.TailLogsResponse] = []
    size = RESPONSE_BYTES
    for chunk in chunks:
        for line in _lines(plan, shape, chunk):
            bytes_of_line = line.ByteSize()
            if size + bytes_of_line > RESPONSE_BYTES:
                responses.append(pb.TailLogsResponse())
                size = 0
            responses[-1].lines.append(line)
            size += bytes_of_line
    return responses


def _place(plan: Plan, shape: Shaped, step: int, item: int) -> Place:
    """Of a kept number; of an item of a former generation that is no more, its number."""
    place = kept_place(shape.numberings, step, item)
    if place is not None:
        return place
    if plan.steps[step].depth > 1 and item >= len(shape.items_of(step) or b""):
        return (item,)
    return place_of(plan, shape, step, item)


def _kept(shape: Shaped, where: LogFilter) -> LogFilter:
    """The filter in the numbers of the store. An item that is gone has no lines now."""
    if where.step is None or where.item is None or not shape.numberings:
        return where
    try:
        return replace(where, item=kept_number(shape.numberings, where.step, where.item))
    except LookupError:
        return replace(where, item=NO_ITEM)


def _lines(plan: Plan, shape: Shaped, chunk: LogChunk) -> list[pb.LogLine]:
    name = plan.steps[chunk.step].name
    item = _place(plan, shape, chunk.step, chunk.item)
    received = instant(chunk.at)
    return [
        pb.LogLine(
            step=name,
            item=item,
            attempt=chunk.attempt,
            stream=pb.LogStream.ValueType(line.source),
            text=line.text,
            offset=span(line.offset),
            number=line.number,
            receive_time=received,
        )
        for line in chunk.lines
    ]
