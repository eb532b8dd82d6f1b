"""What traces cost: CPU seconds per step without them, and with a tenth of the runs sampled, in turn on one machine.

    python -m benchmarks.tracing [--pairs 20] [--clusters 5] [--runs 200] [--share 0.1]

Two whole clusters stand side by side; each in its turn runs so many diamonds of five steps, while the other one has
nothing to do. Counted is the user and system time of the coordinator, the agent and its step processes, until the spans
of the turn have arrived at a receiver, for which both wait as long; that of the database is told beside it. A JSON line
per pair, one with the ratio of all and where the microseconds went.

Two clusters that are alike differ by some hundredths for as long as they live, which no number of pairs evens out:
after some pairs both are made anew, the other one first.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import psutil
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from benchmarks import flows
from benchmarks.penstock_cluster import LIVE, MOST_PER_CALL, WARM_UP_RUNS, PenstockSubject, Site, running_cluster

STEPS_OF_A_RUN = 5
PARTS = ("coordinator", "agent", "step processes", "database")
COUNTED = PARTS[:3]
WAIT_SECONDS = 6.0
"""After each turn: longer than an exporter pauses between two passes."""


class Receiver(TraceServiceServicer):
    """Counts."""

    def __init__(self) -> None:
        self.spans = 0

    def Export(self, request: otlp.ExportTraceServiceRequest, context: object) -> otlp.ExportTraceServiceResponse:
        for each in request.resource_spans:
            for scope in each.scope_spans:
                self.spans += len(scope.spans)
        return otlp.ExportTraceServiceResponse()


@contextlib.contextmanager
def receiving() -> Iterator[tuple[Receiver, str]]:
    """With its address."""
    receiver, server = Receiver(), grpc.server(futures.ThreadPoolExecutor(1))
    register: Callable[..., None] = add_TraceServiceServicer_to_server  # without types of its own
    register(receiver, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield receiver, f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a turn."""

    seconds: dict[str, float]
    """Of CPU per step, by part."""
    processes: int
    """Step processes that began in it."""

    @property
    def total(self) -> float:
        return sum(self.seconds[part] for part in COUNTED)


Pair: TypeAlias = tuple[Cost, Cost]
"""Without traces, and with them."""


@dataclass(frozen=True, slots=True)
class Turns:
    """One cluster, and what its turns have cost."""

    site: Site
    runs: int

    async def take(self) -> Cost:
        before = self._cpu_seconds()
        known = self._step_processes()
        await self._diamonds()
        after = self._cpu_seconds()
        steps = self.runs * STEPS_OF_A_RUN
        spent = {part: (after[part] - before[part]) / steps for part in after}
        return Cost(spent, len(self._step_processes() - known))

    async def _diamonds(self) -> None:
        """Nobody asks meanwhile whether they have ended: with some hundred runs that is dearer than the traces."""
        client = self.site.client
        for begin in range(0, self.runs, MOST_PER_CALL):
            runs = await client.start_many(flows.diamond.name, [{}] * min(MOST_PER_CALL, self.runs - begin))
        await runs[-1].wait(raise_on_failure=True)
        await asyncio.sleep(WAIT_SECONDS)
        assert not [run async for run in client.list_runs(pipeline=flows.diamond.name, states=LIVE, limit=1)]

    def _cpu_seconds(self) -> dict[str, float]:
        """By part, since it began. Of processes that have ended too: they are their parents' then."""
        pids = self.site.cluster.pids
        found = dict.fromkeys(PARTS, 0.0)
        for part, name in (("coordinator", "coordinator"), ("agent", "agent-1"), ("database", "postgres")):
            process = psutil.Process(pids[name])
            below = "step processes" if part == "agent" else part
            for place, each in ((part, process), *((below, child) for child in process.children(recursive=True))):
                times = each.cpu_times()
                found[place] += times.user + times.system
                found[below] += times.children_user + times.children_system
        return found

    def _step_processes(self) -> set[tuple[int, float]]:
        agent = psutil.Process(self.site.cluster.pids["agent-1"])
        return {(each.pid, each.create_time()) for each in agent.children(recursive=True)}


async def warm(site: Site, runs: int) -> Turns:
    await site.client.create_pipeline(flows.diamond)
    await site.client.create_pipeline(flows.single)
    subject = PenstockSubject(site.client)
    await subject.singles(WARM_UP_RUNS)
    await subject.diamonds(runs)
    return Turns(site, runs)


async def take_pairs(traced: dict[str, str], begun: int, pairs: int, runs: int, on_first: bool) -> list[Pair]:
    """Of two fresh clusters. `begun`: pairs before."""
    taken: list[Pair] = []
    settings: list[dict[str, str]] = [traced, {}] if on_first else [{}, traced]
    async with running_cluster(more=settings[0]) as one, running_cluster(more=settings[1]) as other:
        warmed = await warm(one, runs), await warm(other, runs)
        on, off = warmed if on_first else warmed[::-1]
        await asyncio.sleep(WAIT_SECONDS)
        for number in range(begun, begun + pairs):
            # Who comes first changes, as what the machine does besides may.
            if number % 2:
                second = await on.take()
                first = await off.take()
            else:
                first, second = await off.take(), await on.take()
            taken.append((first, second))
            off_us, on_us = first.total * 1e6, second.total * 1e6
            say(pair=number + 1, off_us=off_us, on_us=on_us, ratio=on_us / off_us)
    return taken


async def measure(pairs: int, clusters: int, runs: int, share: float) -> dict[str, Any]:
    taken: list[Pair] = []
    with receiving() as (receiver, address):
        traced = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": address,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": str(share),
        }
        for number in range(clusters):
            many = pairs * (number + 1) // clusters - len(taken)
            taken += await take_pairs(traced, len(taken), many, runs, number % 2 == 1)
    off_arm, on_arm = [first for first, _ in taken], [second for _, second in taken]
    ratios = [second.total / first.total for first, second in taken]
    return {
        "pairs": pairs,
        "clusters": clusters,
        "steps": pairs * runs * STEPS_OF_A_RUN,
        **told_of("off", off_arm),
        **told_of("on", on_arm),
        "ratio_median": statistics.median(ratios),
        "ratio_of_sums": sum(each.total for each in on_arm) / sum(each.total for each in off_arm),
        "ratio_with_database": sum(sum(each.seconds.values()) for each in on_arm)
        / sum(sum(each.seconds.values()) for each in off_arm),
        "spans": receiver.spans,
    }


def told_of(arm: str, costs: list[Cost]) -> dict[str, float]:
    """Means, in microseconds per step."""
    parts = {f"{arm}_{part}_us": statistics.mean(each.seconds[part] for each in costs) * 1e6 for part in PARTS}
    return {
        f"{arm}_us": statistics.mean(each.total for each in costs) * 1e6,
        **{name.replace(" ", "_"): value for name, value in parts.items()},
        f"{arm}_processes_begun": sum(each.processes for each in costs),
    }


def say(**figures: float) -> None:
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--clusters", type=int, default=5, help="how often both are made anew")
    parser.add_argument("--runs", type=int, default=200, help="of each turn")
    parser.add_argument("--share", type=float, default=0.1, help="of the runs that are sampled")
    given = parser.parse_args()
    figures = asyncio.run(measure(given.pairs, given.clusters, given.runs, given.share))
    say(**figures)
    if not figures["spans"] and given.share:
        sys.exit("no span has arrived: nothing was measured")


if __name__ == "__main__":
    main()
