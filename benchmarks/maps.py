"""Maps over maps on a cluster of this machine: steps per second, and what they cost the coordinator.

    python -m benchmarks.maps [--items 10000 50000]

Prints a JSON line for each: item by item over two steps; as many items in nested lists, and another step that goes
along with them; and the cancel of a run of which everything waits.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks import map_flows
from penstock.authoring.pipelines import Pipeline
from penstock.client.client import Client
from penstock.dev.cluster import DevCluster
from penstock.v1 import run_pb2

MEBIBYTE = 1 << 20
PATIENCE = 600.0


class Coordinator:
    """What its process has used."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.peak = 0

    @property
    def cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    @property
    def memory(self) -> int:
        return int(self._process.memory_info().rss)

    async def watch(self) -> None:
        self.peak = 0
        while True:
            self.peak = max(self.peak, self.memory)
            await asyncio.sleep(0.2)


async def measure(client: Client, coordinator: Coordinator, pipeline: Pipeline, items: int, steps: int) -> None:
    before, cpu = coordinator.memory, coordinator.cpu_seconds
    watching = asyncio.create_task(coordinator.watch())
    begun = time.perf_counter()
    run = await client.start(pipeline, {"items": list(range(items))})
    ended = await run.wait(PATIENCE)
    seconds = time.perf_counter() - begun
    watching.cancel()
    assert ended.state == run_pb2.RUN_STATE_COMPLETED, ended.reason
    cpu = coordinator.cpu_seconds - cpu
    report(
        pipeline.name,
        items=items,
        step_runs=steps,
        seconds=seconds,
        steps_per_second=steps / seconds,
        coordinator_us_per_step=cpu / steps * 1e6,
        memory_before_mib=before / MEBIBYTE,
        memory_peak_mib=coordinator.peak / MEBIBYTE,
    )


async def cancel(client: Client, items: int) -> None:
    run = await client.start(map_flows.item_by_item, {"items": list(range(items))})
    begun = time.perf_counter()
    await run.cancel(now=True)
    answered = time.perf_counter() - begun
    await run.wait(PATIENCE, raise_on_failure=False)
    report("cancel", items=2 * items, answered_seconds=answered, at_rest_seconds=time.perf_counter() - begun)


def report(workload: str, **figures: float) -> None:
    line = {"workload": workload, **{name: round(value, 3) for name, value in figures.items()}}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def main(sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        cluster = DevCluster(Path(folder) / "data", agents=2, environment={"PENSTOCK_LOG_LEVEL": "warning"})
        async with cluster, Client(cluster.address) as client:
            coordinator = Coordinator(cluster.pids["coordinator"])
            await measure(client, coordinator, map_flows.item_by_item, 1_000, 2_000)
            for items in sizes:
                await measure(client, coordinator, map_flows.item_by_item, items, 2 * items)
                owners = items // map_flows.WIDTH
                steps = owners + 2 * owners * map_flows.WIDTH
                await measure(client, coordinator, map_flows.nested_lists, owners, steps)
            await cancel(client, max(sizes))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 50_000])
    asyncio.run(main(parser.parse_args().items))
