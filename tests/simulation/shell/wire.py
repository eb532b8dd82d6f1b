"""gRPC without sockets: channels, calls and servers with the library's interface, over connections that can break.

A connection carries the messages of its calls in order, in both directions, as bytes. It can be slow, stand still for a
while, end (both sides hear of it, each in its own time), or go dead without a word (half-open): then each side hears of
it when its keepalive does. What was under way when it ended is lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import grpc
import grpc.aio

if TYPE_CHECKING:
    import random

    from tests.simulation.shell.loop import Process, VirtualLoop

MAX_MESSAGE_BYTES = 64 << 20
KEEPALIVE = (5_000_000, 15_000_000)
"""Microseconds until a side notices that its peer is gone without a word."""
CONNECT_PATIENCE = 20_000_000
UP, DOWN = 0, 1
OK, UNAVAILABLE, CANCELLED = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED


class Status(NamedTuple):
    code: grpc.StatusCode
    details: str = ""
    trailing: tuple[tuple[str, Any], ...] = ()


class Tap(Protocol):
    """Hears what is sent, when it is sent."""

    def up(self, connection: object, message: Any) -> None: ...

    def down(self, connection: object, message: Any) -> None: ...

    def answer(self, method: str, data: bytes) -> None: ...


class Network:
    """All channels and servers of one schedule."""

    def __init__(self, loop: VirtualLoop, chance: random.Random, trace: Callable[..., None]) -> None:
        self.loop = loop
        self.trace = trace
        self.tap: Tap | None = None
        self.servers: dict[str, list[VirtualServer]] = {}
        """By address, the newest last: whoever is left over from before does not get any more calls."""
        self.connections: list[Connection] = []
        self.slowness = 1_000
        """Microseconds that a message takes at most, if nothing is wrong."""
        self._chance = chance

    def latency(self) -> int:
        return 20 + int(self._chance.random() * self.slowness)

    def keepalive(self) -> int:
        low, high = KEEPALIVE
        return low + int(self._chance.random() * (high - low))

    def of(self, process: Process) -> list[Connection]:
        """The connections that the process is an end of."""
        self.connections = [each for each in self.connections if each.open]
        return [each for each in self.connections if process in (each.client, each.process)]

    def process_died(self, process: Process, *, silent: bool) -> None:
        """Its peers hear of it, at once or by their keepalive."""
        for connection in self.of(process):
            connection.lose(self.keepalive() if silent else self.latency())

    def listening(self, address: str) -> VirtualServer | None:
        servers = self.servers[address] = [each for each in self.servers.get(address, ()) if each.process.alive]
        return next((each for each in reversed(servers) if each.accepts), None)


class Connection:
    """From a channel to the process that listened at its address when it was made."""

    def __init__(self, network: Network, client: Process, server: VirtualServer) -> None:
        self.network = network
        self.client = client
        self.server = server
        self.process = server.process
        self.open = True
        self.deaf = [False, False]
        """By direction: what is sent is lost without a word."""
        self.calls: list[tuple[ClientCall, ServerCall]] = []
        self._under_way: tuple[deque[Any], deque[Any]] = deque(), deque()
        self._due = [0, 0]
        self._stalled_until = 0
        network.connections.append(self)

    def send(self, direction: int, deliver: Callable[..., None], *args: Any) -> None:
        if not self.open or self.deaf[direction]:
            return
        loop = self.network.loop
        due = max(loop.now + self.network.latency(), self._due[direction] + 1, self._stalled_until)
        self._due[direction] = due
        self._under_way[direction].append((deliver, args))
        loop.later(due - loop.now, self._deliver, direction)

    def _deliver(self, direction: int) -> None:
        """What was sent first, whichever timer it is that fired."""
        deliver, args = self._under_way[direction].popleft()
        if self.open and not self.deaf[direction]:
            deliver(*args)

    def stall(self, microseconds: int) -> None:
        """Packets are lost and sent again: nothing arrives for a while, and nothing is missing afterwards."""
        self._stalled_until = max(self._stalled_until, self.network.loop.now + microseconds)

    def lose(self, *noticed: int) -> None:
        """It ends. Each side hears of it when its time has come: one for both, or the client's and the server's."""
        if not self.open:
            return
        self.open = False
        loop = self.network.loop
        loop.later(noticed[0], self._end_clients)
        loop.later(noticed[-1], self._end_servers)

    def go_silent(self, *directions: int) -> None:
        """Half-open: what goes there is lost, and each side finds out by its keepalive."""
        for direction in directions:
            self.deaf[direction] = True
        loop, network = self.network.loop, self.network
        loop.later(network.keepalive(), self._noticed)

    def _noticed(self) -> None:
        self.lose(self.network.latency(), self.network.keepalive())

    def _end_clients(self) -> None:
        for client, _ in list(self.calls):
            client.ended(Status(UNAVAILABLE, "the connection is lost"))

    def _end_servers(self) -> None:
        for _, server in list(self.calls):
            server.peer_gone()


# --- the client's side


class VirtualChannel:
    """As `grpc.aio.Channel`, as far as stubs and those who close it use it."""

    def __init__(self, network: Network, address: str, process: Process) -> None:
        self._network = network
        self._address = address
        self._process = process
        self._connection: Connection | None = None
        self._calls: list[ClientCall] = []
        self._closed = False

    def unary_unary(
        self, method: str, request_serializer: Any, response_deserializer: Any, **_: Any
    ) -> Callable[..., ClientCall]:
        return lambda request, **_: self._begin(
            method, request_serializer, response_deserializer, request_serializer(request)
        )

    unary_stream = unary_unary

    def stream_unary(
        self, method: str, request_serializer: Any, response_deserializer: Any, **_: Any
    ) -> Callable[..., ClientCall]:
        return lambda **_: self._begin(method, request_serializer, response_deserializer, None)

    stream_stream = stream_unary

    def _begin(self, method: str, serialize: Any, deserialize: Any, request: bytes | None) -> ClientCall:
        if self._closed:
            raise grpc.aio.UsageError("Channel is closed.")
        self._calls = [call for call in self._calls if not call.done()]
        call = ClientCall(self._network, method, serialize, deserialize)
        self._calls.append(call)
        connection = self._connected()
        if connection is None:
            self._network.loop.later(
                self._network.latency(), call.ended, Status(UNAVAILABLE, "failed to connect to all addresses")
            )
        else:
            call.begin(connection, request)
        return call

    def _connected(self) -> Connection | None:
        if self._connection is None or not self._connection.open:
            server = self._network.listening(self._address)
            self._connection = None if server is None else Connection(self._network, self._process, server)
        return self._connection

    async def close(self, grace: float | None = None) -> None:
        self._closed = True
        for call in self._calls:
            call.cancel()
        if self._connection is not None:
            self._connection.lose(self._network.latency())
        await asyncio.sleep(0)


class ClientCall:
    """All four kinds of calls."""

    def __init__(self, network: Network, method: str, serialize: Any, deserialize: Any) -> None:
        self._network = network
        self._method = method
        self._serialize = serialize
        self._deserialize = deserialize
        self._inbox: deque[bytes] = deque()
        self._changed: list[asyncio.Future[None]] = []
        self._status: Status | None = None
        self._half_closed = False
        self._let_in = False
        self._connection: Connection | None = None
        self._server: ServerCall | None = None
        self._done_callbacks: list[Callable[[ClientCall], None]] = []

    def begin(self, connection: Connection, request: bytes | None) -> None:
        self._connection = connection
        server = self._server = ServerCall(connection, self, self._method)
        connection.calls.append((self, server))
        if request is not None:
            self._network.trace("call", connection.client.name, self._method.rpartition("/")[2], len(request))
        connection.send(UP, server.begin, request)

    # --- what the library's calls do

    async def read(self) -> Any:
        while not self._inbox:
            if self._status is not None:
                await self._raise_for_status()
                return grpc.aio.EOF
            await self._waits()
        return self._deserialize(self._inbox.popleft())

    async def write(self, message: Any) -> None:
        if self.done():
            raise asyncio.InvalidStateError("RPC already finished.")
        if self._half_closed:
            raise asyncio.InvalidStateError("RPC is half closed after calling `done_writing`.")
        data: bytes = self._serialize(message)
        if self._connection is not None and self._server is not None:
            if self._network.tap is not None:
                self._network.tap.up(self._connection, message)
            self._network.trace("up", self._connection.client.name, _kind(message), len(data))
            self._connection.send(UP, self._server.deliver, data)
        await self._waits(self._network.latency() // 4)
        if self.done() and self._status is not None and self._status.code is not OK:
            await self._raise_for_status()

    async def done_writing(self) -> None:
        if self.done() or self._half_closed:
            return
        self._half_closed = True
        if self._connection is not None and self._server is not None:
            self._connection.send(UP, self._server.half_closed)
        await asyncio.sleep(0)

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Comes with the server's first word, or with the end of the call."""
        while not (self._let_in or self.done()):
            await self._waits()
        return grpc.aio.Metadata()

    def cancel(self) -> bool:
        if self._status is not None:
            return False
        if self._connection is not None and self._server is not None:
            self._connection.send(UP, self._server.peer_gone)
        self.ended(Status(CANCELLED, "Locally cancelled by application!"))
        return True

    def done(self) -> bool:
        return self._status is not None

    def add_done_callback(self, callback: Callable[[ClientCall], None]) -> None:
        if self.done():
            callback(self)
        else:
            self._done_callbacks.append(callback)

    def cancelled(self) -> bool:
        return self._status is not None and self._status.code is CANCELLED

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._answer().__await__()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._messages()

    async def _answer(self) -> Any:
        while self._status is None:
            await self._waits()
        await self._raise_for_status()
        return self._deserialize(self._inbox.popleft())

    async def _messages(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    async def _waits(self, microseconds: int | None = None) -> None:
        """A call that is waited for is cancelled with who waits."""
        loop = self._network.loop
        changed: asyncio.Future[None] = loop.create_future()
        if microseconds is None:
            self._changed.append(changed)
        else:
            loop.later(microseconds, _wake, changed)
        try:
            await changed
        except asyncio.CancelledError:
            self.cancel()
            raise

    async def _raise_for_status(self) -> None:
        """As the library: to a reader its call's cancellation looks like its own."""
        status = self._status
        assert status is not None
        if status.code is CANCELLED:
            raise asyncio.CancelledError
        if status.code is not OK:
            metadata = grpc.aio.Metadata(*status.trailing)
            raise grpc.aio.AioRpcError(status.code, grpc.aio.Metadata(), metadata, status.details)

    # --- what comes from the other side

    def deliver(self, data: bytes) -> None:
        if self._status is None:
            self._let_in = True
            self._inbox.append(data)
            self._notify()

    def let_in(self) -> None:
        self._let_in = True
        self._notify()

    def ended(self, status: Status) -> None:
        if self._status is not None:
            return
        self._status = status
        if status.code is not OK:
            self._inbox.clear()
        if self._connection is not None:
            self._connection.calls = [
                pair for pair in self._connection.calls if pair[0] is not self or not pair[1].over
            ]
        for callback in self._done_callbacks:
            callback(self)
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, []
        for future in changed:
            _wake(future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


# --- the server's side


class Details(NamedTuple):
    """As `grpc.HandlerCallDetails`."""

    method: str
    invocation_metadata: tuple[tuple[str, str], ...] = ()


class VirtualServer:
    """As `grpc.aio.Server`, with the interceptor that stands before all calls."""

    def __init__(self, network: Network, process: Process, guard: grpc.aio.ServerInterceptor) -> None:
        self.network = network
        self.process = process
        self.accepts = False
        self.calls: list[ServerCall] = []
        self._guard = guard
        self._handlers: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, _handlers: object) -> None:
        """The same handlers are registered by name as well."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        for name, handler in handlers.items():
            self._handlers[f"/{service}/{name}"] = handler

    def listen(self, address: str) -> None:
        self.accepts = True
        self.network.servers.setdefault(address, []).append(self)

    async def stop(self, grace: float) -> None:
        """No more calls, and the end of those that are under way when the seconds are over."""
        self.accepts = False
        tasks = {call.task for call in self.under_way() if call.task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=grace)
        for call in self.under_way():
            call.refuse(Status(UNAVAILABLE, "the server is stopped"))
        for connection in self.network.of(self.process):
            connection.lose(self.network.latency())

    def under_way(self) -> list[ServerCall]:
        self.calls = [call for call in self.calls if not call.over]
        return self.calls

    async def handle(self, call: ServerCall, method: str, request: bytes | None) -> None:
        async def found(_: object) -> Any:
            return self._handlers[method]

        guarded: Any = await self._guard.intercept_service(found, Details(method))  # type: ignore[arg-type]  # as far as it looks
        call.decode = guarded.request_deserializer or bytes
        call.encode = guarded.response_serializer or bytes
        streams = guarded.request_streaming
        behaviour: Callable[..., Awaitable[Any]] = next(
            each
            for each in (guarded.unary_unary, guarded.unary_stream, guarded.stream_unary, guarded.stream_stream)
            if each is not None
        )
        answer = await behaviour(call.requests() if streams else request, call)
        if not guarded.response_streaming:
            call.respond(answer)
        call.refuse(Status(OK))


class ServerCall:
    """As `grpc.aio.ServicerContext`."""

    def __init__(self, connection: Connection, client: ClientCall, method: str) -> None:
        self._connection = connection
        self._client = client
        self.method = method
        self._inbox: deque[bytes] = deque()
        self._half_closed = False
        self._gone = False
        self._status: Status | None = None
        self._waiting: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None
        self.decode: Callable[[bytes], Any] = bytes
        self.encode: Callable[[Any], bytes] = bytes

    @property
    def over(self) -> bool:
        return self._gone or self._status is not None

    def code(self) -> int | None:
        """As the library says it: what the handler ended the call with, None while it has not."""
        return None if self._status is None else self._status.code.value[0]

    # --- what comes from the other side

    def begin(self, request: bytes | None) -> None:
        server = self._connection.server
        if not server.accepts:
            self._connection.send(DOWN, self._client.ended, Status(UNAVAILABLE, "the server is stopped"))
            return
        server.calls.append(self)
        self.task = server.network.loop.spawn(server.process, self._handled(request))

    async def _handled(self, request: bytes | None) -> None:
        try:
            await self._connection.server.handle(self, self.method, request)
        except grpc.aio.AbortError:
            pass
        except asyncio.CancelledError:
            self.refuse(Status(CANCELLED, "cancelled"))
            raise
        except Exception as error:
            self.refuse(Status(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}"))
            if not self._gone:
                raise

    def deliver(self, data: bytes) -> None:
        self._inbox.append(data)
        self._notify()

    def half_closed(self) -> None:
        self._half_closed = True
        self._notify()

    def peer_gone(self) -> None:
        """The library cancels the handler, unless it has given its status."""
        if self._gone:
            return
        self._gone = True
        if self.task is not None and self._status is None:
            self.task.cancel()
        self._notify()

    def _notify(self) -> None:
        if self._waiting is not None:
            _wake(self._waiting)

    # --- what the library's contexts do

    async def read(self) -> Any:
        while not self._inbox:
            self._raise_for_termination()
            if self._half_closed or self._gone:
                return grpc.aio.EOF
            self._waiting = self._connection.network.loop.create_future()
            await self._waiting
        self._raise_for_termination()
        return self.decode(self._inbox.popleft())

    async def requests(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    async def write(self, message: Any) -> None:
        self._raise_for_termination()
        if self._gone:
            raise grpc.aio.InternalError('Failed "SendMessage"')
        data = self.encode(message)
        network = self._connection.network
        if network.tap is not None:
            network.tap.down(self._connection, message)
        network.trace("down", self._connection.client.name, _kind(message), len(data))
        if len(data) > MAX_MESSAGE_BYTES:
            self._connection.send(DOWN, self._client.ended, Status(grpc.StatusCode.RESOURCE_EXHAUSTED, "too large"))
        self._connection.send(DOWN, self._client.deliver, data)
        written: asyncio.Future[None] = network.loop.create_future()
        network.loop.later(network.latency() // 4, _wake, written)
        await written

    async def send_initial_metadata(self, _metadata: object) -> None:
        self._raise_for_termination()
        self._connection.send(DOWN, self._client.let_in)
        await asyncio.sleep(0)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        self.refuse(Status(code, details, tuple(trailing_metadata)))
        raise grpc.aio.AbortError("Locally aborted.")

    def respond(self, data: bytes) -> None:
        tap = self._connection.network.tap
        if tap is not None and self._connection.process.alive:
            tap.answer(self.method, data)
        self._connection.send(DOWN, self._client.deliver, data)

    def refuse(self, status: Status) -> None:
        if self._status is None:
            self._status = status
            self._connection.send(DOWN, self._client.ended, status)
            self._connection.calls = [
                pair for pair in self._connection.calls if pair[1] is not self or not pair[0].done()
            ]
            self._notify()

    def done(self) -> bool:
        return self.over

    def cancelled(self) -> bool:
        return self._gone

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def peer(self) -> str:
        return self._connection.client.name

    def _raise_for_termination(self) -> None:
        if self._status is not None:
            raise grpc.aio.UsageError("RPC already finished.")


def _kind(message: Any) -> str:
    try:
        return message.WhichOneof("body") or ""
    except (AttributeError, ValueError):
        return type(message).__name__
