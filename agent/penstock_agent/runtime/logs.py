"""Takes the lines that steps print to the coordinator: a stream of their own, best effort over reconnects.

The buffer is bounded. When it is full the workers' lines are not read, so the steps that print wait; if that lasts,
because no coordinator takes lines, the oldest lines are dropped instead (the gap in their numbers shows it): a step
is never stopped for long by its own output.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import grpc
import grpc.aio

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from penstock_agent.core.leases import Handle
from penstock_agent.executors.channel import LogLines
from penstock_agent.runtime.backoff import asked_to_wait, wait_before
from penstock_agent.runtime.calls import CallLost, lost_when_cancelled
from penstock_agent.runtime.wire import span

log = logging.getLogger(__name__)

LogCall: TypeAlias = "grpc.aio.StreamUnaryCall[wire.PushLogsRequest, wire.PushLogsResponse]"

FULL_BYTES = 8 * 1024 * 1024
ROOM_BYTES = FULL_BYTES // 2
MESSAGE_BYTES = 256 * 1024
MESSAGE_LINES = 2_000
LINE_OVERHEAD = 48
TAKEN = "penstock-log-lines", "taken"
"""Initial metadata of a coordinator that takes lines. The library tells of initial metadata, without any, also when a
call is refused, and that may be well before it tells of the status."""
LET_IN_WITHIN = 2.0
"""Seconds that a coordinator has to say that it takes lines; without a word it is one of a former release, which took
them without a word."""
HELD_UP = 5.0
"""So long a full buffer holds steps up, in seconds."""
REMEMBERED = 1_024
"""Attempts that ended, and whose last lines may still come."""


class LogRelay:
    """An `OutputSink`. `run` is its task; lines are added on the same loop."""

    def __init__(self, agent_id: str, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._failures = 0
        """Of streams, since the last that took a message."""
        self.on_room: Callable[[], None] | None = None
        self._agent_id = agent_id
        self._stub: AgentServiceStub | None = None
        self._names: dict[Handle, tuple[wire.LeaseRef, int, int]] = {}
        """With how many lines were told of the attempt before it began."""
        self._ended: deque[Handle] = deque()
        self._batches: deque[tuple[int, wire.LogBatch]] = deque()
        self._bytes = 0
        self._full = False
        self._changed = asyncio.Event()
        self._closing = False

    # --- attempts

    def introduce(self, handle: Handle, ref: wire.LeaseRef, attempt: int, before: int = 0) -> None:
        """Lines of this handle will come, counted from 1; `before` them so many came."""
        self._names[handle] = (ref, attempt, before)

    def attempt_ended(self, handle: Handle) -> None:
        self._ended.append(handle)
        if len(self._ended) > REMEMBERED:
            self._names.pop(self._ended.popleft(), None)

    # --- lines

    @property
    def is_full(self) -> bool:
        return self._full

    def add(self, batch: LogLines) -> None:
        name = self._names.get(batch.handle)
        if name is None:
            return
        ref, attempt, before = name
        for start in range(0, len(batch.lines), MESSAGE_LINES):
            records = [
                wire.LogRecord(
                    number=number + before,
                    source=wire.LogSource.ValueType(source),
                    text=text,
                    offset=span(max(offset, 0)),
                )
                for number, source, offset, text in batch.lines[start : start + MESSAGE_LINES]
            ]
            message = wire.LogBatch(lease=ref, attempt=attempt, records=records)
            size = message.ByteSize() + LINE_OVERHEAD * len(records)
            self._batches.append((size, message))
            self._bytes += size
        if self._bytes >= FULL_BYTES and not self._full:
            self._full = True
            asyncio.get_running_loop().call_later(HELD_UP, self._drop_if_full)
        self._changed.set()

    def _drop_if_full(self) -> None:
        if not self._full:
            return
        dropped = 0
        while self._bytes > ROOM_BYTES:
            dropped += len(self._take()[1].records)
        log.warning("no coordinator takes log lines: %d lines are dropped", dropped)

    def _take(self) -> tuple[int, wire.LogBatch]:
        size, batch = self._batches.popleft()
        self._bytes -= size
        if self._full and self._bytes <= ROOM_BYTES:
            self._full = False
            if self.on_room is not None:
                self.on_room()
        return size, batch

    # --- the stream

    def use(self, stub: AgentServiceStub | None) -> None:
        """Where to push from now on; None: nowhere for now."""
        self._stub = stub
        self._changed.set()

    def close(self) -> None:
        """No more lines come: `run` ends when it has pushed those that it has."""
        self._closing = True
        self._changed.set()

    async def run(self) -> None:
        while not (self._closing and not self._batches):
            self._changed.clear()
            stub = self._stub
            if stub is None or not self._batches:
                if not (self._closing and stub is None):
                    await self._changed.wait()
                    continue
                return
            try:
                with lost_when_cancelled():
                    await self._push(stub)
            except CallLost:
                continue
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    self._drop_all()
                self._failures += 1
                await asyncio.sleep(wait_before(self._failures, self._chance(), asked_to_wait(error)))

    def _drop_all(self) -> None:
        while self._batches:
            self._take()

    async def _push(self, stub: AgentServiceStub) -> None:
        """One stream for as long as it and its coordinator live."""
        call = stub.PushLogs()
        unsent: list[tuple[int, wire.LogBatch]] = []
        try:
            await _let_in(call)
            while self._stub is stub:
                unsent = self._next_message()
                if unsent:
                    batches = [batch for _, batch in unsent]
                    await call.write(wire.PushLogsRequest(agent_id=self._agent_id, batches=batches))
                    unsent = []
                    self._failures = 0
                elif self._closing:
                    break
                else:
                    self._changed.clear()
                    await self._changed.wait()
            await call.done_writing()
            await call
        except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
            # The other side has ended the call: its status says why. A write that fails before the status is there says
            # INTERNAL instead.
            self._put_back(unsent)
            await call
        except BaseException:
            self._put_back(unsent)
            raise
        finally:
            call.cancel()

    def _next_message(self) -> list[tuple[int, wire.LogBatch]]:
        taken: list[tuple[int, wire.LogBatch]] = []
        size = lines = 0
        while self._batches and size < MESSAGE_BYTES and lines < MESSAGE_LINES:
            batch = self._take()
            taken.append(batch)
            size += batch[0]
            lines += len(batch[1].records)
        return taken

    def _put_back(self, unsent: list[tuple[int, wire.LogBatch]]) -> None:
        self._batches.extendleft(reversed(unsent))
        self._bytes += sum(size for size, _ in unsent)


async def _let_in(call: LogCall) -> None:
    """Returns when the coordinator takes lines: what is written to a call that it refuses would be lost, and so would
    the time that it asks to wait, if the write failed before its status is there. Raises `AioRpcError`."""
    word = asyncio.ensure_future(_taken_or_refused(call))
    word.add_done_callback(_heard)
    # It is not given up if it takes longer: that would end the call.
    await asyncio.wait({word}, timeout=LET_IN_WITHIN)
    if call.done():
        await call


async def _taken_or_refused(call: LogCall) -> None:
    if TAKEN not in tuple(await call.initial_metadata()):
        await call.code()


def _heard(word: asyncio.Future[None]) -> None:
    if not word.cancelled():
        word.exception()
