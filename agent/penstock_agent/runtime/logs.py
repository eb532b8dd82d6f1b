"""Takes the lines that steps print to the coordinator: by streams of their own, each as long as it takes to bring so
many lines or seconds of them. The answer to a stream says that its lines are durable; those of one without an answer
are sent again, as they were, and the coordinator takes each once.

The buffer is bounded. When it is full the workers' lines are not read, so the steps that print wait; if that lasts,
because no coordinator takes lines, the oldest lines are dropped instead, and the log says so: a step is never stopped
for long by its own output.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import grpc
import grpc.aio

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from penstock_agent.core.leases import Handle
from penstock_agent.executors.channel import SYSTEM, LogLines
from penstock_agent.own_log import OwnLog
from penstock_agent.runtime.backoff import asked_to_wait, wait_before
from penstock_agent.runtime.calls import CallLost, lost_when_cancelled
from penstock_agent.runtime.wire import span

log = OwnLog(__name__)

LogCall: TypeAlias = "grpc.aio.StreamUnaryCall[wire.PushLogsRequest, wire.PushLogsResponse]"

FULL_BYTES = 8 * 1024 * 1024
ROOM_BYTES = FULL_BYTES // 2
MESSAGE_BYTES = 256 * 1024
MESSAGE_LINES = 2_000
GATHER = 0.05
"""Seconds between two messages that are not full: each costs more than its lines."""
STREAM_BYTES = 1024 * 1024
STREAM_SECONDS = 5.0
"""Past either of them a stream ends, and its lines are known to be durable."""
LINE_OVERHEAD = 48
TAKEN = "penstock-log-lines", "taken"
"""Initial metadata of a coordinator that takes lines. The library tells of initial metadata, without any, also when a
call is refused, and that may be well before it tells of the status."""
LET_IN_WITHIN = 2.0
"""Seconds that a coordinator has to say that it takes lines; without a word it is one of a former release, which took
them without a word."""
HELD_UP = 5.0
"""So long a full buffer holds steps up while no coordinator is there to take anything, in seconds. One that is only
slow makes them wait."""
SLOW_LOOKS = 12
"""Of one that has let a stream in, or may yet: so many times as long must go by without a message taken or a stream
answered. One that is starved or frozen, or whose database is, may be back any moment."""
REMEMBERED = 1_024
"""Attempts that ended, and whose last lines may still come."""


_Name: TypeAlias = "tuple[wire.LeaseRef, int]"
_Line: TypeAlias = "tuple[int, int, int, str]"


@dataclass(frozen=True, slots=True)
class _Waiting:
    handle: Handle
    size: int
    name: _Name
    lines: list[_Line]
    missing: int = 0
    """If it is the word on lines that were dropped: how many."""

    def dropped(self) -> _Dropped:
        return _Dropped(self.handle, self.name, self.missing or len(self.lines), self.lines[-1])


@dataclass(frozen=True, slots=True)
class _Message:
    """Is sent again as it is: so the coordinator knows its lines again, also after a restart."""

    size: int
    request: wire.PushLogsRequest
    parts: list[_Dropped]
    """What is to be said if it is dropped after all."""


@dataclass(slots=True)
class _Dropped:
    handle: Handle
    name: _Name
    count: int
    last: _Line


class LogRelay:
    """An `OutputSink`. `run` is its task; lines are added on the same loop."""

    def __init__(self, agent_id: str, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._failures = 0
        """Of streams, since the last that took a message."""
        self.on_room: Callable[[], None] | None = None
        self._agent_id = agent_id
        self._stub: AgentServiceStub | None = None
        self._names: dict[Handle, tuple[_Name, int]] = {}
        """With how many lines the attempt has before its own."""
        self._prefaces: dict[Handle, Sequence[str]] = {}
        """Lines of attempts that have not begun: a lease that is handed back leaves none, for the next one of the same
        attempt counts its own from 1."""
        self._ended: deque[Handle] = deque()
        self._waiting: deque[_Waiting] = deque()
        self._again: deque[_Message] = deque()
        """Of streams without an answer."""
        self._dropped: dict[Handle, _Dropped] = {}
        """Of which the log does not say so yet."""
        self._bytes = 0
        """Of all that is not known to be durable."""
        self._full = False
        self._taken = 0
        """Messages and answers so far: it grows while a coordinator takes lines."""
        self._looks = 0
        """At a full buffer, since something was taken."""
        self._unserved = False
        """The coordinator that is there takes no lines at all, and the agent's own log has said so."""
        self._changed = asyncio.Event()
        self._closing = False

    # --- attempts

    def introduce(self, handle: Handle, ref: wire.LeaseRef, attempt: int, preface: Sequence[str] = ()) -> None:
        """Lines of this handle will come, counted from 1. Those of the preface come before them, if it begins."""
        self._names[handle] = ((ref, attempt), len(preface))
        if preface:
            self._prefaces[handle] = preface

    def begun(self, handle: Handle) -> None:
        """The attempt has begun, or never will: its preface is part of its log."""
        preface = self._prefaces.pop(handle, None)
        if preface is not None:
            before = len(preface)
            lines = [(number - before, SYSTEM, 0, text) for number, text in enumerate(preface, 1)]
            self.add(LogLines(handle, lines))

    def attempt_ended(self, handle: Handle) -> None:
        self._prefaces.pop(handle, None)
        self._ended.append(handle)
        if len(self._ended) > REMEMBERED:
            self._names.pop(self._ended.popleft(), None)

    # --- lines

    @property
    def is_full(self) -> bool:
        return self._full

    def add(self, batch: LogLines) -> None:
        if self._prefaces:
            self.begun(batch.handle)
        known = self._names.get(batch.handle)
        if known is None:
            return
        name, before = known
        lines = batch.lines
        if before:
            lines = [(number + before, source, offset, text) for number, source, offset, text in lines]
        for start in range(0, len(lines), MESSAGE_LINES):
            self._wait(batch.handle, name, lines[start : start + MESSAGE_LINES])
        if self._bytes >= FULL_BYTES and not self._full:
            self._full = True
            self._looks = 0
            self._look_again()
        self._changed.set()

    def _look_again(self) -> None:
        asyncio.get_running_loop().call_later(HELD_UP, self._drop_if_stuck, self._taken)

    def _wait(self, handle: Handle, name: _Name, lines: list[_Line]) -> None:
        size = sum(len(text) for _, _, _, text in lines) + LINE_OVERHEAD * len(lines)
        self._waiting.append(_Waiting(handle, size, name, lines))
        self._bytes += size

    def _drop_if_stuck(self, taken: int) -> None:
        if not self._full:
            return
        self._looks = 0 if self._taken > taken else self._looks + 1
        if self._looks < (SLOW_LOOKS if self._is_heard else 1):
            self._look_again()
            return
        self._looks = 0
        count = 0
        while self._bytes > ROOM_BYTES and self._waiting:
            waiting = self._waiting.popleft()
            self._drop(waiting.size, waiting.dropped())
            count += len(waiting.lines)
        log.warning("log_lines_dropped", lines=count, reason="no coordinator takes them")
        self._tell_of_room()

    @property
    def _is_heard(self) -> bool:
        """A coordinator is there, and has not refused the last stream."""
        return self._stub is not None and not self._failures

    def _drop(self, size: int, *parts: _Dropped) -> None:
        self._bytes -= size
        for part in parts:
            known = self._dropped.setdefault(part.handle, part)
            if known is not part:
                known.count += part.count
                known.last = max(known.last, part.last)

    def _tell_of_room(self) -> None:
        if self._full and self._bytes <= ROOM_BYTES:
            self._full = False
            if self.on_room is not None:
                self.on_room()

    # --- the stream

    def use(self, stub: AgentServiceStub | None) -> None:
        """Where to push from now on; None: nowhere for now."""
        self._stub = stub
        self._unserved = False
        self._changed.set()

    def close(self) -> None:
        """No more lines come: `run` ends when it has pushed those that it has."""
        self._closing = True
        self._changed.set()

    @property
    def _has_lines(self) -> bool:
        """To send. What was dropped is not told to a coordinator that takes no lines, before others come."""
        return bool(self._again or self._waiting or (self._dropped and not self._unserved))

    async def run(self) -> None:
        while not (self._closing and not self._has_lines):
            self._changed.clear()
            stub = self._stub
            if stub is None or not self._has_lines:
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
        """The coordinator will never take them. The log of each attempt says so once there is one that does."""
        for message in self._again:
            self._drop(message.size, *message.parts)
        for waiting in self._waiting:
            self._drop(waiting.size, waiting.dropped())
        self._again.clear()
        self._waiting.clear()
        while len(self._dropped) > REMEMBERED:
            self._dropped.pop(next(iter(self._dropped)))
        if not self._unserved:
            count = sum(dropped.count for dropped in self._dropped.values())
            log.warning("log_lines_dropped", lines=count, reason="this coordinator takes none, nor those that come")
        self._unserved = True
        self._tell_of_room()

    async def _push(self, stub: AgentServiceStub) -> None:
        """One stream, with its answer."""
        call = stub.PushLogs()
        call.add_done_callback(lambda _: self._changed.set())
        sent: list[_Message] = []
        try:
            await _let_in(call)
            await self._write(call, stub, sent)
            early = call.done()
            await call.done_writing()
            answer = await call
        except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
            # The other side has ended the call: its status says why. A write that fails before the status is there says
            # INTERNAL instead.
            await self._ended_early(call, sent)
        except BaseException:
            self._again.extendleft(reversed(sent))
            raise
        else:
            await self._read(sent, answer.read_messages or (0 if early else len(sent)))
        finally:
            call.cancel()

    async def _write(self, call: LogCall, stub: AgentServiceStub, sent: list[_Message]) -> None:
        """Until it is enough for one stream. `sent` grows before a message is on its way."""
        now = asyncio.get_running_loop().time
        size, until = 0, now() + STREAM_SECONDS
        while self._stub is stub and size < STREAM_BYTES and now() < until and not call.done():
            message = self._next_message()
            if message is not None:
                sent.append(message)
                size += message.size
                await call.write(message.request)
                self._failures = 0
                self._taken += 1
                if message.size < MESSAGE_BYTES // 2 and not self._closing:
                    await asyncio.sleep(GATHER)
            elif self._closing:
                return
            else:
                await self._more(until - now())

    async def _more(self, seconds: float) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _ended_early(self, call: LogCall, sent: list[_Message]) -> None:
        """Nobody knows what was read of it, unless the answer says so: the rest comes again, and is taken once."""
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                log.error("log_lines_refused", reason=error.details())
                self._durable(sent)  # it would refuse them again
            else:
                self._again.extendleft(reversed(sent))
            raise
        except BaseException:
            self._again.extendleft(reversed(sent))
            raise
        await self._read(sent, answer.read_messages)

    async def _read(self, sent: list[_Message], count: int) -> None:
        """The answer came: so many messages are durable."""
        self._unserved = False
        self._again.extendleft(reversed(sent[count:]))
        self._durable(sent[:count])
        if self._again:
            await asyncio.sleep(GATHER)

    @property
    def lines_waiting(self) -> int:
        """To be sent, or sent again."""
        again = sum(len(batch.records) for message in self._again for batch in message.request.batches)
        return again + sum(len(each.lines) for each in self._waiting)

    def _durable(self, sent: list[_Message]) -> None:
        self._bytes -= sum(message.size for message in sent)
        self._taken += len(sent)
        self._tell_of_room()

    def _next_message(self) -> _Message | None:
        if self._again:
            return self._again.popleft()
        if self._dropped:
            self._say_dropped()
        lines: dict[Handle, tuple[_Name, list[_Line]]] = {}
        parts: list[_Dropped] = []
        size = count = 0
        while self._waiting and size < MESSAGE_BYTES and count < MESSAGE_LINES:
            waiting = self._waiting.popleft()
            lines.setdefault(waiting.handle, (waiting.name, []))[1].extend(waiting.lines)
            parts.append(waiting.dropped())
            size += waiting.size
            count += len(waiting.lines)
        if not lines:
            return None
        batches = [_batch(name, of_handle) for name, of_handle in lines.values()]
        return _Message(size, wire.PushLogsRequest(agent_id=self._agent_id, batches=batches), parts)

    def _say_dropped(self) -> None:
        """In the place of the last of them."""
        for handle, dropped in self._dropped.items():
            number, _, offset, _ = dropped.last
            text = f"{dropped.count:,} lines are missing here: no coordinator took them"
            line = (number, SYSTEM, offset, text)
            size = len(text) + LINE_OVERHEAD
            self._waiting.appendleft(_Waiting(handle, size, dropped.name, [line], dropped.count))
            self._bytes += size
        self._dropped.clear()


def _batch(name: _Name, lines: list[_Line]) -> wire.LogBatch:
    """All lines of the attempt in one: what the coordinator keeps by one row."""
    records = [
        wire.LogRecord(number=number, source=wire.LogSource.ValueType(source), text=text, offset=span(max(offset, 0)))
        for number, source, offset, text in lines
    ]
    return wire.LogBatch(lease=name[0], attempt=name[1], records=records)


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
