"""What callers see when things go wrong in here, and when they send what is no message."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
import structlog
from tests.integration.api.answers import answer_of, refused
from tests.integration.api.conftest import PATIENCE, Edge

from penstock.agent.v1 import agent_service_pb2
from penstock.v1 import agent_admin_service_pb2, bundle_service_pb2, pipeline_service_pb2, run_service_pb2
from penstock_coordinator.api.guard import CallGuard
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime.views import NotAccepted, Overloaded, SlowReader, Stopping

CANARY = "postgresql://user:SECRETPW@db.internal/x"
METHODS = [
    (service.full_name, method)
    for module in (
        agent_admin_service_pb2,
        bundle_service_pb2,
        pipeline_service_pb2,
        run_service_pb2,
        agent_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


async def _raw_call(channel: Any, service: str, method: Any, payload: bytes) -> None:
    """Sends the bytes as they are and reads to the end."""
    path = f"/{service}/{method.name}"

    async def requests() -> AsyncIterator[bytes]:
        yield payload

    match method.client_streaming, method.server_streaming:
        case False, False:
            await channel.unary_unary(path)(payload, timeout=PATIENCE)
        case False, True:
            async for _ in channel.unary_stream(path)(payload, timeout=PATIENCE):
                pass
        case True, False:
            await channel.stream_unary(path)(requests(), timeout=PATIENCE)
        case _:
            async for _ in channel.stream_stream(path)(requests(), timeout=PATIENCE):
                pass


@pytest.mark.parametrize(("service", "method"), METHODS, ids=lambda value: getattr(value, "name", value))
async def test_bytes_that_are_no_message_are_the_callers_error(edge: Edge, service: str, method: Any) -> None:
    answer = await refused(_raw_call(edge.channel, service, method, b"\xff\xff\xff\xff"))
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert answer.reason == "MALFORMED_MESSAGE"
    assert (await edge.create()).created, "it must go on serving"


async def test_random_bytes_never_are_an_internal_error(edge: Edge) -> None:
    chance = random.Random(7)
    for round_number in range(20):
        for service, method in METHODS:
            if method.name in ("Connect", "Watch", "WaitMany", "TailLogs"):
                continue
            payload = chance.randbytes(chance.randrange(0, 60 + round_number))
            code = await _code_of(_raw_call(edge.channel, service, method, payload))
            assert code not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL), (method.name, payload)


async def _code_of(call: Awaitable[None]) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_an_unknown_method_is_unimplemented(edge: Edge) -> None:
    channel: Any = edge.channel
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/penstock.v1.RunService/Nope")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


# --- errors of handlers, in all four kinds and both styles ----------------------------------------------------------


class _Handlers(grpc.GenericRpcHandler):
    """One method of each kind that raises what the test says."""

    def __init__(self) -> None:
        self.error: BaseException = RuntimeError(CANARY)
        self.cancelled = asyncio.Event()
        self.entered = asyncio.Event()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        name = handler_call_details.method.rpartition("/")[2]
        make: dict[str, Callable[[], Any]] = {
            "unary_unary": lambda: grpc.unary_unary_rpc_method_handler(self._unary),
            "stream_unary": lambda: grpc.stream_unary_rpc_method_handler(self._stream_unary),
            "unary_stream": lambda: grpc.unary_stream_rpc_method_handler(self._generator),
            "stream_stream": lambda: grpc.stream_stream_rpc_method_handler(self._generator),
            "unary_stream_writes": lambda: grpc.unary_stream_rpc_method_handler(self._writes),
            "stream_stream_writes": lambda: grpc.stream_stream_rpc_method_handler(self._reads_and_writes),
            "waits": lambda: grpc.unary_unary_rpc_method_handler(self._waits),
            "pours": lambda: grpc.unary_stream_rpc_method_handler(self._pours),
            "aborts": lambda: grpc.unary_unary_rpc_method_handler(self._aborts),
        }
        return make[name]()

    async def _unary(self, request: Any, context: Any) -> bytes:
        raise self.error

    async def _stream_unary(self, requests: Any, context: Any) -> bytes:
        async for _ in requests:
            pass
        raise self.error

    async def _generator(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        raise self.error

    async def _writes(self, request: Any, context: Any) -> None:
        await context.write(b"first")
        raise self.error

    async def _reads_and_writes(self, request: Any, context: Any) -> None:
        assert await context.read() == b"x"
        await context.write(b"first")
        raise self.error

    async def _waits(self, request: Any, context: Any) -> bytes:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return b""

    async def _pours(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(100_000)
                self.entered.set()
        finally:
            self.cancelled.set()

    async def _aborts(self, request: Any, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.DATA_LOSS, "its own words")
        return b""


class _Raiser:
    def __init__(self, handlers: _Handlers, channel: Any) -> None:
        self.handlers = handlers
        self.channel = channel

    async def call(self, kind: str) -> None:
        path = f"/t/{kind}"
        if kind == "unary_unary" or kind == "aborts":
            await self.channel.unary_unary(path)(b"x", timeout=PATIENCE)
        elif kind == "stream_unary":
            await self.channel.stream_unary(path)(iter([b"x"]), timeout=PATIENCE)
        elif kind.startswith("unary_stream"):
            async for _ in self.channel.unary_stream(path)(b"x", timeout=PATIENCE):
                pass
        else:
            async for _ in self.channel.stream_stream(path)(iter([b"x"]), timeout=PATIENCE):
                pass


KINDS = [
    "unary_unary",
    "stream_unary",
    "unary_stream",
    "stream_stream",
    "unary_stream_writes",
    "stream_stream_writes",
]


@pytest.fixture
async def raiser() -> AsyncIterator[_Raiser]:
    handlers = _Handlers()
    server = grpc.aio.server(interceptors=[CallGuard()])
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield _Raiser(handlers, channel)
    await server.stop(0)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_unforeseen_error_is_told_by_a_number_alone(raiser: _Raiser, kind: str) -> None:
    with structlog.testing.capture_logs() as logged, pytest.raises(grpc.aio.AioRpcError) as caught:
        await raiser.call(kind)
    answer = answer_of(caught.value)
    assert answer.code is grpc.StatusCode.INTERNAL
    everything = repr(caught.value) + repr(list(caught.value.trailing_metadata() or ()))
    assert "SECRETPW" not in everything
    assert "RuntimeError" not in everything
    (entry,) = [entry for entry in logged if entry["event"] == "call_failed"]
    assert entry["error_id"] == answer.metadata["error_id"]
    assert entry["error_id"] in answer.message
    assert entry["exc_info"] is raiser.handlers.error


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("error", "code", "reason", "retry"),
    [
        (Unavailable(CANARY), "UNAVAILABLE", "DATABASE_UNAVAILABLE", True),
        (Stopping(CANARY), "UNAVAILABLE", "STOPPING", True),
        (Overloaded("too many", 2_500_000), "RESOURCE_EXHAUSTED", "OVERLOADED", True),
        (SlowReader(17), "RESOURCE_EXHAUSTED", "SLOW_READER", True),
        (NotAccepted(CANARY), "ABORTED", "NOT_ACCEPTED", False),
    ],
)
async def test_a_foreseen_error_is_told_in_our_words(
    raiser: _Raiser, kind: str, error: Exception, code: str, reason: str, retry: bool
) -> None:
    raiser.handlers.error = error
    answer = await refused(raiser.call(kind))
    assert (answer.code.name, answer.reason, answer.domain) == (code, reason, "penstock")
    assert (answer.retry_seconds is not None) is retry
    assert "SECRETPW" not in answer.message


async def test_what_a_handler_says_itself_stays(raiser: _Raiser) -> None:
    answer = await refused(raiser.call("aborts"))
    assert (answer.code, answer.message) == (grpc.StatusCode.DATA_LOSS, "its own words")


async def test_a_cancelled_call_reaches_its_handler(raiser: _Raiser) -> None:
    call = raiser.channel.unary_unary("/t/waits")(b"x")
    entered = asyncio.create_task(raiser.handlers.entered.wait())
    await asyncio.wait({entered, asyncio.ensure_future(_ended(call))}, return_when=asyncio.FIRST_COMPLETED)
    call.cancel()
    async with asyncio.timeout(PATIENCE):
        await raiser.handlers.cancelled.wait()


async def _ended(call: Any) -> None:
    try:
        await call
    except (grpc.aio.AioRpcError, asyncio.CancelledError):
        return


async def test_a_reader_that_goes_ends_the_generator(raiser: _Raiser) -> None:
    with structlog.testing.capture_logs() as logged:
        call = raiser.channel.unary_stream("/t/pours")(b"x")
        await call.read()
        await raiser.handlers.entered.wait()
        call.cancel()
        async with asyncio.timeout(PATIENCE):
            await raiser.handlers.cancelled.wait()
    assert not logged
