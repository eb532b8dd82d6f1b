"""Graphs of real systems: every step runs once, after everything that it depends on, with what that put out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.e2e.cases.case_runs import SCRIPTED
from tests.e2e.cases.step_ledger import Execution, read_ledger

from penstock.bundle.archive import build_bundle
from penstock.v1 import pipeline_pb2 as pb
from penstock.v1 import run_pb2
from penstock.wire_values import to_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.client.sync import SyncClient

DAGS = sorted((Path(__file__).parents[2] / "cases" / "dags").glob("*.json"))
TIME_SCALE, LONGEST_SECONDS = 0.02, 0.1
BYTES_SCALE, MOST_BYTES = 0.05, 256 << 10


@pytest.mark.parametrize("path", DAGS, ids=[path.stem for path in DAGS])
def test_a_graph(client: SyncClient, tmp_path: Path, path: Path, say: Callable[[str], None]) -> None:
    graph = json.loads(path.read_text())
    ledger = tmp_path / "ledger"
    bundle = build_bundle(SCRIPTED)
    client.upload_bundle(bundle)
    client.create_pipeline(specification(graph, str(ledger), bundle.digest))
    began = time.monotonic()
    run = client.start(graph["name"])
    ended = run.wait(200.0)
    seconds = time.monotonic() - began
    assert ended.state == run_pb2.RUN_STATE_COMPLETED, ended.reason
    assert ended.step_counts.completed == len(graph["steps"])
    executions = read_ledger(ledger)
    check_once(graph, executions)
    check_order(graph, executions)
    say(f"{graph['name']}: {len(graph['steps'])} steps in {seconds:.2f} s")


def specification(graph: dict[str, Any], ledger: str, bundle_digest: str) -> pb.PipelineSpec:
    spec = pb.PipelineSpec(name=graph["name"], bundle_digest=bundle_digest)
    sizes = {step["id"]: min(int(step["outputs_bytes"] * BYTES_SCALE), MOST_BYTES) for step in graph["steps"]}
    for said in graph["steps"]:
        step = spec.steps.add(name=said["id"], depends_on=said["deps"])
        step.function.module, step.function.qualname = "scripted", "carry"
        inputs = {f"upstream_{number}": name for number, name in enumerate(said["deps"])}
        constants = {
            "ledger": ledger,
            "seconds": min(said["duration_s"] * TIME_SCALE, LONGEST_SECONDS),
            "size": sizes[said["id"]],
            "sizes": {name: sizes[upstream] for name, upstream in inputs.items()},
        }
        for name, value in constants.items():
            step.inputs[name].value.CopyFrom(to_value(value))
        for name, upstream in inputs.items():
            step.inputs[name].step.step = upstream
    return spec


def check_once(graph: dict[str, Any], executions: list[Execution]) -> None:
    assert sorted(each.step for each in executions) == sorted(step["id"] for step in graph["steps"])
    assert {each.attempt for each in executions} == {1}


def check_order(graph: dict[str, Any], executions: list[Execution]) -> None:
    ran = {each.step: each for each in executions}
    for step in graph["steps"]:
        for upstream in step["deps"]:
            end = ran[upstream].end
            assert end is not None
            assert end <= ran[step["id"]].start, f"{step['id']} began before {upstream} ended"
