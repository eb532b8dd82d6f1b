"""What it costs that there are several coordinators: CPU per step of the owner and of those that follow, and per call
that one of these passes on.

    python -m benchmarks.coordinators [--repeat 5] [--results FILE]

A cluster of one, of two and of three coordinators, each with an agent and a PostgreSQL of its own, in turns. Medians.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Awaitable, Callable

from benchmarks.penstock_cluster import PenstockSubject, Site, new_contestant, running_cluster
from benchmarks.process_use import ProcessUse
from benchmarks.report import Report, play
from benchmarks.workloads import CHAIN, FAN
from penstock.client.client import Client
from penstock.v1 import coordinator_service_pb2 as pb

MOST = 3
FANS, CHAINS = 4, 20
FAN_STEPS, CHAIN_STEPS = FANS * (FAN + 2), CHAINS * CHAIN
CALLS = 1_000
MICROSECONDS = 1e6


class Coordinators:
    """Of one cluster."""

    def __init__(self, site: Site, by_id: dict[str, pb.Coordinator]) -> None:
        self.site = site
        pids = [pid for name, pid in sorted(site.cluster.pids.items()) if name.startswith("coordinator")]
        # Addresses are given in the order of the processes.
        addresses = site.cluster.address.split(",")
        owner = next(each.address for each in by_id.values() if each.role == pb.COORDINATOR_ROLE_OWNER)
        uses = dict(zip(addresses, map(ProcessUse, pids), strict=True))
        self.owner_address = owner
        self.owner = uses.pop(owner)
        self.following = uses
        """By address."""

    async def cpu_of(self, work: Callable[[], Awaitable[None]]) -> tuple[float, float]:
        """Seconds of the owner, and of all others together, that the work took."""
        others = list(self.following.values())
        before = self.owner.cpu_seconds, sum(each.cpu_seconds for each in others)
        await work()
        return self.owner.cpu_seconds - before[0], sum(each.cpu_seconds for each in others) - before[1]


async def gets(address: str, run_id: str) -> None:
    """CALLS calls, one after the other."""
    async with Client(address) as client:
        for _ in range(CALLS):
            await client.get_run(run_id)


async def once(cluster: Coordinators, run_id: str) -> dict[str, float]:
    """Microseconds of CPU."""
    subject = PenstockSubject(cluster.site.client)

    async def fans() -> None:
        for _ in range(FANS):
            await subject.fan()

    async def chains() -> None:
        for _ in range(CHAINS):
            await subject.chain()

    fan, fan_others = await cluster.cpu_of(fans)
    chain, chain_others = await cluster.cpu_of(chains)
    direct, _ = await cluster.cpu_of(lambda: gets(cluster.owner_address, run_id))
    found = {
        "fan_owner_us": fan / FAN_STEPS,
        "fan_followers_us": fan_others / FAN_STEPS,
        "chain_owner_us": chain / CHAIN_STEPS,
        "chain_followers_us": chain_others / CHAIN_STEPS,
        "call_us": direct / CALLS,
    }
    if cluster.following:
        behind = next(iter(cluster.following))
        at_owner, passing = await cluster.cpu_of(lambda: gets(behind, run_id))
        found |= {"call_passed_on_owner_us": at_owner / CALLS, "call_passed_on_follower_us": passing / CALLS}
    return {name: value * MICROSECONDS for name, value in found.items()}


async def measure(repeat: int, report: Report) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clusters: dict[int, tuple[Coordinators, str]] = {}
        for count in range(1, MOST + 1):
            site = await stack.enter_async_context(running_cluster(coordinators=count))
            await new_contestant(site)
            run = await site.client.start("single")
            await run.wait(raise_on_failure=True)
            clusters[count] = (
                Coordinators(site, {each.id: each for each in await site.client.list_coordinators()}),
                run.id,
            )
        found: dict[int, list[dict[str, float]]] = {count: [] for count in clusters}
        for _ in range(repeat + 1):
            for count, (cluster, run_id) in clusters.items():
                found[count].append(await once(cluster, run_id))
    for count, rounds in found.items():
        counted = rounds[1:]
        medians = {name: round(statistics.median(each[name] for each in counted), 1) for name in counted[0]}
        report.add({"workload": "coordinators", "coordinators": count, "repeat": repeat, "median": medians})


if __name__ == "__main__":
    play(__doc__, measure)
