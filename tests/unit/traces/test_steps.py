"""The trace that user code finds itself in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from tests.receiver import receiving

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


STEPS = """
import asyncio
from penstock_agent.executors.worker.traces import StepTraces

traces = StepTraces()

def attempt(flags, step):
    token = traces.enter({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-" + flags})
    try:
        step()
    finally:
        traces.leave(token)

async def branch(name):
    await asyncio.sleep(0)
    from opentelemetry import trace
    with trace.get_tracer("user").start_as_current_span(name):
        pass

async def branches():
    await asyncio.gather(branch("one"), branch("two"))

def asks_nothing():
    pass

def asks():
    asyncio.run(branch("of what is not sampled"))

attempt("01", asks_nothing)
attempt("00", asks)
attempt("01", lambda: asyncio.run(branches()))
attempt("00", asks)
traces.close()
"""


def test_spans_of_a_step_that_loads_it_late_are_below_the_step_if_its_run_is_sampled(tmp_path: Path) -> None:
    """In tasks that were there before as well; also where the first who asks is not sampled."""
    with receiving() as receiver:
        environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{receiver.address}"}
        command = [sys.executable, "-c", STEPS]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(span.name for span in receiver.spans.values()) == ["one", "two"]
        assert {span.parent_span_id.hex() for span in receiver.spans.values()} == {"b7ad6b7169203331"}
        assert set(receiver.services.values()) == {"penstock-step"}


SDK_IS_HIDDEN = """
import sys
from penstock_agent.executors.worker.traces import StepTraces

sys.modules["opentelemetry.sdk.trace"] = None
traces = StepTraces()
token = traces.enter({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
from opentelemetry import trace
with trace.get_tracer("user").start_as_current_span("own"):
    print(format(trace.get_current_span().get_span_context().span_id, "x"))
traces.leave(token)
traces.close()
"""


def test_without_the_sdk_a_tracer_makes_no_span_and_no_error(tmp_path: Path) -> None:
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    command = [sys.executable, "-c", SDK_IS_HIDDEN]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "b7ad6b7169203331\n", "")
