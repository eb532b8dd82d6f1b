"""What user code finds above itself in a run that nobody samples. Loaded only where OpenTelemetry's interfaces are."""

from __future__ import annotations

from opentelemetry import context as contexts
from opentelemetry import trace

from penstock_agent.executors.worker.traces import derived_traceparent


class UnsampledSpan(trace.NonRecordingSpan):
    """Makes its context when somebody asks for it: most attempts do not, and making it takes as long as to call a short
    step. What an attempt has kept of it is of the newest attempt: no span is made in either."""

    def __init__(self) -> None:
        self.run_id = ""

    def get_span_context(self) -> trace.SpanContext:
        _, trace_id, span_id, _ = derived_traceparent(self.run_id).split("-")
        return trace.SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True)

    def __repr__(self) -> str:
        return f"UnsampledSpan({self.get_span_context()!r})"


class UnsampledContext:
    """Attached once, in place of what there was before."""

    def __init__(self) -> None:
        self._span = UnsampledSpan()
        self._context = trace.set_span_in_context(self._span, contexts.Context())
        self._token = contexts.attach(self._context)

    def stand_for(self, run_id: str) -> None:
        self._span.run_id = run_id
        if contexts.get_current() is not self._context:  # the attempt before has left another one
            contexts.attach(self._context)

    def stand_down(self) -> None:
        contexts.detach(self._token)
