"""The two ports of the process, and who is behind them: the services of a coordinator that owns runs, or what answers
while there is none: calls are passed on to the owner.

A process may follow, own, and follow again; its ports, connections, health and reflection stay. Calls go to whoever is
inside when they come.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from aiohttp import web

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.api.call_classes import CLASSES, CallClass
from penstock_coordinator.api.forwarding import not_the_leader
from penstock_coordinator.api.guard import CallGuard
from penstock_coordinator.api.http import SHUTDOWN_SECONDS
from penstock_coordinator.api.relaying import CONNECT
from penstock_coordinator.runtime.session import goaway

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.descriptor import ServiceDescriptor

    from penstock_coordinator.api.forwarding import Forwarder
    from penstock_coordinator.api.relaying import Relay
    from penstock_coordinator.core.fleet.ownership import CoordinatorRow

    Handler = grpc.RpcMethodHandler[Any, Any]

log = structlog.get_logger(__name__)


class CannotListen(Exception):
    """An address cannot be listened on. The text names the setting and the remedy."""


class ServiceSet(grpc.GenericRpcHandler):
    """Services, added as to a server."""

    def __init__(self) -> None:
        self._handlers: list[grpc.GenericRpcHandler] = []

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        self._handlers.extend(handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: dict[str, Handler]) -> None:
        """As grpc.aio: what is generic is enough."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        for each in self._handlers:
            found = each.service(handler_call_details)
            if found is not None:
                return found
        return None


