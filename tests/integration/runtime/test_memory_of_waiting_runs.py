"""What a run costs that waits for an agent, counted by allocations: the same on every machine."""

from __future__ import annotations

import gc
import tracemalloc
from typing import TYPE_CHECKING

from tests.integration.runtime.test_runs import spec

from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.runtime.views import RunRequest

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import Coordinator, World

RUNS = 400
MOST_BYTES = 2_650
"""About a tenth more than it is."""
COUNTED = (tracemalloc.Filter(True, "*/core/*"), tracemalloc.Filter(True, "*/runtime/*.py"))


async def _start(coordinator: Coordinator, count: int) -> None:
    version = await coordinator.create(spec({"name": "a"}))
    plan = compile_plan(spec({"name": "a"}), version.digest)
    request = RunRequest(plan=plan, version=version, parameters=b"{}", labels=(), trace_context=(), request=None)
    await coordinator.engine.start_runs([request] * count)


async def test_a_run_that_waits_is_small(world: World) -> None:
    coordinator = await world.coordinator(commit_patience=60_000_000)
    await _start(coordinator, RUNS)
    gc.collect()
    tracemalloc.start()
    try:
        await _start(coordinator, RUNS)
        gc.collect()
        snapshot = tracemalloc.take_snapshot().filter_traces(COUNTED)
    finally:
        tracemalloc.stop()
    kept = sum(trace.size for trace in snapshot.traces) / RUNS
    assert coordinator.supervisor.live_runs == 2 * RUNS
    assert kept < MOST_BYTES
