"""What user code finds above itself in a run that nobody samples. Loaded only where OpenTelemetry's interfaces are."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.context import Context

from penstock_agent.executors.worker.traces import derived_traceparent


class UnsampledSpan(trace.NonRecordingSpan):
    """Makes its context when somebody asks for it: most attempts do not, and making it takes as long as to call a short
    step."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id

    def get_span_context(self) -> trace.SpanContext:
        _, trace_id, span_id, _ = derived_traceparent(self._run_id).split("-")
        return trace.SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True)

    def __repr__(self) -> str:
        return f"UnsampledSpan({self.get_span_context()!r})"


def unsampled(run_id: str) -> Context:
    return trace.set_span_in_context(UnsampledSpan(run_id), _NOTHING)


_NOTHING = Context()
