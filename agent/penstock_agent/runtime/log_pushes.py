"""Brings log lines to one coordinator: by streams of their own, each as long as it takes to bring so many lines or
seconds of them. The answer to a stream says that its lines are durable; those of one without an answer are sent
again."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

import grpc
import grpc.aio
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # the package has no stubs

from penstock_agent.own_log import OwnLog
from penstock_agent.runtime import log_lines
from penstock_agent.runtime.backoff import asked_to_wait, details_of, wait_before
from penstock_agent.runtime.calls import CallLost, lost_when_cancelled

if TYPE_CHECKING:
    from penstock.agent.v1 import agent_service_pb2 as wire
    from penstock.agent.v1.agent_service_pb2_grpc import AgentServiceStub
    from penstock_agent.runtime.log_lines import Message

    LogCall: TypeAlias = "grpc.aio.StreamUnaryCall[wire.PushLogsRequest, wire.PushLogsResponse]"

log = OwnLog(__name__)

GATHER = 0.05
"""Seconds between two messages that are not full: each costs more than its lines."""
STREAM_BYTES = 1024 * 1024
STREAM_SECONDS = 5.0
"""Past either of them a stream ends, and its lines are known to be durable."""
TAKEN = "penstock-log-lines", "taken"
"""Initial metadata of a coordinator that takes lines. The library tells of initial metadata, without any, also when a
call is refused, and that may be well before it tells of the status."""
LET_IN_WITHIN = 2.0
"""Seconds that a coordinator has to say that it takes lines; without a word it is one of a former release, which took
them without a word."""
MOVED = "RUN_MOVED"
"""Why a coordinator refuses lines of a run that another one has."""


class Source(Protocol):
    """Whose lines they are. All by the number of the link."""

    closing: bool
    """No more lines come."""

    def has_lines(self, link: int) -> bool: ...

    def next_message(self, link: int) -> Message | None: ...

    def was_sent(self) -> None:
        """A message is on its way."""

    def sent_in_vain(self, link: int, messages: list[Message]) -> None:
        """Nobody knows whether they were read."""

    def durable(self, messages: list[Message]) -> None: ...

    def never_taken(self, link: int) -> None:
        """The coordinator takes no lines at all."""

    def run_moved(self, link: int, run_id: bytes) -> None:
        """Another coordinator has that run."""


class LogPusher:
    """`run` is its task."""

    def __init__(self, link: int, source: Source, chance: Callable[[], float]) -> None:
        self._link = link
        self._source = source
        self._chance = chance
        self._stub: AgentServiceStub | None = None
        self.changed = asyncio.Event()
        """There may be lines, or another stub, or no more of them."""
        self._failures = 0
        """Of streams, since the last that took a message."""
        self.unserved = False
        """The coordinator that is there takes no lines at all, and the agent's own log has said so."""

    def use(self, stub: AgentServiceStub | None) -> None:
        """Where to push from now on; None: nowhere for now."""
        self._stub = stub
        self.unserved = False
        self.changed.set()

    @property
    def is_heard(self) -> bool:
        """A coordinator is there, and has not refused the last stream."""
        return self._stub is not None and not self._failures

    async def run(self) -> None:
        """Until no more lines come, and those that there are were brought, or nobody is there to take them."""
        source = self._source
        while not (source.closing and not source.has_lines(self._link)):
            self.changed.clear()
            stub = self._stub
            if stub is None or not source.has_lines(self._link):
                if not (source.closing and stub is None):
                    await self.changed.wait()
                    continue
                return
            try:
                with lost_when_cancelled():
                    await self._push(stub)
            except CallLost:
                continue
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    source.never_taken(self._link)
                moved = _moved_run(error)
                if moved is not None:
                    source.run_moved(self._link, moved)
                self._failures += 1
                await asyncio.sleep(wait_before(self._failures, self._chance(), asked_to_wait(error)))

    async def _push(self, stub: AgentServiceStub) -> None:
        """One stream, with its answer."""
        call = stub.PushLogs()
        call.add_done_callback(lambda _: self.changed.set())
        sent: list[Message] = []
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
            self._source.sent_in_vain(self._link, sent)
            raise
        else:
            await self._read(sent, answer.read_messages or (0 if early else len(sent)))
        finally:
            call.cancel()

    async def _write(self, call: LogCall, stub: AgentServiceStub, sent: list[Message]) -> None:
        """Until it is enough for one stream. `sent` grows before a message is on its way."""
        now = asyncio.get_running_loop().time
        size, until = 0, now() + STREAM_SECONDS
        while self._stub is stub and size < STREAM_BYTES and now() < until and not call.done():
            message = self._source.next_message(self._link)
            if message is not None:
                sent.append(message)
                size += message.size
                await call.write(message.request)
                self._failures = 0
                self._source.was_sent()
                if message.size < log_lines.MESSAGE_BYTES // 2 and not self._source.closing:
                    await asyncio.sleep(GATHER)
            elif self._source.closing:
                return
            else:
                await self._more(until - now())

    async def _more(self, seconds: float) -> None:
        self.changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.changed.wait()

    async def _ended_early(self, call: LogCall, sent: list[Message]) -> None:
        """Nobody knows what was read of it, unless the answer says so: the rest comes again, and is taken once."""
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                log.error("log_lines_refused", reason=error.details())
                self._source.durable(sent)  # it would refuse them again
            else:
                self._source.sent_in_vain(self._link, sent)
            raise
        except BaseException:
            self._source.sent_in_vain(self._link, sent)
            raise
        await self._read(sent, answer.read_messages)

    async def _read(self, sent: list[Message], count: int) -> None:
        """The answer came: so many messages are durable."""
        self.unserved = False
        self._source.sent_in_vain(self._link, sent[count:])
        self._source.durable(sent[:count])
        if count < len(sent):
            await asyncio.sleep(GATHER)


def _moved_run(error: grpc.aio.AioRpcError) -> bytes | None:
    """The run that is another coordinator's, if that is why lines were refused."""
    info = error_details_pb2.ErrorInfo()
    for detail in details_of(error):
        if detail.Unpack(info) and info.reason == MOVED:
            with contextlib.suppress(ValueError):
                return uuid.UUID(info.metadata["run_id"]).bytes
    return None


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
