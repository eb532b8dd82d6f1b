"""Spans to a receiver of OTLP, over gRPC.

OpenTelemetry's exporter connects, retries and secures as its variables say. What it sends is made here from the values
that the journal gave: the SDK's own spans are objects with locks and clocks, and cost several times as much. Loaded
only where traces are configured.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.grpc import aio_server_interceptor
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import SpanContext

from penstock_coordinator.ports import Unavailable

if TYPE_CHECKING:
    import grpc

    from penstock_coordinator.core.traces.spans import Attributes, Span

SERVICE = "penstock-coordinator"
LAST_SPANS_SECONDS = 3.0
LONGEST_ERROR = 1_024
"""Characters of what a span says of its failure."""
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


class _Exporter(OTLPSpanExporter):
    """Of requests that are made already."""

    def _translate_data(self, data: Sequence[Any]) -> ExportTraceServiceRequest:
        (request,) = data
        assert isinstance(request, ExportTraceServiceRequest)
        return request


class OtlpSink:
    """`ports.SpanSink`."""

    def __init__(self) -> None:
        self._exporter = _Exporter()
        whose = ReadableSpan("", SpanContext(1, 1, is_remote=False), resource=resource())
        self._empty = encode_spans([whose])
        scope = self._empty.resource_spans[0].scope_spans[0]
        scope.scope.name = "penstock"
        del scope.spans[:]

    async def send(self, spans: Sequence[tuple[bytes, Span]]) -> None:
        request = ExportTraceServiceRequest()
        request.CopyFrom(self._empty)
        request.resource_spans[0].scope_spans[0].spans.extend(_span(trace_id, span) for trace_id, span in spans)
        # The exporter waits for the answer, and between tries, in the thread that calls it.
        if await asyncio.to_thread(self._exporter.export, cast("Any", [request])) is not SpanExportResult.SUCCESS:
            raise Unavailable("the receiver of traces does not take them: the lines of opentelemetry say why")

    async def aclose(self) -> None:
        await asyncio.to_thread(self._exporter.shutdown)


def _span(trace_id: bytes, span: Span) -> OtlpSpan:
    made = OtlpSpan(
        trace_id=trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent,
        name=span.name,
        kind=OtlpSpan.SPAN_KIND_INTERNAL,
        start_time_unix_nano=span.start * 1_000,
        end_time_unix_nano=span.end * 1_000,
        flags=1,
    )
    if span.attributes:
        made.attributes.extend(_attributes(span.attributes))
    for link in span.links:
        made.links.add(trace_id=trace_id, span_id=link.span_id, attributes=_attributes(link.attributes), flags=1)
    for moment in span.moments:
        made.events.add(name=moment.name, time_unix_nano=moment.at * 1_000, attributes=_attributes(moment.attributes))
    if span.error:
        made.status.code = Status.STATUS_CODE_ERROR
        made.status.message = span.error[:LONGEST_ERROR]
    return made


def _attributes(given: Attributes) -> list[KeyValue]:
    return [KeyValue(key=name, value=_value(value)) for name, value in given]


def _value(value: str | int | bool) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    return AnyValue(bool_value=value) if isinstance(value, bool) else AnyValue(int_value=value)


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
