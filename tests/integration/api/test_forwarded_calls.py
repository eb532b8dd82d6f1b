"""Calls at a coordinator that follows: what the owner hears of them, and what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from tests.grpc_server import answering, serving
from tests.integration.api.answers import answer_of, refused
from tests.integration.api.conftest import PATIENCE, Edge, spec
from tests.integration.api.following import Following, beside, following, in_front, row, scraped, within
from tests.integration.api.test_server import grpcurl
from tests.integration.runtime.scripted_agent import ScriptedAgent
from tests.unit.archives.hostile_archives import file, pack

from penstock.agent.v1.agent_service_pb2 import AgentMessage
from penstock.agent.v1.agent_service_pb2_grpc import add_AgentServiceServicer_to_server
from penstock.client.client import Client
from penstock.v1 import bundle_service_pb2 as bundles_pb
from penstock.v1 import coordinator_service_pb2 as coordinators_pb
from penstock.v1 import run_service_pb2 as runs_pb
from penstock.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub
from penstock_coordinator.api import server
from penstock_coordinator.api.agent_service import AgentService
from penstock_coordinator.api.doorway import ServiceSet
from penstock_coordinator.api.errors import CallError, PassedBack
from penstock_coordinator.api.forwarding import HOP, OWNER, Forwarder, Line
from penstock_coordinator.api.guard import CallGuard
from penstock_coordinator.api.options import forwarding_options

__all__ = ["beside"]

GET = "/penstock.v1.RunService/Get"
START = "/penstock.v1.RunService/Start"
WATCH = "/penstock.v1.RunService/Watch"
UPLOAD = "/penstock.v1.BundleService/Upload"
CHUNK = 1 << 20


# --- a whole coordinator behind it


def through(edge: Edge, follower: Following) -> Edge:
    """The same coordinator, by way of the one that follows it."""
    return Edge(edge.server, edge.backend, follower.channel)


async def test_runs_are_started_watched_and_read_at_one_that_follows(edge: Edge, beside: Following) -> None:
    agent = await edge.agent()
    by_way = through(edge, beside)
    run = await by_way.start(spec({"name": "a"}, {"name": "b", "depends_on": ["a"]}))
    watching = asyncio.create_task(by_way.watch(run))
    for _ in range(2):
        await agent.succeed(await agent.grant())
    async with asyncio.timeout(PATIENCE):
        events = await watching
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert await by_way.get(run) == await edge.get(run)


async def test_a_bundle_goes_on_in_pieces_and_comes_back_in_pieces(edge: Edge, beside: Following) -> None:
    by_way = through(edge, beside)
    data = pack(file("noise", os.urandom(2_500_000)))
    name = hashlib.sha256(data).hexdigest()

    async def pieces(size: int) -> AsyncIterator[bundles_pb.UploadBundleRequest]:
        yield bundles_pb.UploadBundleRequest(digest=name, size_bytes=size, chunk=data[:CHUNK])
        for start in range(CHUNK, len(data), CHUNK):
            yield bundles_pb.UploadBundleRequest(chunk=data[start : start + CHUNK])

    async with asyncio.timeout(PATIENCE):
        # A write to a call that ends may cost its status: then who asked is to ask again.
        while (early := await refused(by_way.bundles.Upload(pieces(size=10), timeout=PATIENCE))).reason == "OWNER_LOST":
            assert early.retry_seconds is not None
    assert early.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (await by_way.bundles.Upload(pieces(len(data)), timeout=PATIENCE)).created
    parts = [part async for part in edge.bundles.Get(bundles_pb.GetBundleRequest(digest=name), timeout=PATIENCE)]
    got = [part async for part in by_way.bundles.Get(bundles_pb.GetBundleRequest(digest=name), timeout=PATIENCE)]
    assert got == parts
    assert b"".join(part.chunk for part in got) == data


async def test_errors_come_back_unchanged(edge: Edge, beside: Following) -> None:
    for kind, method, request in (
        ("unary_unary", GET, runs_pb.GetRunRequest(run_id="nothing")),
        ("unary_unary", GET, runs_pb.GetRunRequest(run_id="0192a000-0000-7000-8000-000000000000")),
        ("unary_stream", WATCH, runs_pb.WatchRunRequest(run_id="0192a000-0000-7000-8000-000000000000")),
    ):
        ends = []
        for channel in (edge.channel, beside.channel):
            call = getattr(channel, kind)(method)(request.SerializeToString(), timeout=PATIENCE)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await (call.read() if kind == "unary_stream" else call)
            ends.append((caught.value.code(), caught.value.details(), tuple(caught.value.trailing_metadata())))
            assert answer_of(caught.value).violations
        assert ends[0] == ends[1]


async def test_grpcurl_needs_to_know_of_nobody_else(edge: Edge, beside: Following) -> None:
    run = await edge.start()
    got = await grpcurl("-plaintext", "-d", f'{{"run_id": "{run.id}"}}', beside.address, GET.strip("/"))
    assert run.id in got


async def test_one_that_follows_answers_for_itself_and_sends_agents_on(edge: Edge, beside: Following) -> None:
    stub: Any = HealthStub
    health = stub(beside.channel)
    for service, status in (
        ("", health_pb2.HealthCheckResponse.SERVING),
        ("penstock.v1.RunService", health_pb2.HealthCheckResponse.SERVING),
        ("penstock.agent.v1.AgentService", health_pb2.HealthCheckResponse.NOT_SERVING),
    ):
        asked = health_pb2.HealthCheckRequest(service=service)
        assert (await health.Check(asked, timeout=PATIENCE)).status == status
    url = f"http://{beside.entrance.doorway.http_address}/readyz"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        told = await answer.json()
    assert (answer.status, told["role"], told["agents"]) == (200, "follower", "it follows")
    own = (await CoordinatorServiceStub(beside.channel).GetHealth(coordinators_pb.GetHealthRequest())).health
    assert (own.coordinator_id, own.role) == ("c2", coordinators_pb.COORDINATOR_ROLE_FOLLOWER)
    stream = through(edge, beside).agent_service.Connect(timeout=PATIENCE)
    await stream.write(AgentMessage())
    word: Any = await stream.read()
    assert word.redirect.address == edge.server.address
    stream.cancel()


async def test_agents_that_come_just_before_a_planned_take_over_wait_for_it(
    edge: Edge, beside: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "EXPECTED_SECONDS", PATIENCE)
    stub = CoordinatorServiceStub(beside.channel)
    other = coordinators_pb.PrepareTakeOverRequest(owner_id="c3")
    assert (await refused(stub.PrepareTakeOver(other, timeout=PATIENCE))).reason == "NOT_FOLLOWING"
    beside.entrance.preparation.begin(edge.backend.stores)
    run = await edge.start()
    prepared = await stub.PrepareTakeOver(coordinators_pb.PrepareTakeOverRequest(owner_id="c1"), timeout=PATIENCE)
    assert prepared.run_count == 1
    agent = ScriptedAgent(beside.address)
    connecting = asyncio.create_task(agent.connect(credits=1))
    await refused(beside.method(GET)(b"", metadata=((HOP, "c3"),), timeout=PATIENCE))
    assert not connecting.done()
    services: Any = ServiceSet()
    supervisor = edge.backend.supervisor
    add_AgentServiceServicer_to_server(AgentService(supervisor, edge.backend.engine, edge.backend.hub), services)
    beside.entrance.doorway.let_in(CallGuard(), services)
    await within(connecting)
    assert (await agent.grant()).lease.run_id == uuid.UUID(run.id).bytes
    await agent.vanish()


async def test_a_call_is_passed_on_once(edge: Edge, beside: Following) -> None:
    answer = await refused(beside.method(GET)(b"", metadata=((HOP, "c3"),), timeout=PATIENCE))
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "NOT_THE_LEADER")
    assert answer.metadata["address"] == edge.server.address


async def test_clients_that_were_given_both_pay_the_detour_once(edge: Edge, beside: Following) -> None:
    call = through(edge, beside).runs.List(runs_pb.ListRunsRequest(), timeout=PATIENCE)
    await call
    assert (OWNER, edge.server.address) in tuple(await call.initial_metadata())
    async with Client(f"{beside.address},{edge.server.address}") as client:
        assert [run async for run in client.list_runs()] == []
        await beside.entrance.close()
        assert [run async for run in client.list_runs()] == []


# --- a stand-in for the owner, to see what reaches it


def standing_in(
    behaviour: Callable[[Any, Any], Any], *, streams: bool = False
) -> contextlib.AbstractAsyncContextManager[str]:
    """A coordinator that answers as it is told to."""
    kind = grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
    return serving(answering(lambda _: kind(behaviour, None, None)))


async def test_metadata_and_deadlines_go_on_and_come_back() -> None:
    seen: dict[str, Any] = {}

    async def answer(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        seen.update(context.invocation_metadata() or ())
        seen["left"] = context.time_remaining()
        await context.send_initial_metadata((("first", "1"),))
        context.set_trailing_metadata((("last-bin", b"\x00\xff"),))
        return request[::-1]

    given = (("authorization", "Bearer key"), ("traceparent", "00-ab-cd-01"), ("x-bin", b"\x00\x01"))
    async with standing_in(answer) as owner, following(owner) as follower:
        call = follower.method(GET)(b"no message of ours", metadata=given, timeout=40.0)
        assert await call == b"sruo fo egassem on"
        assert dict(given).items() <= seen.items()
        assert seen[HOP] == "c2"
        assert 0 < seen["left"] < 60.0, "what is left of it, which the wire rounds up"
        assert ("first", "1") in tuple(await call.initial_metadata())
        assert ("last-bin", b"\x00\xff") in tuple(await call.trailing_metadata())


@dataclass
class Silent:
    """Never answers."""

    came: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, request: bytes, context: object) -> bytes:
        self.came.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError


@pytest.mark.parametrize("streams", [False, True])
async def test_who_goes_away_is_heard_of_by_the_owner(streams: bool) -> None:
    silent = Silent()
    async with standing_in(silent.__call__, streams=streams) as owner, following(owner) as follower:
        call = follower.streaming(WATCH)(b"") if streams else follower.method(GET)(b"")
        await within(silent.came.wait())
        call.cancel()
        await within(silent.cancelled.wait())


@pytest.mark.parametrize("streams", [False, True])
async def test_an_owner_that_dies_before_it_answered_is_told_with_a_delay(streams: bool) -> None:
    silent = Silent()
    async with contextlib.AsyncExitStack() as stack:
        dying = contextlib.AsyncExitStack()
        owner = await dying.enter_async_context(standing_in(silent.__call__, streams=streams))
        follower = await stack.enter_async_context(following(owner))
        call = follower.streaming(WATCH)(b"") if streams else follower.method(GET)(b"")
        await within(silent.came.wait())
        await dying.aclose()
        answer = await refused(within(call.read() if streams else call))
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "OWNER_LOST")
    assert answer.retry_seconds is not None


@pytest.mark.parametrize(
    ("code", "details", "origin", "lost"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", "", True),
        # As grpcio 1.85 tells it of one call in thirty, if it is ended while messages are written to it.
        (
            grpc.StatusCode.INTERNAL,
            "Internal error from Core",
            'Failed "execute_batch": (<grpc._cython.cygrpc.SendMessageOperation>,)',
            True,
        ),
        (grpc.StatusCode.INTERNAL, "of another server", "INTERNAL:of another server", False),
    ],
)
async def test_what_the_transport_says_of_the_owner_is_that_it_is_lost(
    code: grpc.StatusCode, details: str, origin: str, lost: bool
) -> None:
    line = Line("127.0.0.1:1", 1, ())
    told = line._told(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details, origin))
    await line.close()
    assert isinstance(told, CallError if lost else PassedBack)


async def test_nobody_waits_for_an_owner_that_was_replaced() -> None:
    silent = Silent()
    async with standing_in(silent.__call__) as owner, following(owner) as follower:
        call = follower.method(GET)(b"")
        await within(silent.came.wait())
        follower.entrance.doorway.let_in(CallGuard(), ServiceSet())
        answer = await refused(within(call))
        assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "OWNER_LOST")
        await within(silent.cancelled.wait())


async def test_streams_are_passed_on_as_fast_as_they_are_read() -> None:
    written, total = 0, 100

    async def many(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        nonlocal written
        for _ in range(total):
            await context.write(bytes(1 << 20))
            written += 1

    async with standing_in(many, streams=True) as owner, following(owner) as follower:
        call = follower.streaming(WATCH)(b"", timeout=PATIENCE)
        assert len(await call.read()) == 1 << 20
        for _ in range(100):
            await refused(follower.method(GET)(b"", metadata=((HOP, "c3"),), timeout=PATIENCE))
        assert written < total / 2, "nobody reads them"
        read = 1
        while await call.read() is not grpc.aio.EOF:
            read += 1
        assert read == total


async def test_no_more_calls_are_passed_on_than_the_limit() -> None:
    silent = Silent()
    async with standing_in(silent.__call__) as owner:
        forwarder = Forwarder("c2", lambda: row("c1", owner), forwarding_options(1 << 20), limit=1)
        async with in_front(
            lambda method: forwarder.handler(method, requests=False, answers=False), forwarder
        ) as channel:
            get: Any = channel.unary_unary(GET)
            first = get(b"")
            await within(silent.came.wait())
            answer = await refused(get(b"", timeout=PATIENCE))
            assert (answer.code, answer.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
            assert answer.retry_seconds is not None
            first.cancel()
            await within(silent.cancelled.wait())


async def test_each_call_is_counted_by_whoever_answers_it(edge: Edge, beside: Following) -> None:
    await through(edge, beside).start(spec({"name": "a"}))
    await refused(beside.method(GET)(b"", timeout=PATIENCE))
    await CoordinatorServiceStub(beside.channel).GetHealth(coordinators_pb.GetHealthRequest(), timeout=PATIENCE)
    owner = await scraped(edge.server.http_address)
    follower = await scraped(beside.entrance.doorway.http_address)
    assert owner["penstock_rpc_requests_total", "OK", "Start", "penstock.v1.RunService"] == 1
    assert owner["penstock_rpc_requests_total", "INVALID_ARGUMENT", "Get", "penstock.v1.RunService"] == 1
    assert follower["penstock_rpc_forwarded_total", "OK", "Start", "penstock.v1.RunService"] == 1
    assert follower["penstock_rpc_forwarded_total", "INVALID_ARGUMENT", "Get", "penstock.v1.RunService"] == 1
    assert follower["penstock_rpc_requests_total", "OK", "GetHealth", "penstock.v1.CoordinatorService"] == 1
    assert ("penstock_rpc_requests_total", "OK", "Start", "penstock.v1.RunService") not in follower
    assert follower["penstock_submissions_total", "ok", "default"] == 0
    # Its own answer: nobody else has seen the call.
    asked = beside.method(START)(b"", timeout=PATIENCE, metadata=((HOP, "c3"),))
    assert (await refused(asked)).code is grpc.StatusCode.UNAVAILABLE
    follower = await scraped(beside.entrance.doorway.http_address)
    assert follower["penstock_rpc_requests_total", "UNAVAILABLE", "Start", "penstock.v1.RunService"] == 1
    assert follower["penstock_submissions_total", "failed", "default"] == 1
