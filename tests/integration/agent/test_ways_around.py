"""An agent that cannot reach the owner to which it is sent: whom it tells, and how it finds back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthServicer, add_HealthServicer_to_server
from tests.grpc_server import serving
from tests.integration.agent.test_agent_stream import PATIENCE, Hearing, Told
from tests.tcp_proxy import TcpProxy
from tests.waiting import until

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.agent.v1 import agent_service_pb2_grpc as rpc
from penstock.dev.ports import take_port
from penstock_agent.runtime import stream
from penstock_agent.runtime.outbox import Outbox
from penstock_agent.runtime.stream import OWNER, UNREACHABLE, Connection

SOON = Duration(nanos=50_000_000)
"""Of heartbeats: all pauses between tries go by them."""
SELDOM = Duration(seconds=600)


class Following(Hearing):
    """A coordinator that sends agents to the owner; `relays`: it passes those on that cannot reach it."""

    def __init__(self, owner: str, *, relays: bool = True, pace: Duration = SOON) -> None:
        super().__init__()
        self._pace = pace
        self._owner = owner
        self._relays = relays
        self.told: asyncio.Queue[list[str]] = asyncio.Queue()
        """Of each stream, whom its agent could not reach."""
        self.ended = asyncio.Event()
        """A stream that was passed on, by the agent."""
        self.gone = asyncio.Event()
        """Whoever sets it ends the streams that are passed on."""

    async def Connect(self, request_iterator: AsyncIterator[wire.AgentMessage], context: Any) -> None:  # type: ignore[override]
        unreachable = [value for key, value in context.invocation_metadata() if key == UNREACHABLE]
        self.told.put_nowait(unreachable)
        if not (self._relays and self._owner in unreachable):
            redirect = wire.Redirect(address=self._owner, reason="not_the_leader")
            await context.write(wire.CoordinatorMessage(seq=1, redirect=redirect))
            await context.abort(grpc.StatusCode.UNAVAILABLE, "it follows")
        await context.send_initial_metadata(((OWNER, self._owner),))
        await welcome(context, self._pace)
        reading = asyncio.ensure_future(context.read())
        gone = asyncio.ensure_future(self.gone.wait())
        await asyncio.wait({reading, gone}, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            self.ended.set()
        else:
            reading.add_done_callback(asyncio.Future.exception)  # The end of the call ends it.
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the owner went away")


class Owning(Hearing):
    def __init__(self) -> None:
        super().__init__()
        self.came = asyncio.Event()

    async def Connect(self, request_iterator: AsyncIterator[wire.AgentMessage], context: Any) -> None:  # type: ignore[override]
        self.came.set()
        await welcome(context)
        await context.read()


class Slow(Owning):
    async def Connect(self, request_iterator: AsyncIterator[wire.AgentMessage], context: Any) -> None:  # type: ignore[override]
        self.came.set()
        await context.read()


class Serving(HealthServicer):
    async def Check(self, request: Any, context: Any) -> health_pb2.HealthCheckResponse:
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


async def welcome(context: Any, pace: Duration = SOON) -> None:
    await context.write(wire.CoordinatorMessage(seq=1, welcome=wire.Welcome(heartbeat_interval=pace)))


class Follows(Told):
    """What an agent does with these words."""

    connection: Connection

    def says(self, message: wire.CoordinatorMessage) -> bool:
        if message.HasField("redirect"):
            self.connection.use_address(message.redirect.address)
        return message.HasField("welcome")


def heard_by(servicer: Hearing, port: int = 0) -> AbstractAsyncContextManager[str]:
    def add(server: grpc.aio.Server) -> None:
        rpc.add_AgentServiceServicer_to_server(servicer, server)
        add_HealthServicer_to_server(Serving(), server)

    return serving(add, port=port)


@asynccontextmanager
async def running(address: str) -> AsyncIterator[Connection]:
    told = Follows()
    connection = told.connection = Connection(address, told, lambda: 0.5)
    task = asyncio.create_task(connection.run())
    try:
        async with asyncio.timeout(PATIENCE):
            yield connection
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_it_comes_by_another_one_until_the_owner_can_be_reached() -> None:
    port = take_port(0, "")
    owner, following, owning = f"127.0.0.1:{port}", Following(f"127.0.0.1:{port}"), Owning()
    async with heard_by(following) as address, running(address) as connection:
        assert await following.told.get() == []
        assert await following.told.get() == [owner]
        async with heard_by(owning, port):
            await following.ended.wait()
            await owning.came.wait()
            assert following.told.empty(), "the new stream takes over from the one by the hop"
            assert not connection.is_relayed


async def test_an_owner_that_takes_connections_and_says_nothing_cannot_be_reached() -> None:
    """One-way: what it says is lost. And it is not taken for reachable by the look for the way back."""
    owning = Owning()
    async with AsyncExitStack() as stack:
        behind = await stack.enter_async_context(heard_by(owning))
        proxy = await stack.enter_async_context(TcpProxy(*_parts(behind)))
        proxy.swallow_answers()
        following = Following(f"127.0.0.1:{proxy.port}")
        # Of several coordinators none is waited for so long; the other one is not there.
        address = await stack.enter_async_context(heard_by(following))
        await stack.enter_async_context(running(f"{address},127.0.0.1:{take_port(0, '')}"))
        assert await following.told.get() == []
        assert await following.told.get() == [f"127.0.0.1:{proxy.port}"]
        proxy.heal()
        await following.ended.wait()
        await owning.came.wait()


async def test_an_owner_that_is_slow_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its database stalls, or it holds agents until it owns: others would pass on to it in vain."""
    monkeypatch.setattr(stream, "WELCOME_OF_SEVERAL_WITHIN", 1.0)
    slow = Slow()
    async with heard_by(slow) as owner:
        following = Following(owner)
        async with heard_by(following) as address, running(f"{address},127.0.0.1:{take_port(0, '')}"):
            assert await following.told.get() == []
            await slow.came.wait()
            assert await following.told.get() == []


