"""The trace that user code finds itself in."""

from __future__ import annotations

import pytest
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from penstock_agent.executors.worker.traces import StepTraces, is_configured

PLAIN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


@pytest.mark.parametrize(
    "context",
    [
        {"traceparent": PLAIN},
        {"traceparent": PLAIN, "tracestate": "a=1,b=2", "baggage": "c=3"},
        {"traceparent": "00-1-2-01"},
        {"traceparent": f"00-{'0' * 32}-b7ad6b7169203331-00"},
    ],
)
def test_user_code_is_below_what_the_attempt_was_told(context: dict[str, str]) -> None:
    traces = StepTraces()
    before = get_current_span()
    for _ in range(2):
        token = traces.enter(context)
        found = get_current_span().get_span_context()
        wanted = get_current_span(TraceContextTextMapPropagator().extract(context)).get_span_context()
        assert (found.is_valid, found.trace_state) == (wanted.is_valid, wanted.trace_state)
        if wanted.is_valid:
            assert found == wanted
        traces.leave(token)
        assert get_current_span() is before
    traces.close()


@pytest.mark.parametrize(
    ("environment", "configured"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4317"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4317", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4317", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, False),
    ],
)
def test_a_provider_is_made_where_variables_ask_for_one(environment: dict[str, str], configured: bool) -> None:
    assert is_configured(environment) is configured
