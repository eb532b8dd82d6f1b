"""Spans to a receiver of OTLP, over gRPC.

OpenTelemetry's exporter reads its variables: where the receiver is, how the way there is secured, headers, compression.
The calls are made here, in the loop: its own wait in threads, and tell nobody why a receiver refuses what it was sent.
Loaded only where traces are configured.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # the package has no stubs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.grpc import aio_server_interceptor
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanContext

from penstock_coordinator.adapters.otlp_encoding import SpanEncoder
from penstock_coordinator.ports import SpansRefused, Unavailable
from penstock_coordinator.trace_settings import BadTraceSettings

if TYPE_CHECKING:
    from penstock_coordinator.core.traces.spans import Span

SERVICE = "penstock-coordinator"
LAST_SPANS_SECONDS = 3.0
LONGEST_REASON = 300
"""Characters of what a receiver says."""
MOST_BETWEEN_CONNECTIONS = 5_000
"""Milliseconds. gRPC's own two minutes would be added to the exporter's pauses."""
RETRYABLE = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""By OTLP's specification; RESOURCE_EXHAUSTED if the receiver says when. All others are for ever."""
_USERS = "/penstock.v1."
STREAMS = frozenset(
    {
        "/penstock.v1.BundleService/Get",
        "/penstock.v1.RunService/TailLogs",
        "/penstock.v1.RunService/WaitMany",
        "/penstock.v1.RunService/Watch",
    }
)
"""Calls of users with a stream of answers."""


def resource() -> Resource:
    """As OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say. It names no process unless they do: a span that is sent
    again, by whoever owns the run then, is the same."""
    given = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in given
    found = dict(Resource.create(None if named else {"service.name": SERVICE}).attributes)
    if "service.instance.id=" not in given:
        found.pop("service.instance.id", None)
    return Resource(found)


_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_STATUS_DETAILS, _RETRY_INFO = "grpc-status-details-bin", "google.rpc.retryinfo-bin"


class _Variables(OTLPSpanExporter):
    """What they say. It opens no connection of its own."""

    def _initialize_channel_and_stub(self) -> None: ...

    def channel(self) -> grpc.aio.Channel:
        options = [*self._channel_options, ("grpc.max_reconnect_backoff_ms", MOST_BETWEEN_CONNECTIONS)]
        if self._insecure:
            return grpc.aio.insecure_channel(self._endpoint, options, self._compression)
        assert self._credentials is not None
        return grpc.aio.secure_channel(self._endpoint, self._credentials, options, self._compression)

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        given: Any = self._headers  # pairs, whatever they were given as
        return tuple((name.lower(), value) for name, value in given)

    @property
    def seconds(self) -> float:
        """For a call."""
        return float(self._timeout)


_NAME, _VALUE = re.compile(r"[0-9a-z_.-]+(?<!-bin)"), re.compile("[ -~]*")


def check_headers() -> None:
    """Raises `BadTraceSettings` for one that gRPC would refuse with every call; its value may be a key, and is not
    told."""
    for name, value in _Variables().headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            own = "OTEL_EXPORTER_OTLP_TRACES_HEADERS"
            variable = own if os.environ.get(own) else "OTEL_EXPORTER_OTLP_HEADERS"
            raise BadTraceSettings(
                f"{variable}: the header {name!r} cannot be sent: write a name of letters, digits, '_', '-', '.' that"
                " does not end in -bin, and a value of printable ASCII (%XX is taken for the character that it means)"
            )


class OtlpSink:
    """`ports.SpanSink`. To be made in a running loop."""

    def __init__(self) -> None:
        variables = _Variables()
        self._headers, self._seconds = variables.headers, variables.seconds
        self._channel = variables.channel()
        self._export: Any = self._channel.unary_unary(
            _EXPORT, request_serializer=None, response_deserializer=ExportTraceServiceResponse.FromString
        )
        self._encoder = SpanEncoder(_empty())

    async def send(self, spans: Sequence[tuple[bytes, Span]]) -> None:
        try:
            request = self._encoder.request(spans)
        except (ValueError, TypeError) as error:
            raise SpansRefused(len(spans), f"they cannot be encoded: {error}") from None
        try:
            answer = await self._export(request, metadata=self._headers, timeout=self._seconds)
        except grpc.aio.AioRpcError as error:
            raise _meant(error, len(spans)) from None
        refused = answer.partial_success.rejected_spans
        if refused:
            raise SpansRefused(refused, answer.partial_success.error_message[:LONGEST_REASON])

    async def aclose(self) -> None:
        await self._channel.close()


def _empty() -> ExportTraceServiceRequest:
    """With the resource and the scope of all requests."""
    whose = ReadableSpan("", SpanContext(1, 1, is_remote=False), resource=resource())
    made = encode_spans([whose])
    scope = made.resource_spans[0].scope_spans[0]
    scope.scope.name = "penstock"
    del scope.spans[:]
    return made


def _meant(error: grpc.aio.AioRpcError, spans: int) -> Exception:
    """Whether it is worth while to send them again."""
    code = error.code()
    reason = f"{code.name}: {(error.details() or '')[:LONGEST_REASON]}"
    after = _retry_after(error)
    if code not in RETRYABLE and not (code is grpc.StatusCode.RESOURCE_EXHAUSTED and after is not None):
        return SpansRefused(spans, reason)
    away = Unavailable(f"the receiver of traces does not take them: {reason}")
    away.retry_after = after
    return away


def _retry_after(error: grpc.aio.AioRpcError) -> int | None:
    """Microseconds, if the receiver has sent RetryInfo."""
    info = error_details_pb2.RetryInfo()
    for name, value in error.trailing_metadata() or ():
        try:
            if name == _RETRY_INFO:
                info.ParseFromString(value)
                return int(info.retry_delay.ToMicroseconds())
            if name == _STATUS_DETAILS:
                for detail in status_pb2.Status.FromString(value).details:
                    if detail.Unpack(info):
                        return int(info.retry_delay.ToMicroseconds())
        except (DecodeError, TypeError):
            continue
    return None


_interceptor: Callable[..., grpc.aio.ServerInterceptor] = aio_server_interceptor  # without types of its own


class CallTracing:
    """Spans of the calls of users, by OpenTelemetry's instrumentation."""

    def __init__(self) -> None:
        self._provider = TracerProvider(resource=resource())
        self._exporter = OTLPSpanExporter()
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self.interceptor: grpc.aio.ServerInterceptor = _interceptor(self._provider, filter_=is_traced)

    async def aclose(self) -> None:
        """A receiver that hangs is not waited for."""
        closing = asyncio.ensure_future(asyncio.to_thread(self._provider.shutdown))
        done, _ = await asyncio.wait({closing}, timeout=LAST_SPANS_SECONDS)
        if not done:
            self._exporter.shutdown()  # ends the call under way, and its repetitions
            await closing


def is_traced(call: grpc.HandlerCallDetails) -> bool:
    """What a traced caller calls, and gets one answer to. The stream of an agent lasts as long as the agent, and what
    follows a run as long as somebody looks; calls without a caller's trace (agents, probes) would each be a trace."""
    if not call.method.startswith(_USERS) or call.method in STREAMS:
        return False
    return any(name == "traceparent" for name, _ in call.invocation_metadata or ())
