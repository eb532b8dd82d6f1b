"""Runs as far as counting needs them."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format

from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.evolve import evolve
from penstock_coordinator.core.run.state import Run

SECOND = 1_000_000


def ready_run(ready_at: int = 0, **fields: Any) -> Run:
    """Of one step."""
    steps = [{"name": "a", "command": {"argv": ["true"]}}]
    spec = json_format.ParseDict({"name": "p", "steps": steps, **fields}, PipelineSpec())
    run = Run(compile_plan(spec, "d"))
    evolve(run, 1, e.RunStarted(ready_at, "d", b"{}", None))
    evolve(run, 2, e.StepsReadied(ready_at, ((0, 1),)))
    return run


def leased_run(ready_at: int, leased_at: int) -> tuple[Run, e.StepsLeased]:
    """And the event of its lease."""
    run = ready_run(ready_at)
    event = e.StepsLeased(leased_at, 1, "agent-1", ((0, WHOLE, 1),))
    evolve(run, 3, event)
    return run, event
