"""What is measured, each as a function that runs once and answers with its figures."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeAlias

from benchmarks import flows
from benchmarks.step_log import StepLog, percentile, transitions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from penstock.client.client import Client

Figures: TypeAlias = dict[str, float]
DIAMONDS = 200
FAN = 1_000
STARTS = 50


async def chain(client: Client, log: StepLog) -> Figures:
    """Forty steps, one after the other."""
    began = time.perf_counter()
    run = await client.start(flows.chain40.name)
    await run.wait(raise_on_failure=True)
    total = time.perf_counter() - began
    gaps = transitions(log.read())
    assert await run.result("s39") == 40
    return {
        "total_s": total,
        "transition_p50_ms": percentile(gaps, 0.5),
        "transition_p99_ms": percentile(gaps, 0.99),
    }


async def fan(client: Client, log: StepLog) -> Figures:
    """One step, a thousand that need it, one that needs them all."""
    began = time.perf_counter()
    run = await client.start(flows.fan1000.name, {"items": list(range(FAN))})
    await run.wait(raise_on_failure=True)
    total = time.perf_counter() - began
    assert await run.result("join") == FAN + sum(range(FAN))
    return {"total_s": total, "steps_per_s": (FAN + 2) / total}


async def diamonds(client: Client, log: StepLog) -> Figures:
    """Two hundred runs of five steps at once."""
    began = time.perf_counter()
    runs = await client.start_many(flows.diamond.name, [{}] * DIAMONDS)
    await asyncio.gather(*(run.wait(raise_on_failure=True) for run in runs))
    total = time.perf_counter() - began
    assert len(log.read()) == 5 * DIAMONDS
    return {"total_s": total, "runs_per_s": DIAMONDS / total, "steps_per_s": 5 * DIAMONDS / total}


async def start(client: Client, log: StepLog) -> Figures:
    """From the call to the step's first line, with nothing else to do."""
    latencies: list[float] = []
    answers: list[float] = []
    for _ in range(STARTS):
        log.clear()
        began = time.time()
        run = await client.start(flows.single.name)
        answers.append((time.time() - began) * 1000)
        await run.wait(raise_on_failure=True)
        latencies.append((log.read()[0].begin - began) * 1000)
    return {
        "start_p50_ms": percentile(latencies, 0.5),
        "start_p99_ms": percentile(latencies, 0.99),
        "answer_p50_ms": percentile(answers, 0.5),
    }


WORKLOADS: dict[str, Callable[[Client, StepLog], Awaitable[Figures]]] = {
    "chain40": chain,
    "fan1000": fan,
    "diamonds200": diamonds,
    "start": start,
}
PIPELINES = (flows.chain40, flows.fan1000, flows.diamond, flows.single)
