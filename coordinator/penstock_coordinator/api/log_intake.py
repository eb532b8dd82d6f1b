"""Log lines from agents: checked, and handed on to the hub."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import grpc

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.api.errors import CallError, invalid
from penstock_coordinator.api.fields import LARGEST_INT, span_of
from penstock_coordinator.api.forwarding import RUN_MOVED
from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.ports import LogChunk, LogLine
from penstock_coordinator.runtime.views import UnknownRun, UnknownStepRun

if TYPE_CHECKING:
    from penstock_coordinator.core.fleet.leases import Lease, LeaseKey
    from penstock_coordinator.ports import Clock, RunId
    from penstock_coordinator.runtime.engine import Engine
    from penstock_coordinator.runtime.log_hub import LogHub

KNOWN_PLACES = 10_000
MAX_AGENT_ID = 128
LARGEST_NUMBER = 2**53
LONGEST_OFFSET = 10 * 366 * 86_400 * 1_000_000
SOON = 200_000
"""Microseconds until what was refused may come again."""
_SOURCES = frozenset(wire.LogSource.values()) - {wire.LOG_SOURCE_UNSPECIFIED}


class LiveRuns(Protocol):
    """What is known of runs and leases without a look at the database."""

    def has_step_run(self, run_id: RunId, step: int, item: int) -> bool | None:
        """None: the run is not live here."""

    def kept_number(self, key: LeaseKey, token: int) -> int:
        """Under which the item's lines are kept. Raises `LookupError` for one that never was."""

    def lease(self, key: LeaseKey) -> Lease | None: ...

    async def is_elsewhere(self, run_id: RunId) -> bool:
        """Of a run without an actor here: it is live, and another coordinator's. Raises `Unavailable`."""


class LogIntake:
    def __init__(self, engine: Engine, live: LiveRuns, hub: LogHub, clock: Clock) -> None:
        self._engine = engine
        self._live = live
        self._hub = hub
        self._clock = clock
        self._ended: OrderedDict[LeaseKey, bool] = OrderedDict()
        """Whether a run that is not live has such a step run: their last lines may come late."""

    async def receive(self, requests: AsyncIterator[wire.PushLogsRequest]) -> wire.PushLogsResponse:
        """How many lines were taken; all of them are durable. Raises INVALID_ARGUMENT for what is malformed, and
        UNAVAILABLE, RUN_MOVED, for lines of a run that is live at another coordinator: its readers wait for them there.
        Lines of step runs that do not exist, or that another agent holds, are dropped."""
        accepted = messages = 0
        agent = ""
        async for request in requests:
            messages += 1
            agent = agent or _agent(request.agent_id)
            for number, batch in enumerate(request.batches):
                try:
                    chunk = _chunk(batch, self._clock.now())
                except CallError as error:
                    raise error.within(f"batches[{number}]") from None
                if await self._is_from(agent, batch.lease.token, chunk):
                    accepted += await self._keep(chunk, batch.lease.token)
        await self._hub.flush()
        return wire.PushLogsResponse(accepted_lines=accepted, read_messages=messages)

    def expect(self, result: wire.StepResult) -> None:
        """Of an attempt that has ended: whoever follows waits for its last line."""
        lease = result.lease
        try:
            item = self._live.kept_number((lease.run_id, lease.step, lease.item), lease.token)
        except LookupError:
            return
        self._hub.expect((lease.run_id, lease.step, item, result.attempt), result.log_lines)

    async def _keep(self, chunk: LogChunk, token: int) -> int:
        try:
            item = self._live.kept_number((chunk.run_id, chunk.step, chunk.item), token)
        except LookupError:
            return 0
        return await self._hub.put(chunk if item == chunk.item else replace(chunk, item=item))

    async def _is_from(self, agent: str, token: int, chunk: LogChunk) -> bool:
        key = (chunk.run_id, chunk.step, chunk.item)
        known = self._live.has_step_run(*key)
        if known is None:
            return await self._is_known(key)
        lease = self._live.lease(key)
        return known and (lease is None or lease.token != token or lease.holder.agent == agent)

    async def _is_known(self, key: LeaseKey) -> bool:
        known = self._ended.get(key)
        if known is None:
            if await self._live.is_elsewhere(key[0]):
                raise run_moved(key[0])
            try:
                await self._engine.step_run(*key)
                known = True
            except (UnknownRun, UnknownStepRun):
                known = False
            self._ended[key] = known
            if len(self._ended) > KNOWN_PLACES:
                self._ended.popitem(last=False)
        return known


def run_moved(run_id: RunId) -> CallError:
    text = "the run of these lines is live at another coordinator: send them to the one that has the lease now"
    return CallError(
        grpc.StatusCode.UNAVAILABLE,
        RUN_MOVED,
        text,
        metadata={"run_id": str(uuid.UUID(bytes=run_id))},
        retry_after=SOON,
    )


def _agent(agent_id: str) -> str:
    if not agent_id or len(agent_id) > MAX_AGENT_ID or not agent_id.isprintable():
        raise invalid("agent_id", f"is required in the first message: 1 to {MAX_AGENT_ID} printable characters")
    return agent_id


def _chunk(batch: wire.LogBatch, now: int) -> LogChunk:
    lease = batch.lease
    if len(lease.run_id) != 16:
        raise invalid("lease.run_id", "must be 16 bytes")
    if lease.step > LARGEST_INT or not WHOLE <= lease.item <= LARGEST_INT:
        raise invalid("lease", "step and item must be positions; item -1 is for a step that is not mapped")
    if not 1 <= batch.attempt <= LARGEST_INT:
        raise invalid("attempt", "is counted from 1")
    lines = tuple(_line(record, number) for number, record in enumerate(batch.records))
    return LogChunk(lease.run_id, lease.step, lease.item, batch.attempt, now, lines)


def _line(record: wire.LogRecord, number: int) -> LogLine:
    field = f"records[{number}]"
    if not 1 <= record.number <= LARGEST_NUMBER:
        raise invalid(f"{field}.number", "is counted from 1 within the attempt")
    if record.source not in _SOURCES:
        raise invalid(f"{field}.source", "must be STDOUT, STDERR or SYSTEM")
    offset = span_of(record.offset, f"{field}.offset", LONGEST_OFFSET)
    return LogLine(source=record.source, number=record.number, offset=offset, text=record.text)
