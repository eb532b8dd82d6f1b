"""The agent's end of the stream, against a real gRPC server."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from tests.grpc_server import serving

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.agent.v1 import agent_service_pb2_grpc as rpc
from penstock_agent.core.leases import Handle, Lease
from penstock_agent.runtime.outbox import Outbox
from penstock_agent.runtime.pen import Pen
from penstock_agent.runtime.stream import Connection
from penstock_agent.runtime.stubs import Stubs

PATIENCE = 60.0


class Hearing(rpc.AgentServiceServicer):
    """Keeps what it hears; ends the call at once if it is deaf."""

    def __init__(self, *, deaf: bool = False) -> None:
        self.heard: list[wire.AgentMessage] = []
        self._deaf = deaf

    async def Connect(self, request_iterator: AsyncIterator[wire.AgentMessage], context: Any) -> None:  # type: ignore[override]
        if self._deaf:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "deaf")
        async for message in request_iterator:
            self.heard.append(message)

    async def PushLogs(self, request_iterator: object, context: object) -> wire.PushLogsResponse:
        return wire.PushLogsResponse()


class Told:
    """A `Listener` of one stream that keeps what it tells."""

    def __init__(self) -> None:
        self.outboxes: asyncio.Queue[Outbox] = asyncio.Queue()
        self.over: asyncio.Queue[None] = asyncio.Queue()
        self.accepted: asyncio.Queue[tuple[list[Handle], int]] = asyncio.Queue()
        self._seq = 0

    def stream_opened(self, stream: int, link: int, outbox: Outbox, stubs: Stubs) -> Told:
        self.outboxes.put_nowait(outbox)
        return self

    def says(self, message: wire.CoordinatorMessage) -> bool:
        return False

    def closed(self) -> None:
        self.over.put_nowait(None)

    def stamp(self) -> int:
        self._seq += 1
        return self._seq

    def written(self, accepted: list[Handle], seq: int) -> None:
        self.accepted.put_nowait((accepted, seq))

    def is_held(self, lease: Lease) -> bool:
        return True


def heard_by(servicer: Hearing, port: int = 0) -> AbstractAsyncContextManager[str]:
    """Gives the server's address."""
    return serving(functools.partial(rpc.add_AgentServiceServicer_to_server, servicer), port=port)


@asynccontextmanager
async def connected(servicer: Hearing) -> AsyncIterator[tuple[Told, Connection]]:
    async with heard_by(servicer) as address:
        told = Told()
        connection = Connection(address, told)
        running = asyncio.create_task(connection.run())
        try:
            yield told, connection
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def a_lease(handle: Handle) -> Lease:
    return Lease(handle, (bytes(16), handle, -1), token=7, attempt=1, deadline=0, timeout=None, stop_grace=0, work=None)


async def test_what_is_accepted_may_begin_once_the_word_is_on_its_way() -> None:
    servicer = Hearing()
    async with connected(servicer) as (told, connection), asyncio.timeout(PATIENCE):
        outbox = await told.outboxes.get()
        outbox.accept([a_lease(1), a_lease(2)])
        assert await told.accepted.get() == ([1, 2], 1)
        outbox.accept([a_lease(3)])
        assert await told.accepted.get() == ([3], 2)
        connection.leave(wire.AgentMessage(goodbye=wire.Goodbye(reason="done")))
        await told.over.get()
    steps = [[ref.step for ref in message.leases_accepted.leases] for message in servicer.heard]
    assert steps == [[1, 2], [3], []]
    assert [message.seq for message in servicer.heard] == [1, 2, 3]


async def test_what_cannot_be_said_does_not_begin() -> None:
    told, outbox = Told(), Outbox(lambda lease: True)
    outbox.accept([a_lease(1)])
    # A channel of its own: a connection closes that of a stream that ended, and with it whatever else is on it.
    async with (
        asyncio.timeout(PATIENCE),
        heard_by(Hearing(deaf=True)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        call = rpc.AgentServiceStub(channel).Connect()
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(asyncio.InvalidStateError):
            await Pen(call, outbox, told).run()
    assert told.accepted.empty()
