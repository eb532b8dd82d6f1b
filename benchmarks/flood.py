"""Ten times as many starts as the agents can do, and what becomes of the coordinator and of the runs.

The load is open: starts are sent when they are due, whatever became of those before, and nobody tries again.
`make flood` is the full form; what it promises is checked at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from benchmarks import flows
from benchmarks.penstock_cluster import Site, running_cluster
from benchmarks.process_use import MEBIBYTE
from penstock.client.channel import OPTIONS
from penstock.client.status import retry_after
from penstock.v1 import run_pb2
from penstock.v1 import run_service_pb2 as pb
from penstock.v1.run_service_pb2_grpc import RunServiceStub

SLOTS = 4
MOST_MEMORY_MB = 512
CALL_SECONDS = 30.0
DRAIN_SECONDS = 300.0
CHANNELS = 4
WAITED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Flood:
    per_second: int = 400
    seconds: float = 60.0
    backlog: int = 2_000
    most_p99_ms: float = 1_000
    """Of accepted starts."""


@dataclass
class Outcome:
    accepted: list[tuple[str, float]] = field(default_factory=list)
    """Run ids, and the seconds since each start was due."""
    refused: list[tuple[float | None, float]] = field(default_factory=list)
    """The delays that were told, and the seconds that it took."""
    others: Counter[str] = field(default_factory=Counter)
    completed: int = 0
    offered_seconds: float = 0.0
    late: list[float] = field(default_factory=list)
    """Seconds that starts were sent after they were due: of a machine with too little time for the load itself."""
    cpu_seconds: float = 0.0
    """Of the coordinator, while the load was offered."""
    drained_seconds: float = 0.0
    peak_memory: int = 0

    def figures(self) -> dict[str, Any]:
        answered, turned_away = [took for _, took in self.accepted], [took for _, took in self.refused]
        delays = [delay for delay, _ in self.refused if delay is not None]
        return {
            "offered": len(self.accepted) + len(self.refused) + sum(self.others.values()),
            "offered_s": round(self.offered_seconds, 1),
            "accepted": len(self.accepted),
            "completed": self.completed,
            "refused": len(self.refused),
            "refused_without_delay": len(self.refused) - len(delays),
            "others": dict(self.others),
            "accepted_p50_ms": _milliseconds(answered, 0.5),
            "accepted_p99_ms": _milliseconds(answered, 0.99),
            "refused_p99_ms": _milliseconds(turned_away, 0.99),
            "sent_late_p99_ms": _milliseconds(self.late, 0.99),
            "coordinator_cpu_percent": round(100 * self.cpu_seconds / max(self.offered_seconds, 1e-9), 1),
            "delay_p50_s": _share(delays, 0.5),
            "delay_most_s": _share(delays, 1.0),
            "peak_memory_mb": round(self.peak_memory / MEBIBYTE, 1),
            "drained_s": round(self.drained_seconds, 1),
        }


def broken_promises(flood: Flood, figures: dict[str, Any]) -> list[str]:
    """What the flood is to show and does not."""
    due = flood.per_second * flood.seconds
    checks = {
        f"the load was not offered: {figures['offered_s']} s": figures["offered_s"] > 1.1 * flood.seconds + 1,
        f"{figures['offered']} starts, not {due:g}": figures["offered"] < 0.99 * due,
        "nothing was refused: it was no flood": not figures["refused"],
        f"{figures['accepted'] - figures['completed']} accepted runs are not COMPLETED": (
            figures["accepted"] != figures["completed"]
        ),
        f"{figures['refused_without_delay']} refusals without a delay": figures["refused_without_delay"],
        f"other answers: {figures['others']}": figures["others"],
        f"p99 of accepted starts: {figures['accepted_p99_ms']} ms": figures["accepted_p99_ms"] >= flood.most_p99_ms,
        f"{figures['peak_memory_mb']} MB": figures["peak_memory_mb"] >= MOST_MEMORY_MB,
    }
    return [promise for promise, is_broken in checks.items() if is_broken]


async def run_flood(flood: Flood) -> dict[str, Any]:
    """On a cluster of its own."""
    environment = {"PENSTOCK_MAX_BACKLOG": str(flood.backlog)}
    async with running_cluster(SLOTS, environment) as site:
        await site.client.create_pipeline(flows.brief)
        await (await site.client.start(flows.brief.name)).wait(raise_on_failure=True)
        outcome = Outcome()
        coordinator = site.coordinator()
        async with coordinator.watched():
            before = coordinator.cpu_seconds
            await _offer(site, flood, outcome)
            outcome.cpu_seconds = coordinator.cpu_seconds - before
            began = time.perf_counter()
            await _drain(site, outcome)
            outcome.drained_seconds = time.perf_counter() - began
        outcome.peak_memory = coordinator.peak_memory
        said = site.cluster.logs["coordinator"].path.read_text(errors="replace").splitlines()
    return {**outcome.figures(), "coordinator_said": [line[:300] for line in said[-10:]]}


async def _offer(site: Site, flood: Flood, outcome: Outcome) -> None:
    channels = [
        grpc.aio.insecure_channel(site.cluster.address, options=(*OPTIONS, ("grpc.use_local_subchannel_pool", 1)))
        for _ in range(CHANNELS)
    ]
    stubs = [RunServiceStub(channel) for channel in channels]
    loop = asyncio.get_running_loop()
    calls: set[asyncio.Task[None]] = set()
    began = loop.time()
    for number in range(int(flood.per_second * flood.seconds)):
        due = began + number / flood.per_second
        if (early := due - loop.time()) > 0:
            await asyncio.sleep(early)
        call = loop.create_task(_start(stubs[number % CHANNELS], f"flood-{number}", due, outcome))
        calls.add(call)
        call.add_done_callback(calls.discard)
    outcome.offered_seconds = loop.time() - began
    if calls:
        await asyncio.wait(set(calls))
    for channel in channels:
        await channel.close()


async def _start(stub: RunServiceStub, request_id: str, due: float, outcome: Outcome) -> None:
    loop = asyncio.get_running_loop()
    outcome.late.append(loop.time() - due)
    request = pb.StartRunRequest(pipeline=flows.brief.name, request_id=request_id)
    try:
        answer = await stub.Start(request, timeout=CALL_SECONDS)
        outcome.accepted.append((answer.run.id, loop.time() - due))
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            outcome.refused.append((retry_after(error), loop.time() - due))
        else:
            outcome.others[f"{error.code().name}: {(error.details() or '')[:100]}"] += 1


async def _drain(site: Site, outcome: Outcome) -> None:
    """Until every run that was accepted is at rest."""
    async with asyncio.timeout(DRAIN_SECONDS), grpc.aio.insecure_channel(site.cluster.address) as channel:
        stub = RunServiceStub(channel)
        run_ids = [run_id for run_id, _ in outcome.accepted]
        for begin in range(0, len(run_ids), WAITED_AT_ONCE):
            request = pb.WaitManyRunsRequest(run_ids=run_ids[begin : begin + WAITED_AT_ONCE])
            async for answer in stub.WaitMany(request):
                outcome.completed += sum(run.state == run_pb2.RUN_STATE_COMPLETED for run in answer.runs)


def _milliseconds(seconds: list[float], share: float) -> float:
    return round(1_000 * _share(seconds, share), 1)


def _share(values: list[float], share: float) -> float:
    ordered = sorted(values) or [0.0]
    return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)], 4)


def main() -> None:
    parser = argparse.ArgumentParser(description="Offer more starts than can be done.")
    parser.add_argument("--per-second", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--backlog", type=int, default=2_000)
    given = parser.parse_args()
    flood = Flood(given.per_second, given.seconds, given.backlog)
    figures = asyncio.run(run_flood(flood))
    sys.stdout.write(json.dumps({"workload": "flood", **figures}) + "\n")
    broken = broken_promises(flood, figures)
    if broken:
        sys.exit("; ".join(broken))


if __name__ == "__main__":
    main()
