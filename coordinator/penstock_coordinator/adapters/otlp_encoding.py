"""Spans as a request of OTLP.

Made from the values that the journal gave: the SDK's own spans are objects with locks and clocks, and cost several
times as much. A message that is put into another one is copied by way of bytes, so fields are filled in place; and
attributes that many spans have, as the run's, are encoded once: bytes of a message may be merged into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

if TYPE_CHECKING:
    from penstock_coordinator.core.traces.spans import Attributes, Span, Value

LONGEST_ERROR = 1_024
"""Characters of what a span says of its failure."""
MOST_KNOWN = 4_096
"""Attributes that are kept as bytes: those of the runs of some passes."""
_SAMPLED = 1


class SpanEncoder:
    def __init__(self, empty: ExportTraceServiceRequest) -> None:
        """`empty`: a request with a resource and a scope, and no span."""
        self._empty = empty.SerializeToString()
        self._known: dict[tuple[str, Value], bytes] = {}

    def request(self, spans: Sequence[tuple[bytes, Span]]) -> bytes:
        """Each with the id of its trace."""
        request = ExportTraceServiceRequest.FromString(self._empty)
        into = request.resource_spans[0].scope_spans[0].spans
        for trace_id, span in spans:
            self._fill(into, trace_id, span)
        return request.SerializeToString()

    def _fill(self, into: Any, trace_id: bytes, span: Span) -> None:
        made: OtlpSpan = into.add(
            trace_id=trace_id,
            span_id=span.span_id,
            parent_span_id=span.parent,
            name=span.name,
            kind=OtlpSpan.SPAN_KIND_INTERNAL,
            start_time_unix_nano=span.start * 1_000,
            end_time_unix_nano=span.end * 1_000,
            flags=_SAMPLED,
        )
        if span.attributes:
            made.MergeFromString(self._attributes(span.attributes))
        for link in span.links:
            _put(made.links.add(trace_id=trace_id, span_id=link.span_id, flags=_SAMPLED), link.attributes)
        for moment in span.moments:
            _put(made.events.add(name=moment.name, time_unix_nano=moment.at * 1_000), moment.attributes)
        if span.error:
            made.status.code = Status.STATUS_CODE_ERROR
            made.status.message = span.error[:LONGEST_ERROR]

    def _attributes(self, given: Attributes) -> bytes:
        """As a span that has nothing else. All values of a name are of one type."""
        known = self._known
        return b"".join([known.get(pair) or self._encoded(pair) for pair in given])

    def _encoded(self, pair: tuple[str, Value]) -> bytes:
        span = OtlpSpan()
        _put(span, (pair,))
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        encoded = self._known[pair] = span.SerializeToString()
        return encoded


def _put(into: Any, given: Iterable[tuple[str, Value]]) -> None:
    """Into what has `attributes`: a span, a link, an event."""
    for name, value in given:
        put = into.attributes.add(key=name).value
        if isinstance(value, str):
            put.string_value = value
        elif isinstance(value, bool):
            put.bool_value = value
        else:
            put.int_value = value