class Outside(ServiceSet):
    """What every coordinator answers for itself is answered by the services added here. Other calls of users are passed
    on to the owner, agents are sent there, and those that cannot reach it are passed on too."""

    def __init__(
        self,
        services: Iterable[ServiceDescriptor],
        owner: Callable[[], CoordinatorRow | None],
        forwarder: Forwarder,
        relay: Relay,
    ) -> None:
        super().__init__()
        self._methods = {f"/{each.full_name}/{method.name}": method for each in services for method in each.methods}
        self._owner = owner
        self._forwarder = forwarder
        self._relay = relay
        self._expected: asyncio.Future[grpc.GenericRpcHandler] | None = None

    def expect(self, seconds: float) -> None:
        """This process is likely to own the runs within so long: agents that come meanwhile are not sent away."""
        loop = asyncio.get_running_loop()
        if self._expected is None or self._expected.done():
            self._expected = loop.create_future()
            loop.call_later(seconds, self._expected.cancel)

    @property
    def forwarder(self) -> Forwarder:
        return self._forwarder

    def let_in(self, services: grpc.GenericRpcHandler) -> None:
        """It owns them, and those who wait are served."""
        if self._expected is not None and not self._expected.done():
            self._expected.set_result(services)
        self._expected = None

    def passes_on(self, details: grpc.HandlerCallDetails) -> bool:
        """Whether the call is answered by the owner."""
        if details.method == CONNECT:
            return self._passes_streams_on(details)
        return CLASSES.get(details.method, CallClass.SELF) is not CallClass.SELF

    def _passes_streams_on(self, details: grpc.HandlerCallDetails) -> bool:
        """While it is likely to own soon, whoever comes waits for that instead."""
        waits = self._expected is not None and not self._expected.done()
        return not waits and self._relay.is_needed(details.invocation_metadata or ())

    def follow(self) -> None:
        """The owner was looked for: nobody waits for a former one."""
        self._forwarder.follow()
        self._relay.follow()

    def hang_up(self) -> None:
        """This process owns: nobody waits for another one."""
        self._forwarder.hang_up()
        self._relay.hang_up()

    def let_agents_go(self) -> None:
        """It stops: streams that it passes on would last for ever."""
        self._relay.hang_up()

    async def close(self) -> None:
        await self._forwarder.close()
        await self._relay.close()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        method = handler_call_details.method
        call_class, described = CLASSES.get(method), self._methods.get(method)
        if call_class is None or described is None:
            return None
        if call_class is CallClass.SELF:
            return super().service(handler_call_details)
        if method == CONNECT:
            if self._passes_streams_on(handler_call_details):
                return self._relay.stream()
            return grpc.stream_stream_rpc_method_handler(
                self._connect, wire.AgentMessage.FromString, wire.CoordinatorMessage.SerializeToString
            )
        calls = self._relay if call_class is CallClass.AGENT else self._forwarder
        return calls.handler(method, requests=described.client_streaming, answers=described.server_streaming)

    async def _connect(self, requests: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        expected = self._expected
        if expected is not None:
            await asyncio.wait({expected})
            if not expected.cancelled():
                handler: Any = expected.result().service(_Details(CONNECT))
                await handler.stream_stream(requests, context)
                return
        await self._redirect(context)

    async def _redirect(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Agents understand these words in the place of Welcome; those of earlier releases the status."""
        owner = self._owner()
        word = wire.CoordinatorMessage(seq=1)
        if owner is None:
            word.goaway.CopyFrom(goaway("not_the_leader"))
        else:
            word.redirect.CopyFrom(wire.Redirect(address=owner.address, reason="not_the_leader"))
        await context.write(word)
        raise not_the_leader(owner)


class _Details(grpc.HandlerCallDetails):
    invocation_metadata = ()

    def __init__(self, method: str) -> None:
        self.method = method


class Doorway(grpc.aio.ServerInterceptor, grpc.GenericRpcHandler):
    """To be opened once and closed once; in between anybody may be let in and out."""

    def __init__(
        self,
        listen: str,
        http_listen: str,
        options: Sequence[tuple[str, Any]],
        max_calls: int,
        before: Sequence[grpc.aio.ServerInterceptor] = (),
    ) -> None:
        self.address = listen
        """Of gRPC, host:port; with the real port once it is open."""
        self.http_address = http_listen
        self._guard = CallGuard()
        self._services: grpc.GenericRpcHandler = ServiceSet()
        self._may_act: Callable[[], bool] | None = None
        self._outside: tuple[CallGuard, grpc.GenericRpcHandler] = self._guard, self._services
        self._others: Outside | None = None
        self.grpc = grpc.aio.server(
            interceptors=[*before, self],
            options=options,
            maximum_concurrent_rpcs=max_calls,
            compression=grpc.Compression.NoCompression,
        )
        self.grpc.add_generic_rpc_handlers((self,))
        self._http: web.AppRunner | None = None
        self._announced = False

    # --- calls

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        if self._may_act is not None and not self._may_act():
            # The lease has run out, and whoever looks after it had no turn yet.
            guard, services = self._outside

            async def outside(details: grpc.HandlerCallDetails) -> Any:
                return services.service(details) or await continuation(details)

            return await guard.intercept_service(outside, handler_call_details)
        return await self._guard.intercept_service(continuation, handler_call_details)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        return self._services.service(handler_call_details)

    def stay_outside(self, guard: CallGuard, services: Outside) -> None:
        """What answers when nobody is let in, and passes calls on."""
        self._outside, self._others = (guard, services), services
        self.let_out()

    def let_in(
        self,
        guard: CallGuard,
        services: grpc.GenericRpcHandler,
        may_act: Callable[[], bool] | None = None,
        *,
        joins: bool = False,
    ) -> None:
        """From now on calls go to the services, for as long as `may_act`. `joins`: as a member, which passes calls and
        agents' streams on as before."""
        self._guard, self._services, self._may_act = guard, services, may_act
        if self._others is not None and not joins:
            self._others.let_in(services)
            self._others.hang_up()

    def let_out(self) -> None:
        self._may_act = None
        self._guard, self._services = self._outside

    # --- ports

    async def bind(self, http: web.Application) -> None:
        """Both ports are this process's. Raises `CannotListen`; then neither is."""
        self.address = _bind_grpc(self.grpc, self.address)
        self._http = web.AppRunner(http, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        try:
            self.http_address = await _start_http(self._http, self.http_address)
        except CannotListen:
            await self.grpc.stop(None)
            await self._http.cleanup()
            raise

    async def open(self) -> None:
        """Calls are answered from now on."""
        await self.grpc.start()

    def announce(self) -> None:
        """For the log, once: where it listens."""
        if self._announced:
            return
        self._announced = True
        log.info("listening", grpc=self.address, http=self.http_address)
        if not (_is_loopback(self.address) and _is_loopback(self.http_address)):
            log.warning("listening_beyond_this_machine", reason="there is no authentication: keep the network private")

    async def close(self, last_calls: float) -> None:
        """Calls under way have so many seconds to end."""
        if self._others is not None:
            self._others.let_agents_go()
        await self.grpc.stop(last_calls)
        if self._others is not None:
            await self._others.close()
        if self._http is not None:
            await self._http.cleanup()


def _bind_grpc(server: grpc.aio.Server, address: str) -> str:
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if not port:
        raise _cannot_listen("PENSTOCK_LISTEN", address, "it is in use, or no address of this machine")
    return f"{address.rpartition(':')[0]}:{port}"


async def _start_http(runner: web.AppRunner, address: str) -> str:
    host, _, port = address.rpartition(":")
    await runner.setup()
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
    except OSError as error:
        reason = "it is in use" if error.errno == errno.EADDRINUSE else "it is no address of this machine"
        raise _cannot_listen("PENSTOCK_HTTP_LISTEN", address, reason) from None
    return f"{host}:{runner.addresses[0][1]}"


def _cannot_listen(setting: str, address: str, reason: str) -> CannotListen:
    return CannotListen(
        f"cannot listen on {address}: {reason}. Set {setting} to another host:port, or stop what uses it"
    )


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
