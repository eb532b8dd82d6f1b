"""Agents at a coordinator that follows, when they cannot reach the owner: what passes, how much of it, and when it
ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from tests.grpc_server import answering, serving
from tests.integration.api.answers import answer_of, refused
from tests.integration.api.conftest import PATIENCE, Edge, spec
from tests.integration.api.following import WINDOWS, Following, beside, following, in_front, row, scraped, within
from tests.integration.runtime.scripted_agent import ScriptedAgent
from tests.waiting import until

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.agent.v1 import artifact_service_pb2, secret_service_pb2
from penstock.v1 import agent_admin_service_pb2 as admin
from penstock_coordinator.api.forwarding import HOP, OWNER
from penstock_coordinator.api.guard import CallGuard
from penstock_coordinator.api.options import forwarding_options
from penstock_coordinator.api.relaying import CONNECT, UNREACHABLE, Relay

__all__ = ["beside"]

PUSH = "/penstock.agent.v1.AgentService/PushLogs"
CHUNK = bytes(1 << 18)


def cut_off_from(owner: str) -> tuple[tuple[str, str], ...]:
    """What an agent says of it."""
    return ((UNREACHABLE, "10.0.0.9:7400"), (UNREACHABLE, owner))


@contextlib.asynccontextmanager
async def relayed(edge: Edge, follower: Following, agent_id: str = "agent-1") -> AsyncIterator[ScriptedAgent]:
    agent = ScriptedAgent(follower.address, agent_id, metadata=cut_off_from(edge.server.address))
    await agent.connect(credits=100)
    yield agent
    await agent.vanish()


async def test_a_session_by_a_hop_is_like_any_other_and_has_a_mark(edge: Edge, beside: Following) -> None:
    async with relayed(edge, beside) as agent:
        direct = await edge.agent("agent-2", credits=0)
        run = await edge.start(spec({"name": "a"}, {"name": "b", "depends_on": ["a"]}))
        for _ in range(2):
            grant = await agent.grant()
            await agent.beat()
            result = await agent.succeed(grant)
            assert (await agent.acked(result)).status == wire.RESULT_ACK_STATUS_COMMITTED
        await edge.watch(run)
        agents = (await edge.admin.List(admin.ListAgentsRequest(), timeout=PATIENCE)).agents
        assert [(each.id, each.via) for each in agents] == [("agent-1", "c2"), ("agent-2", "")]
        await direct.more(100)
        await agent.more(0)
        owner, follower = await scraped(edge.server.http_address), await scraped(beside.entrance.doorway.http_address)
        assert (owner["penstock_sessions",], owner["penstock_sessions_relayed",]) == (2, 1)
        assert owner["penstock_leases_sent_total", "relayed"] == 2
        assert owner["penstock_leases_sent_total", "direct"] == 0
        assert (owner["penstock_relayed_agents",], follower["penstock_relayed_agents",]) == (0, 1)

    async def gone() -> bool:
        found = (await edge.admin.Get(admin.GetAgentRequest(agent_id="agent-1"), timeout=PATIENCE)).agent
        return bool(found.state == admin.AGENT_STATE_LOST and beside.entrance.relayed == 0)

    await until(gone)


async def test_who_does_not_say_so_is_sent_to_the_owner(edge: Edge, beside: Following) -> None:
    """Agents of the release before, those that name another one, and those that took a hop already."""
    mark = cut_off_from(edge.server.address)
    for metadata in ((), cut_off_from("127.0.0.1:1"), (*mark, (HOP, "c3"))):
        agent = ScriptedAgent(beside.address, metadata=metadata)
        assert (await agent.refused())[0] is grpc.StatusCode.UNAVAILABLE
        assert agent.redirects == [edge.server.address]


async def test_the_new_stream_takes_over_from_the_one_by_the_hop(edge: Edge, beside: Following) -> None:
    async with relayed(edge, beside) as agent:
        await edge.start()
        grant = await agent.grant()
        direct = ScriptedAgent(edge.server.address)
        edge.agents.append(direct)
        direct.held = agent.held
        await direct.connect()
        await agent.until(lambda: [each.reason for each in agent.goaways] == ["superseded"])
        await direct.until(lambda: [each.verdict for each in direct.verdicts] == [wire.VERDICT_CONTINUE])
        assert (await direct.acked(await direct.succeed(grant))).status == wire.RESULT_ACK_STATUS_COMMITTED


async def test_all_that_agents_call_is_passed_on(edge: Edge, beside: Following) -> None:
    for module, name in ((artifact_service_pb2, "ArtifactService"), (secret_service_pb2, "SecretService")):
        service = module.DESCRIPTOR.services_by_name[name]
        for method in service.methods:
            ends = []
            for channel in (edge.channel, beside.channel):
                call: Any = channel.unary_unary(f"/{service.full_name}/{method.name}")
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(b"", timeout=PATIENCE)
                ends.append((caught.value.code(), caught.value.details(), answer_of(caught.value).reason))
            assert ends[0] == ends[1]
    push: Any = beside.channel.stream_unary(PUSH)(timeout=PATIENCE)
    heads = tuple(await within(push.initial_metadata()))
    assert ("penstock-log-lines", "taken") in heads, "before any line is sent"
    assert (OWNER, edge.server.address) in heads
    await push.write(wire.PushLogsRequest(agent_id="agent-1").SerializeToString())
    await push.done_writing()
    assert wire.PushLogsResponse.FromString(await within(push)).read_messages == 1


# --- a stand-in for the owner, to see what reaches it


def owning(behaviour: Callable[[Any, Any], Any]) -> contextlib.AbstractAsyncContextManager[str]:
    """An owner whose streams are answered so."""
    handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(behaviour, None, None)
    return serving(answering(lambda _: handler), options=WINDOWS)


def stream(follower: Following, owner: str) -> Any:
    """Of bytes."""
    made: Any = follower.channel.stream_stream(CONNECT)
    return made(metadata=cut_off_from(owner), timeout=PATIENCE)


class Listening:
    """Answers what it hears, to its end."""

    def __init__(self) -> None:
        self.came, self.over = asyncio.Event(), asyncio.Event()
        self.marks: tuple[tuple[str, Any], ...] = ()

    async def __call__(self, _requests: object, context: Any) -> None:
        self.marks = tuple(context.invocation_metadata())
        self.came.set()
        try:
            while (word := await context.read()) is not grpc.aio.EOF:
                await context.write(word[::-1])
            context.set_trailing_metadata((("last", "word"),))
        finally:
            self.over.set()


async def test_words_pass_as_they_are_in_both_directions_to_the_end() -> None:
    listening = Listening()
    async with owning(listening.__call__) as owner, following(owner) as follower:
        call = stream(follower, owner)
        for word in (b"no message of ours", b"", b"\xff" * 100_000):
            await call.write(word)
            assert await call.read() == word[::-1]
        assert (OWNER, owner) in tuple(await call.initial_metadata())
        assert (HOP, "c2") in listening.marks
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert ("last", "word") in tuple(await call.trailing_metadata())


async def test_who_does_not_read_is_not_written_for_and_holds_up_nobody_else() -> None:
    """In both directions: neither the owner that is slow nor the agent that is."""
    written, total = 0, 200

    async def talk(_requests: object, context: Any) -> None:
        nonlocal written
        if await context.read() == b"listen":
            await context.write(b"reads no more")
            await asyncio.Event().wait()
        for _ in range(total):
            await context.write(CHUNK)
            written += 1

    async with owning(talk) as owner, following(owner) as follower, asyncio.TaskGroup() as group:
        slow, flooding = stream(follower, owner), stream(follower, owner)
        await slow.write(b"talk")
        await flooding.write(b"listen")
        assert await flooding.read() == b"reads no more"
        said = 0

        async def flood() -> None:
            nonlocal said
            while True:
                await flooding.write(CHUNK)
                said += 1

        flooder = group.create_task(flood())
        assert await slow.read() == CHUNK
        for _ in range(100):
            other = stream(follower, owner)
            await other.write(b"listen")
            assert await other.read() == b"reads no more"
            other.cancel()
        assert written < total / 2, "nobody reads them"
        assert said < total / 2, "nobody reads them"
        flooder.cancel()
        read = 1
        while await slow.read() is not grpc.aio.EOF:
            read += 1
        assert read == total
        flooding.cancel()


async def test_an_agent_that_goes_away_is_heard_of_by_the_owner() -> None:
    listening = Listening()
    async with owning(listening.__call__) as owner, following(owner) as follower:
        call = stream(follower, owner)
        await within(listening.came.wait())
        call.cancel()
        await within(listening.over.wait())


async def test_what_is_wrong_with_a_word_is_told_by_whoever_finds_it(edge: Edge, beside: Following) -> None:
    """The relay, to which it is too large, or the owner."""
    for word, code, reason in (
        (bytes(8 << 20), grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE"),
        (wire.AgentMessage(seq=7).SerializeToString(), grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE"),
    ):
        call = stream(beside, edge.server.address)
        await call.write(word)
        answer = await refused(within(call.read()))
        assert (answer.code, answer.reason) == (code, reason)


async def test_nothing_is_left_of_a_stream_that_ends_before_the_owner_is_connected() -> None:
    came = asyncio.Event()
    silent = await asyncio.start_server(lambda _reader, _writer: came.set(), "127.0.0.1", 0)
    owner = f"127.0.0.1:{silent.sockets[0].getsockname()[1]}"

    async def nothing_left() -> bool:
        return not any("_pass_on" in repr(task.get_coro()) for task in asyncio.all_tasks())

    async with silent, following(owner) as follower:
        call = stream(follower, owner)
        await call.write(b"word")
        await within(came.wait())
        call.cancel()
        await until(nothing_left)


async def test_streams_end_at_once_when_the_owner_dies() -> None:
    listening = Listening()
    async with contextlib.AsyncExitStack() as stack:
        dying = contextlib.AsyncExitStack()
        owner = await dying.enter_async_context(owning(listening.__call__))
        follower = await stack.enter_async_context(following(owner))
        call = stream(follower, owner)
        await within(listening.came.wait())
        await dying.aclose()
        answer = await refused(within(call.read()))
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "OWNER_LOST")


async def test_streams_end_at_once_when_this_one_owns() -> None:
    listening = Listening()
    async with owning(listening.__call__) as owner, following(owner) as follower:
        call = stream(follower, owner)
        await within(listening.came.wait())
        follower.entrance.doorway.let_in(CallGuard(), follower.entrance._outside)
        answer = await refused(within(call.read()))
        assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "OWNER_LOST")
        await within(listening.over.wait())


async def test_streams_end_at_once_when_the_relay_stops() -> None:
    listening = Listening()
    async with owning(listening.__call__) as owner, following(owner) as follower:
        call = stream(follower, owner)
        await within(listening.came.wait())
        stopping = asyncio.create_task(follower.entrance.close())
        assert (await refused(within(call.read()))).code is grpc.StatusCode.UNAVAILABLE
        await within(stopping)
        await within(listening.over.wait())


async def test_streams_end_when_another_one_owns_and_not_while_none_is_heard_of() -> None:
    listening = Listening()
    async with owning(listening.__call__) as owner:
        now: list[Any] = [row("c1", owner)]
        relay = Relay("c2", lambda: now[0], forwarding_options(1 << 20))
        async with in_front(lambda _: relay.stream(), relay) as channel:
            made: Any = channel.stream_stream(CONNECT)
            call = made(metadata=cut_off_from(owner), timeout=PATIENCE)
            await call.write(b"12")
            assert await call.read() == b"21"
            now[0] = None
            relay.follow()
            await call.write(b"34")
            assert await call.read() == b"43", "it may still answer"
            now[0] = row("c3", "127.0.0.1:1")
            relay.follow()
            answer = await refused(within(call.read()))
            assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "OWNER_LOST")
            await within(listening.over.wait())


async def test_no_more_agents_are_passed_on_than_the_limit() -> None:
    listening = Listening()
    async with owning(listening.__call__) as owner:
        relay = Relay("c2", lambda: row("c1", owner), forwarding_options(1 << 20), limit=1)
        async with in_front(lambda _: relay.stream(), relay) as channel:
            made: Any = channel.stream_stream(CONNECT)
            first = made(timeout=PATIENCE)
            await within(listening.came.wait())
            answer = await refused(made(timeout=PATIENCE).read())
            assert (answer.code, answer.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_AGENTS")
            assert answer.retry_seconds is not None
            first.cancel()
            await within(listening.over.wait())
