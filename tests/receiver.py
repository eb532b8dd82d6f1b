"""A receiver of OTLP over gRPC, in the test's process: what Penstock and user code send is there to be asked."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Refusal(NamedTuple):
    code: grpc.StatusCode
    trailers: tuple[tuple[str, bytes], ...] = ()


class Receiver(TraceServiceServicer):
    """Spans by id; one that came again is the same."""

    def __init__(self) -> None:
        self.address = ""
        self.spans: dict[bytes, Span] = {}
        self.services: dict[bytes, str] = {}
        """By span, the name of the service that it is of."""
        self.changed: list[bytes] = []
        """Ids of spans that came again with other content."""
        self.received = 0
        self.refusals: list[Refusal] = []
        """What the next calls are answered."""
        self.rejected = 0
        """By its own count, of every call that it takes."""
        self.headers: dict[str, str] = {}
        """Of the last call."""
        self._came = threading.Condition()

    def Export(self, request: ExportTraceServiceRequest, context: grpc.ServicerContext) -> ExportTraceServiceResponse:
        self.headers = {name: str(value) for name, value in context.invocation_metadata()}
        if self.refusals:
            refusal = self.refusals.pop(0)
            context.set_trailing_metadata(refusal.trailers)
            context.abort(refusal.code, "not this")
        with self._came:
            for each in request.resource_spans:
                names = [pair.value.string_value for pair in each.resource.attributes if pair.key == "service.name"]
                for scope in each.scope_spans:
                    for span in scope.spans:
                        self._take(span, names[0])
            self._came.notify_all()
        return ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=self.rejected))

    def _take(self, span: Span, service: str) -> None:
        known = self.spans.get(span.span_id)
        if known is not None and known != span:
            self.changed.append(span.span_id)
        self.spans[span.span_id] = span
        self.services[span.span_id] = service
        self.received += 1

    def of_trace(self, trace_id: str) -> list[Span]:
        return [span for span in list(self.spans.values()) if span.trace_id.hex() == trace_id]

    def wait(self, condition: Callable[[], object], seconds: float) -> None:
        """Until it holds; looked at when spans have come."""
        with self._came:
            assert self._came.wait_for(condition, seconds), sorted(span.name for span in self.spans.values())


@contextlib.contextmanager
def receiving(address: str = "127.0.0.1:0") -> Iterator[Receiver]:
    receiver = Receiver()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    register: Callable[..., None] = add_TraceServiceServicer_to_server  # without types of its own
    register(receiver, server)
    port = server.add_insecure_port(address)
    receiver.address = f"127.0.0.1:{port}"
    server.start()
    try:
        yield receiver
    finally:
        server.stop(None).wait()


def told(span: Any) -> dict[str, Any]:
    """The attributes of a span, a link or an event."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in span.attributes}
