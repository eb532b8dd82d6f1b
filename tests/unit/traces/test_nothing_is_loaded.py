"""Without traces configured nothing of OpenTelemetry is loaded, by whichever part of Penstock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = """
import importlib, json, pkgutil, sys
WORKER = "penstock_agent.executors.worker."
# Loaded where somebody asks for a tracer, and where user code has loaded the interfaces.
WITHOUT = (WORKER + "trace_provider", WORKER + "unsampled_span")
def load(package, *without):
    root = importlib.import_module(package)
    for found in pkgutil.walk_packages(root.__path__, package + "."):
        if not found.name.startswith(without) and not found.name.endswith("__main__"):
            importlib.import_module(found.name)
{program}
print(json.dumps(sorted(name for name in sys.modules if name.partition(".")[0] == "opentelemetry")))
"""
COORDINATOR = """
# With all that it loads at its start. The client of Redis, where one is configured, loads interfaces by itself.
import penstock_coordinator.main
from penstock_coordinator.tracing import open_tracing
assert open_tracing() is None
"""
STEP = """
from penstock_agent.executors.worker.traces import StepTraces
traces = StepTraces()
assert traces.enter({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}) is None
traces.leave(None)
traces.close()
"""
SDK = """
import penstock.client.channel
from penstock.tracing import client_interceptors, current_context
load("penstock.client")
load("penstock.cli")
assert (current_context(), client_interceptors()) == ({}, [])
"""


@pytest.mark.parametrize(
    "program",
    [
        COORDINATOR,
        'load("penstock_agent", "penstock_agent.executors.bare", "penstock_agent.executors.inside", *WITHOUT)',
        STEP,
        SDK,
    ],
    ids=["coordinator", "agent", "step process", "SDK"],
)
def test_nothing_is_loaded(program: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    probe = PROBE.replace("{program}", program)
    command = [sys.executable, "-c", probe]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


ASKS = """
from opentelemetry import trace
assert trace.get_current_span().get_span_context().span_id == 0xb7ad6b7169203331
if {asks}:
    trace.get_tracer("of the user")
"""


@pytest.mark.parametrize("asks", [False, True])
def test_what_makes_spans_is_loaded_where_a_sampled_step_asks_for_a_tracer(asks: bool, tmp_path: Path) -> None:
    """The probe can fail."""
    entered = STEP.replace("is None", "is not None").replace("traces.leave(None)", ASKS.replace("{asks}", str(asks)))
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    command = [sys.executable, "-c", PROBE.replace("{program}", entered)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert "opentelemetry.trace" in loaded
    assert ("opentelemetry.sdk.trace" in loaded) is asks
