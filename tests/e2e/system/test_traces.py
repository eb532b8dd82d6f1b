"""One trace from the caller's span into the steps' own, though a step fails once and the coordinator is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from typing import TYPE_CHECKING

from tests.e2e.system.conftest import DevSystem, until
from tests.receiver import receiving, told

from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from opentelemetry.proto.trace.v1.trace_pb2 import Span


def call(system: DevSystem, environment: dict[str, str], *arguments: str) -> str:
    """What the program says: the run's id."""
    command = [sys.executable, "-m", "tests.e2e.system.traced_caller", system.address, *arguments]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120.0, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_run_is_one_trace(own_system: Callable[..., DevSystem], tmp_path: Path) -> None:
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    with receiving() as receiver:
        traced = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{receiver.address}",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        told_of_attempts = {"PENSTOCK_AGENT_LOG_LEVEL": "info,penstock_agent.runtime.attempt_log=debug"}
        system = own_system("--agents", "2", environment=traced | told_of_attempts)
        run_id = call(system, traced, str(gate), str(begun))
        until(begun.exists, 60.0)
        system.kill("coordinator")
        gate.touch()
        with system.client() as client:
            ended = client.run(run_id).wait(120.0)
            assert ended.state == run_pb2.RUN_STATE_COMPLETED, ended.reason
            trace_id = client.get_run(run_id).trace_id
        receiver.wait(lambda: {"run traced", "own work"} <= {span.name for span in receiver.of_trace(trace_id)}, 60.0)
        receiver.wait(lambda: [span.name for span in receiver.of_trace(trace_id)].count("own work") == 3, 60.0)
        shown = system.penstock("get", run_id)
        system.stop()
        assert receiver.changed == [], "what was sent again after the crash is what was sent before"
        spans = receiver.of_trace(trace_id)
        services = {receiver.services[span.span_id] for span in spans}
    assert trace_id in shown.stdout
    assert_agents_name_the_trace(system, run_id, trace_id)
    assert {"penstock-coordinator", "penstock-step"} < services
    assert_one_tree(spans)
    assert_retry_is_linked(spans)
    (run,) = named(spans, "run traced")
    assert "taken over" in [event.name for event in run.events]
    executions = {span.span_id for span in named(spans, "execute work")}
    assert {span.parent_span_id for span in named(spans, "own work")} == executions
    assert len(executions) == 3
    assert not [span.name for span in receiver.spans.values() if "Connect" in span.name or "PushLogs" in span.name]


def assert_agents_name_the_trace(system: DevSystem, run_id: str, trace_id: str) -> None:
    lines = [json.loads(line) for name in ("agent-1", "agent-2") for line in log_of(system, name) if run_id in line]
    assert {line["trace"] for line in lines} == {trace_id}
    assert {line["agent"] for line in lines} <= {"agent-1", "agent-2"}
    ended = [(line["step"], line.get("item"), line["attempt"]) for line in lines if line["event"] == "attempt_ended"]
    assert sorted(ended, key=str) == sorted(
        [("load", None, 1), ("load", None, 2), ("hold", None, 1), ("total", None, 1)]
        + [("work", item, 1) for item in range(3)],
        key=str,
    )


def log_of(system: DevSystem, name: str) -> list[str]:
    return (system.data / "logs" / f"{name}.log").read_text().splitlines()


def named(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name]


def assert_one_tree(spans: list[Span]) -> None:
    names = {span.span_id: span.name for span in spans}
    (root,) = [span for span in spans if not span.parent_span_id]
    assert root.name == "order"
    torn = [span.name for span in spans if span is not root and span.parent_span_id not in names]
    assert torn == []
    below: dict[str, set[str]] = defaultdict(set)
    for span in spans:
        if span is not root:
            below[names[span.parent_span_id]].add(span.name)
    assert {"run traced", "/penstock.v1.RunService/Start"} <= below["order"]
    assert below["run traced"] == {"step load", "step work", "step hold", "step total"}
    assert below["step work"] == {"step work", "queued", "attempt"}
    assert below["step load"] == below["step hold"] == {"queued", "attempt"}
    assert below["attempt"] >= {"leased", "environment", "execute load", "execute work", "execute hold"}
    for span in spans:
        assert span.start_time_unix_nano <= span.end_time_unix_nano
    items = [
        told(span)["penstock.step.item"] for span in named(spans, "step work") if "penstock.step.item" in told(span)
    ]
    assert sorted(items) == [0, 1, 2]


def assert_retry_is_linked(spans: list[Span]) -> None:
    (step,) = named(spans, "step load")
    attempts = [span for span in spans if span.parent_span_id == step.span_id and span.name == "attempt"]
    first, second = sorted(attempts, key=lambda span: told(span)["penstock.attempt.number"])
    assert told(first)["error.type"] == "UserError"
    assert [link.span_id for link in second.links] == [first.span_id]
    assert not first.links