async def test_the_way_back_is_not_taken_when_the_stream_ends_anyway() -> None:
    """It was sent elsewhere while the owner was asked."""
    async with heard_by(Owning()) as former:
        connection = Connection("127.0.0.1:1", Follows(), lambda: 0.5)
        connection._outbox = Outbox(lambda _: True)
        connection.use_address("127.0.0.1:2")
        connection.close_stream(None)
        await connection._look_for_a_way_back(former)
        assert connection._rounds.next() == "127.0.0.1:2"


async def test_when_the_relay_dies_another_one_is_told_at_once() -> None:
    """The owner is not tried again for that."""
    owner = f"127.0.0.1:{take_port(0, '')}"
    first, second = Following(owner, pace=SELDOM), Following(owner, pace=SELDOM)
    async with heard_by(first) as one, heard_by(second) as two, running(f"{one},{two}") as connection:
        relay = await _relaying(first, second, owner)

        async def relayed() -> bool:
            return connection.is_relayed

        await until(relayed)
        relay.gone.set()
        other = second if relay is first else first
        assert await _asked(other, owner) is other


async def test_one_that_knows_no_such_word_sends_the_agent_on_and_on() -> None:
    """A coordinator of the release before: it is as it was."""
    owner = f"127.0.0.1:{take_port(0, '')}"
    following = Following(owner, relays=False)
    async with heard_by(following) as address, running(address) as connection:
        assert await following.told.get() == []
        for _ in range(3):
            assert await following.told.get() == [owner]
        assert not connection.is_relayed


async def _relaying(first: Following, second: Following, owner: str) -> Following:
    """The one that passes the stream on."""
    asked = {asyncio.ensure_future(_asked(each, owner)) for each in (first, second)}
    done, rest = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    for waiting in rest:
        waiting.cancel()
    return next(iter(done)).result()


async def _asked(following: Following, owner: str) -> Following:
    while await following.told.get() != [owner]:
        """It was sent away."""
    return following


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
