"""Large runs: what a step costs when there are many of them, and what stopping very many does to others.

CPU time and memory are those of the coordinator's process.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections import defaultdict

from benchmarks import flows
from benchmarks.penstock_cluster import Site
from benchmarks.process_use import MEBIBYTE
from benchmarks.step_log import Entry, percentile, transitions
from benchmarks.workloads import Figures
from penstock.client.client import Client
from penstock.client.handles import RunHandle
from penstock.v1 import pipeline_pb2, run_pb2

WIDTH = 50
LAYERS = {10: (5, 20), 100: (5, 2), 1_000: (1, 1)}
"""Depth of the DAG: samples, and runs in each of them."""
ITEMS = 50_000
SMALL_MAP = 1_000
SMALL_MAPS = 5
CHAIN = 10_000
OTHERS = 100
WARM_UP_SECONDS = 12.0
UNDISTURBED_SECONDS = 6.0


async def _bundle(client: Client) -> str:
    await client.create_pipeline(flows.mapped)
    response = await client.get_pipeline(flows.mapped.name)
    return response.version.spec.bundle_digest


def _step(name: str, position: int, upstream: list[str]) -> pipeline_pb2.StepSpec:
    step = pipeline_pb2.StepSpec(name=name, depends_on=upstream)
    step.function.module, step.function.qualname = "flows", "alone"
    step.inputs["position"].value.number_value = position
    return step


def _layered(layers: int, bundle: str) -> pipeline_pb2.PipelineSpec:
    spec = pipeline_pb2.PipelineSpec(name=f"layered{layers}", bundle_digest=bundle)
    for layer, place in itertools.product(range(layers), range(WIDTH)):
        before = {(place + offset) % WIDTH for offset in (0, 1, 7)} if layer else set()
        upstream = [f"l{layer - 1}-{each}" for each in sorted(before)]
        spec.steps.append(_step(f"l{layer}-{place}", layer * WIDTH + place, upstream))
    return spec


async def layered(site: Site) -> Figures:
    """DAGs 50 wide, each step with three upstream steps: CPU time per step at 10, 100 and 1,000 layers."""
    bundle = await _bundle(site.client)
    per_step: dict[int, float] = {}
    for layers, (samples, repeat) in LAYERS.items():
        await site.client.create_pipeline(_layered(layers, bundle))
        per_step[layers] = statistics.median([await _cpu_per_step(site, layers, repeat) for _ in range(samples)])
    figures = {f"cpu_us_per_step_{layers}": 1e6 * seconds for layers, seconds in per_step.items()}
    return {**figures, "ratio": per_step[max(LAYERS)] / per_step[min(LAYERS)]}


async def _cpu_per_step(site: Site, layers: int, repeat: int) -> float:
    coordinator = site.coordinator()
    await asyncio.sleep(1.0)
    before = coordinator.cpu_seconds
    for _ in range(repeat):
        run = await site.client.start(f"layered{layers}")
        await run.wait(raise_on_failure=True)
    return (coordinator.cpu_seconds - before) / (layers * WIDTH * repeat)


async def large_map(site: Site) -> Figures:
    """One mapped step of 50,000, after one of 1,000."""
    await site.client.create_pipeline(flows.mapped)
    coordinator = site.coordinator()
    small = SMALL_MAP / statistics.median([await _map_seconds(site, SMALL_MAP) for _ in range(1 + SMALL_MAPS)][1:])
    before = coordinator.memory
    async with coordinator.watched():
        seconds = await _map_seconds(site, ITEMS)
    return {
        "total_s": seconds,
        "steps_per_s": ITEMS / seconds,
        "of_small_map": ITEMS / seconds / small,
        "growth_bytes_per_item": (coordinator.memory - before) / ITEMS,
        "peak_growth_bytes_per_item": (coordinator.peak_memory - before) / ITEMS,
        "peak_mb": coordinator.peak_memory / MEBIBYTE,
    }


async def _map_seconds(site: Site, items: int) -> float:
    began = time.perf_counter()
    run = await site.client.start(flows.mapped.name, {"items": list(range(items))})
    await run.wait(raise_on_failure=True)
    return time.perf_counter() - began


async def long_chain(site: Site) -> Figures:
    """10,000 steps, one after the other."""
    spec = pipeline_pb2.PipelineSpec(name="chain10000", bundle_digest=await _bundle(site.client))
    for number in range(CHAIN):
        spec.steps.append(_step(f"s{number}", number, [f"s{number - 1}"] if number else []))
    await site.client.create_pipeline(spec)
    coordinator = site.coordinator()
    before, began = coordinator.cpu_seconds, time.perf_counter()
    run = await site.client.start("chain10000")
    await run.wait(raise_on_failure=True)
    took = time.perf_counter() - began
    gaps = transitions(site.log.read())
    return {
        "total_s": took,
        "transition_p50_ms": percentile(gaps, 0.5),
        "transition_p99_ms": percentile(gaps, 0.99),
        "cpu_us_per_step": (coordinator.cpu_seconds - before) / CHAIN * 1e6,
    }


async def large_cancel(site: Site) -> Figures:
    """A run with 50,000 ready steps is cancelled while 100 runs go from step to step: how long the answer takes, and
    the 99th percentile of the time from a step's end to its successor's start, before it and meanwhile."""
    client, log = site.client, site.log
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
    return {
        "answer_ms": answer * 1e3,
        "at_rest_ms": (done_at - asked_at) * 1e3,
        "others_p99_before_ms": p99["before"],
        "others_p99_during_ms": p99["during"],
        "ratio": p99["during"] / p99["before"],
        "transitions_before": len(before),
        "transitions_during": len(during),
    }


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
