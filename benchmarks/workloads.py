"""What is measured, each as a function that has a system do it once and answers with its figures.

The same functions measure all systems. Every step computes fibo(10) and writes a line into the log of steps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from benchmarks.step_log import StepLog, percentile, transitions

Figures: TypeAlias = dict[str, float]
CHAIN = 40
CHAINS = 5
FAN = 1_000
DIAMONDS = 200
SINGLES = 10_000
STARTS = 50
PAUSE_SECONDS = 0.05


class Subject(Protocol):
    """A system under measurement. Each method returns when its runs are at rest, and raises if a result is wrong."""

    async def chain(self) -> None:
        """One run of CHAIN steps, one after the other. Step i has the position i."""

    async def fan(self) -> None:
        """One run: a step, FAN steps that need its result, and one that needs theirs."""

    async def diamonds(self, count: int) -> None:
        """Runs of five steps, all at once: one, three that need it, one that needs these."""

    async def singles(self, count: int) -> None:
        """Runs of one step, all at once."""

    async def single(self) -> None:
        """One run of one step."""


async def chain(subject: Subject, log: StepLog) -> Figures:
    """Of a few chains, for one alone is over before the machine has shown what it does."""
    total = 0.0
    gaps: list[float] = []
    for _ in range(CHAINS):
        log.clear()
        total += await _timed(subject.chain())
        _expect(log, CHAIN)
        gaps += transitions(log.read())
    return {
        "total_s": total / CHAINS,
        "transition_p50_ms": percentile(gaps, 0.5),
        "transition_p99_ms": percentile(gaps, 0.99),
    }


async def fan(subject: Subject, log: StepLog) -> Figures:
    total = await _timed(subject.fan())
    _expect(log, FAN + 2)
    return {"total_s": total, "steps_per_s": (FAN + 2) / total}


async def diamonds(subject: Subject, log: StepLog) -> Figures:
    total = await _timed(subject.diamonds(DIAMONDS))
    _expect(log, 5 * DIAMONDS)
    return {"total_s": total, "runs_per_s": DIAMONDS / total, "steps_per_s": 5 * DIAMONDS / total}


async def start(subject: Subject, log: StepLog) -> Figures:
    """From the call to the step's first line, with nothing else to do."""
    calls: list[float] = []
    for _ in range(STARTS):
        calls.append(time.time())
        await subject.single()
        await asyncio.sleep(PAUSE_SECONDS)
    _expect(log, STARTS)
    latencies = [(entry.begin - call) * 1000 for entry, call in zip(log.read(), calls, strict=True)]
    return {"start_p50_ms": percentile(latencies, 0.5), "start_p99_ms": percentile(latencies, 0.99)}


async def singles(subject: Subject, log: StepLog) -> Figures:
    total = await _timed(subject.singles(SINGLES))
    _expect(log, SINGLES)
    return {"total_s": total, "steps_per_s": SINGLES / total}


async def _timed(doing: Awaitable[None]) -> float:
    began = time.perf_counter()
    await doing
    return time.perf_counter() - began


def _expect(log: StepLog, steps: int) -> None:
    ran = len(log.read())
    assert ran == steps, f"{ran} steps ran, not {steps}"


WORKLOADS: dict[str, Callable[[Subject, StepLog], Awaitable[Figures]]] = {
    "chain40": chain,
    "fan1000": fan,
    "diamonds200": diamonds,
    "start": start,
    "singles10000": singles,
}


async def measure(workload: str, subject: Subject, log: StepLog) -> Figures:
    log.clear()
    return await WORKLOADS[workload](subject, log)
