"""The trace that user code finds itself in."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from opentelemetry import context as contexts
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from tests.receiver import receiving

from penstock_agent.executors.channel import FunctionWork, Task
from penstock_agent.executors.worker.surroundings import Surroundings
from penstock_agent.executors.worker.traces import StepTraces, derived_traceparent, is_configured, is_sampled
from penstock_coordinator.core.traces.ids import trace_of

PLAIN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


@pytest.mark.parametrize(
    "context",
    [
        {"traceparent": PLAIN},
        {"traceparent": PLAIN, "tracestate": "a=1,b=2", "baggage": "c=3"},
        {"traceparent": "00-1-2-01"},
        {"traceparent": f"00-{'0' * 32}-b7ad6b7169203331-00"},
        {"baggage": "c=3"},
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


def test_user_code_of_a_run_that_nobody_samples_finds_the_trace_of_the_run() -> None:
    traces, run_id = StepTraces(), uuid.uuid4()
    before = get_current_span()
    traces.enter_unsampled(str(uuid.uuid4()))
    traces.leave(traces.enter({"traceparent": PLAIN}))
    contexts.attach(contexts.Context())  # a step that leaves its own
    traces.enter_unsampled(str(run_id))
    found = get_current_span()
    assert found.get_span_context().trace_id.to_bytes(16, "big") == trace_of(run_id.bytes, ()).trace_id
    assert found.get_span_context() == found.get_span_context()
    assert found.get_span_context().is_valid
    assert not found.get_span_context().trace_flags.sampled
    assert not found.is_recording()
    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    assert headers == {"traceparent": derived_traceparent(str(run_id))}
    traces.enter_none()
    assert get_current_span() is before


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

async def branches(*names):
    await asyncio.gather(*map(branch, names))

def asks_nothing():
    pass

def asks():
    from opentelemetry import trace
    assert format(trace.get_current_span().get_span_context().span_id, "x") == "b7ad6b7169203331"
    asyncio.run(branches("of what", "is not", "sampled"))

attempt("01", asks_nothing)
attempt("00", asks)
attempt("01", lambda: asyncio.run(branches("one", "two")))
attempt("00", asks)
from opentelemetry import trace
assert not trace.get_current_span().get_span_context().is_valid, "nothing stays behind"
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


ENTERED = """
import faulthandler
faulthandler.dump_traceback_later(60, exit=True)
from penstock_agent.executors.worker.traces import StepTraces

traces = StepTraces()
token = traces.enter({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
from opentelemetry import trace
"""
INSTRUMENTED = """
from opentelemetry.instrumentation.grpc import GrpcInstrumentorClient
GrpcInstrumentorClient().instrument()
with trace.get_tracer("user").start_as_current_span("own"):
    pass
traces.leave(token)
traces.close()
"""


WAITED_FOR = """
import sys, threading
from penstock_agent.executors.worker import trace_provider
trace_provider.LONGEST_MAKING_SECONDS = 0.1

class Waits:
    def find_spec(self, name, path=None, target=None):
        if name == "opentelemetry.exporter.otlp.proto.grpc.trace_exporter":
            other = threading.Thread(target=lambda: trace.get_tracer("other").start_span("lost").end())
            other.start()
            other.join()

sys.meta_path.insert(0, Waits())
with trace.get_tracer("user").start_as_current_span("own"):
    pass
traces.leave(token)
traces.close()
"""


@pytest.mark.parametrize("step", [INSTRUMENTED, WAITED_FOR], ids=["the same thread", "another thread"])
def test_what_makes_the_provider_may_ask_for_a_tracer_itself(tmp_path: Path, step: str) -> None:
    with receiving() as receiver:
        environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{receiver.address}"}
        command = [sys.executable, "-c", ENTERED + step]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert [span.name for span in receiver.spans.values()] == ["own"]


SETS_ONE = """
from opentelemetry.sdk.trace import TracerProvider
own = TracerProvider()
if not isinstance(trace.get_tracer_provider(), TracerProvider):
    trace.set_tracer_provider(own)
assert trace.get_tracer_provider() is own
with trace.get_tracer("user").start_as_current_span("own") as span:
    assert span.get_span_context().trace_id == 0x0af7651916cd43dd8448eb211c80319c
traces.leave(token)
traces.close()
"""


def test_a_module_that_sets_a_provider_after_a_sampled_attempt_keeps_it(tmp_path: Path) -> None:
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    command = [sys.executable, "-c", ENTERED + SETS_ONE]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True)])
def test_sampled_is_what_has_the_lowest_flag(flags: str, sampled: bool) -> None:
    assert is_sampled(PLAIN[:-2] + flags) is sampled
    assert not is_sampled("")


def test_headers_may_be_written_in_capitals() -> None:
    traces = StepTraces()
    token = traces.enter({"Traceparent": PLAIN})
    assert get_current_span().get_span_context().span_id == 0xB7AD6B7169203331
    traces.leave(token)


def test_the_state_of_a_trace_that_is_not_told_is_not_told_either(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("TRACEPARENT", "TRACESTATE", "BAGGAGE"):
        monkeypatch.delenv(name, raising=False)
    task = Task(1, 0, FunctionWork("m", "f"), "run", "pipeline", "step", [], 1, "key", {}, b"", {}, 1 << 20)
    task.trace_context = {"traceparent": PLAIN, "tracestate": "a=1", "baggage": "c=3"}
    surroundings = Surroundings(str(tmp_path))
    before = dict(os.environ)
    try:
        surroundings.enter(task)
        assert os.environ["TRACEPARENT"] != PLAIN
        assert ("TRACESTATE" in os.environ, os.environ["BAGGAGE"]) == (False, "c=3")
    finally:
        os.environ.clear()
        os.environ.update(before)
