"""Large runs: what a step costs when there are many of them, and what stopping very many does to others.

python -m benchmarks.large [layered] [map50000] [chain10000] [cancel]

`layered`: DAGs 50 wide, each step with three upstream steps, of 10, 100 and 1,000 layers: CPU time of the coordinator
per step, and the ratio of the largest to the smallest. `map50000`: one mapped step. `chain10000`: one step after the
other. `cancel`: a run with 50,000 ready steps is cancelled while 100 runs go from step to step: how long the answer
takes, and the 99th percentile of the time from a step's end to its successor's start before it and meanwhile.

A JSON line per result. CPU time and memory are those of the coordinator's process, from /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks import flows
from benchmarks.step_log import Entry, StepLog, percentile
from penstock.client.client import Client
from penstock.client.handles import RunHandle
from penstock.dev.cluster import DevCluster
from penstock.v1 import pipeline_pb2, run_pb2

WIDTH = 50
LAYERS = (10, 100, 1_000)
ITEMS = 50_000
CHAIN = 10_000
OTHERS = 100
WARM_UP_SECONDS = 12.0
UNDISTURBED_SECONDS = 6.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Coordinator:
    """What a process has used so far."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    @property
    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def memory_mb(self) -> float:
        status = Path(f"/proc/{self._pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def report(workload: str, **figures: float) -> None:
    rounded = {name: round(value, 3) for name, value in figures.items()}
    sys.stdout.write(json.dumps({"workload": workload, "system": "penstock", **rounded}) + "\n")
    sys.stdout.flush()


async def _bundle(client: Client) -> str:
    await client.create_pipeline(flows.mapped)
    response = await client.get_pipeline(flows.mapped.name)
    return response.version.spec.bundle_digest


def _step(name: str, position: int, upstream: list[str]) -> pipeline_pb2.StepSpec:
    step = pipeline_pb2.StepSpec(name=name, depends_on=upstream)
    step.function.module, step.function.qualname = "benchmarks.flows", "nothing"
    step.inputs["position"].value.number_value = position
    return step


def _layered(layers: int, bundle: str) -> pipeline_pb2.PipelineSpec:
    spec = pipeline_pb2.PipelineSpec(name=f"layered{layers}", bundle_digest=bundle)
    for layer, place in itertools.product(range(layers), range(WIDTH)):
        before = {(place + offset) % WIDTH for offset in (0, 1, 7)} if layer else set()
        upstream = [f"l{layer - 1}-{each}" for each in sorted(before)]
        spec.steps.append(_step(f"l{layer}-{place}", layer * WIDTH + place, upstream))
    return spec


async def layered(client: Client, coordinator: Coordinator, _log: StepLog) -> None:
    bundle = await _bundle(client)
    per_step: dict[int, float] = {}
    for layers in LAYERS:
        await client.create_pipeline(_layered(layers, bundle))
        samples = []
        for _ in range(5 if layers < LAYERS[-1] else 1):
            await asyncio.sleep(1.0)
            before, began = coordinator.cpu_seconds, time.perf_counter()
            repeat = 20 if layers == LAYERS[0] else 2 if layers == LAYERS[1] else 1
            for _ in range(repeat):
                run = await client.start(f"layered{layers}")
                await run.wait(raise_on_failure=True)
            steps = layers * WIDTH * repeat
            samples.append((coordinator.cpu_seconds - before) / steps)
            took = time.perf_counter() - began
        per_step[layers] = percentile(samples, 0.5) * 1e6
        report("layered", layers=layers, cpu_us_per_step=per_step[layers], steps_per_s=steps / took)
    report("layered_ratio", ratio=per_step[LAYERS[-1]] / per_step[LAYERS[0]])


async def map50000(client: Client, coordinator: Coordinator, _log: StepLog) -> None:
    await client.create_pipeline(flows.mapped)
    before, began = coordinator.memory_mb, time.perf_counter()
    run = await client.start(flows.mapped.name, {"items": list(range(ITEMS))})
    await run.wait(raise_on_failure=True)
    took = time.perf_counter() - began
    after = coordinator.memory_mb
    report("map50000", total_s=took, steps_per_s=ITEMS / took, memory_before_mb=before, memory_after_mb=after)


async def chain10000(client: Client, coordinator: Coordinator, _log: StepLog) -> None:
    spec = pipeline_pb2.PipelineSpec(name="chain10000", bundle_digest=await _bundle(client))
    for number in range(CHAIN):
        spec.steps.append(_step(f"s{number}", number, [f"s{number - 1}"] if number else []))
    await client.create_pipeline(spec)
    before, began = coordinator.cpu_seconds, time.perf_counter()
    run = await client.start("chain10000")
    await run.wait(raise_on_failure=True)
    took = time.perf_counter() - began
    cpu = (coordinator.cpu_seconds - before) / CHAIN * 1e6
    report("chain10000", total_s=took, ms_per_step=took / CHAIN * 1e3, cpu_us_per_step=cpu)


async def cancel(client: Client, _coordinator: Coordinator, log: StepLog) -> None:
    await client.create_pipeline(flows.unserved)
    await client.create_pipeline(flows.paced_chain)
    log.clear()
    many = await client.start(flows.unserved.name, {"items": list(range(ITEMS))})
    await _until_ready(many)
    await client.start_many(flows.paced_chain.name, [{"run": number} for number in range(OTHERS)])
    await asyncio.sleep(WARM_UP_SECONDS)
    assert len(log.read()) > 5 * OTHERS
    undisturbed_from = time.time()
    await asyncio.sleep(UNDISTURBED_SECONDS)
    asked_at = time.time()
    await many.cancel(reason="measured")
    answer = time.time() - asked_at
    assert (await many.wait()).state == run_pb2.RUN_STATE_CANCELLED
    done_at = time.time()
    await asyncio.sleep(2.0)
    gaps = _gaps(log.read())
    before = [gap for at, gap in gaps if undisturbed_from <= at < asked_at]
    during = [gap for at, gap in gaps if asked_at <= at < max(done_at, asked_at + 1.0)]
    p99 = {"before": percentile(before, 0.99), "during": percentile(during, 0.99)}
    report(
        "cancel50000",
        answer_ms=answer * 1e3,
        at_rest_ms=(done_at - asked_at) * 1e3,
        others_p99_before_ms=p99["before"],
        others_p99_during_ms=p99["during"],
        ratio=p99["during"] / p99["before"],
        transitions_before=len(before),
        transitions_during=len(during),
    )


async def _until_ready(run: RunHandle) -> None:
    async for event in run.watch():
        if any(change.item_count == ITEMS for change in event.steps):
            return


def _gaps(entries: list[Entry]) -> list[tuple[float, float]]:
    """(instant of the end, milliseconds from there to the successor's start) of each transition within a run."""
    runs: dict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        runs[entry.position // 1000].append(entry)
    ordered = (sorted(run, key=lambda entry: entry.position) for run in runs.values())
    pairs = itertools.chain.from_iterable(map(itertools.pairwise, ordered))
    return [(one.end, (other.begin - one.end) * 1e3) for one, other in pairs]


WORKLOADS: dict[str, tuple[int, Callable[[Client, Coordinator, StepLog], Awaitable[None]]]] = {
    "layered": (2, layered),
    "map50000": (2, map50000),
    "chain10000": (2, chain10000),
    "cancel": (OTHERS, cancel),
}
"""With the number of step processes."""


async def measure(name: str) -> None:
    slots, workload = WORKLOADS[name]
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        log = StepLog(Path(folder) / "steps.log")
        environment = {"BENCHMARK_LOG": str(log.path), "PENSTOCK_LOG_LEVEL": "warning"}
        cluster: Any = DevCluster(Path(folder) / "data", agents=1, slots=slots, environment=environment)
        async with cluster, Client(cluster.address) as client:
            await client.create_pipeline(flows.single)
            await (await client.start(flows.single.name)).wait(raise_on_failure=True)
            await workload(client, Coordinator(cluster.pids["coordinator"]), log)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large")
    parser.add_argument("workloads", nargs="*", choices=[*WORKLOADS, []], metavar="WORKLOAD", help="(all)")
    for name in parser.parse_args().workloads or list(WORKLOADS):
        asyncio.run(measure(name))


if __name__ == "__main__":
    main()
