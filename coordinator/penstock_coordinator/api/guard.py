"""The outermost layer of every call: no exception passes it but those that end calls.

It wraps handlers of all four kinds, whether they are generators or read and write through the context. Requests are
decoded in here, so that bytes that are no message are the caller's error and not a fault of this process, and that
what is too large is refused before it is decoded.
"""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import grpc
import structlog
from google.protobuf.message import DecodeError

from penstock_coordinator.api.call_watch import CallWatch, count_refused
from penstock_coordinator.api.errors import (
    CallError,
    PassedBack,
    WireStatus,
    exhausted,
    internal,
    translate,
    wire_status,
)
from penstock_coordinator.api.freeing import FreedMemory
from penstock_coordinator.api.options import GUARDED_CALLS
from penstock_coordinator.api.shedding import Shedder
from penstock_coordinator.api.sizes import RequestSizes
from penstock_coordinator.core.counts.calls import CallCounts

if TYPE_CHECKING:
    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]
    Behaviour: TypeAlias = Callable[[Any, Context], Any]

ALWAYS = ("/penstock.agent.v1.AgentService/Connect", "/grpc.health.", "/penstock.v1.CoordinatorService/")

_RETRY = 1_000_000
"""Microseconds."""

log = structlog.get_logger(__name__)


class CallGuard(grpc.aio.ServerInterceptor):
    """Must be the first of the server's interceptors."""

    def __init__(
        self,
        sizes: RequestSizes | None = None,
        shedder: Shedder | None = None,
        counts: CallCounts | None = None,
        passes_on: Callable[[grpc.HandlerCallDetails], bool] = lambda details: False,
        freed: FreedMemory | None = None,
    ) -> None:
        """`counts`: of the process. `passes_on`: whether somebody else answers the call; of one that does not stream it
        goes by the method alone."""
        self._sizes = sizes or RequestSizes()
        self._shedder = shedder
        self._counts = counts or CallCounts()
        self._passes_on = passes_on
        self._freed = freed or FreedMemory()
        self._calls = Calls(GUARDED_CALLS)
        self._unary: dict[str, Handler] = {}
        """Guarded once: a call with one request and one answer leaves nothing behind."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        method, metadata = handler_call_details.method, handler_call_details.invocation_metadata
        guarded = self._unary.get(method)
        if guarded is None:
            handler = await continuation(handler_call_details)
            if handler is None:  # No such method. gRPC itself answers UNIMPLEMENTED.
                return None
            streams = handler.request_streaming or handler.response_streaming
            watch = CallWatch(self._counts, method, streams=streams, passes_on=self._passes_on(handler_call_details))
            guarded = _guarded(handler, method, self._sizes, self._shedder, self._calls, watch, self._freed)
            if not streams:
                self._unary[method] = guarded
        refusal = self._calls.refusal(method) or self._sizes.announced(method, metadata or ())
        if refusal is None and self._shedder is not None:
            refusal = self._shedder.before(method)
        if refusal is None:
            return guarded
        count_refused(self._counts, method, refusal.code.name)
        return _refusing(refusal)


def _refusing(error: CallError) -> Handler:
    """Answers before the request is there: of a stream none is read that is not asked for."""
    status = wire_status(error)

    async def refuse(_requests: object, context: Context) -> None:
        await context.abort(status.code, status.details, status.trailing_metadata)

    return grpc.stream_unary_rpc_method_handler(refuse, None, None)


class Calls:
    """How many are under way."""

    def __init__(self, limit: int) -> None:
        self.count = 0
        self._limit = limit

    def refusal(self, method: str) -> CallError | None:
        """Of one more. Agents' sessions and looks at health are always let in: there are few, and all else hangs on
        them."""
        if self.count < self._limit or method.startswith(ALWAYS):
            return None
        return exhausted("TOO_MANY_CALLS", f"{self.count:,} calls are under way: try again soon", _RETRY)


def _guarded(
    handler: Handler,
    method: str,
    sizes: RequestSizes,
    shedder: Shedder | None,
    calls: Calls,
    watch: CallWatch,
    freed: FreedMemory,
) -> Handler:
    call = _Call(method, handler, sizes, shedder, calls, watch, freed)
    # Of a stream each message is decoded where the handler reads it, so that its errors come up through the handler.
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            return grpc.unary_unary_rpc_method_handler(call.answer_one, None, None)
        case False, True:
            return grpc.unary_stream_rpc_method_handler(call.answer_many, None, handler.response_serializer)
        case True, False:
            return grpc.stream_unary_rpc_method_handler(call.answer_one, call.decode_streamed, None)
        case _:
            return grpc.stream_stream_rpc_method_handler(
                call.answer_many, call.decode_streamed, handler.response_serializer
            )


class _Call:
    """One call on its way through a handler."""

    def __init__(
        self,
        method: str,
        handler: Handler,
        sizes: RequestSizes,
        shedder: Shedder | None,
        calls: Calls,
        watch: CallWatch,
        freed: FreedMemory,
    ) -> None:
        self._calls = calls
        self._freed = freed
        self._watch = watch
        self._method = method
        self._handler = handler
        self._sizes = sizes
        self._shedder = shedder
        # The one of the four that is there. The types are those of synchronous servers.
        self._behaviour: Behaviour = next(
            cast("Behaviour", found)
            for found in (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
            if found is not None
        )
        self._decode = handler.request_deserializer or bytes
        self._encode = handler.response_serializer or bytes
        self._fault: Exception | None = None

    async def answer_one(self, request: Any, context: Context) -> Any:
        self._calls.count += 1
        watched = self._watch.begin()
        try:
            response = await self._behaviour(self._request(request), context)
            self._check()
            encoded = self._encode(response)
            watched.answered(passed_on=encoded is response)
            return encoded
        except Exception as error:
            status = self._status(error, context)
            watched.failed(status.code.name, passed_back=isinstance(error, PassedBack))
        finally:
            self._calls.count -= 1
            watched.end(context)
        # gRPC keeps in the call what `abort` raises. With the call as a local of this frame, or of one of the first
        # error's, that would be a cycle, and all of it, requests too, would live on until garbage is collected.
        ending = context.abort(status.code, status.details, status.trailing_metadata)
        del request, context
        return await ending

    async def answer_many(self, request: Any, context: Context) -> None:
        self._calls.count += 1
        watched = self._watch.begin()
        try:
            passed_on = await run_streaming(self._behaviour(self._request(request), context), context)
            self._check()
            watched.answered(passed_on=passed_on)
            return
        except Exception as error:
            status = self._status(error, context)
            watched.failed(status.code.name, passed_back=isinstance(error, PassedBack))
        finally:
            self._calls.count -= 1
            watched.end(context)
        ending = context.abort(status.code, status.details, status.trailing_metadata)
        del request, context
        await ending

    def _request(self, request: Any) -> Any:
        return request if self._handler.request_streaming else self._decoded(request)

    def _decoded(self, data: bytes) -> Any:
        self._sizes.check(self._method, data)
        if self._shedder is not None:
            self._shedder.check(self._method, data)
        self._freed.after(len(data))
        return self._decode(data)

    def decode_streamed(self, data: bytes) -> Any:
        try:
            return self._decoded(data)
        except (DecodeError, CallError) as error:
            self._fault = error.with_traceback(None)
            raise

    def _check(self) -> None:
        """A handler may read in a task of its own and end well although a message of the stream was refused."""
        if self._fault is not None:
            raise self._fault

    def _status(self, error: Exception, context: Context) -> WireStatus:
        """What the call is to be ended with. Cancellation is no Exception and never comes here."""
        # A write may fail for a reader that is gone before the call is known to have ended.
        if isinstance(error, grpc.aio.AbortError | grpc.aio.InternalError) or context.done():
            raise error
        if isinstance(error, PassedBack):
            return error.status
        return wire_status(translate(error) or self._unforeseen(error))

    def _unforeseen(self, error: Exception) -> CallError:
        error_id = secrets.token_hex(8)
        log.error("call_failed", error_id=error_id, method=self._method, exc_info=error)
        return internal(error_id)


async def run_streaming(answers: Any, context: Context) -> bool:
    """To its end, whatever the behaviour is made as. Whether the answers were another coordinator's."""
    if inspect.isawaitable(answers):
        return await answers is True
    try:
        async for answer in answers:
            await context.write(answer)
    finally:
        # What the generator holds is given back now, not when it is collected.
        await answers.aclose()
    return False
