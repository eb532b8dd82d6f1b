"""A gRPC server of a test, for as long as it is wanted."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc


class AnyMethod(grpc.GenericRpcHandler):
    """Every method there may be is answered by what `handler` gives for its name."""

    def __init__(self, handler: Callable[[str], grpc.RpcMethodHandler[Any, Any]]) -> None:
        self._handler = handler

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        return self._handler(handler_call_details.method)


@contextlib.asynccontextmanager
async def serving(
    add: Callable[[grpc.aio.Server], None],
    *,
    port: int = 0,
    options: Sequence[tuple[str, Any]] = (),
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
) -> AsyncIterator[str]:
    """Its address on the loopback. `add` gives it what answers; without `port` it takes a free one."""
    server = grpc.aio.server(interceptors=interceptors, options=[("grpc.so_reuseport", 0), *options])
    add(server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def answering(handler: Callable[[str], grpc.RpcMethodHandler[Any, Any]]) -> Callable[[grpc.aio.Server], None]:
    """For `serving`: every method there may be."""
    return lambda server: server.add_generic_rpc_handlers((AnyMethod(handler),))
