"""What several owners cost and spare: CPU per step of each, and how many starts are placed elsewhere.

    python -m benchmarks.owners [--repeat 3] [--results FILE]

A cluster of one, of two and of three coordinators that all own runs, each with an agent and a PostgreSQL of its own,
in turns. Chains and runs of five steps are started by calls of their own, some at a time. Medians.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
from tests.seaweed import ACCESS_KEY, SECRET_KEY, SeaweedServer, running_seaweed

from benchmarks import flows
from benchmarks.penstock_cluster import Site, new_contestant, running_cluster
from benchmarks.process_use import ProcessUse
from benchmarks.report import Report, play
from benchmarks.workloads import CHAIN
from penstock.v1 import coordinator_service_pb2 as pb

MOST = 3
CHAINS, DIAMONDS = 40, 300
AT_ONCE = 16
DIAMOND = 5
MICROSECONDS = 1e6
JOINED_SECONDS = 60.0
POLL_SECONDS = 0.1
OWNERS = "select count(*) as runs, count(*) filter (where owner <> $2) as elsewhere from runs where create_time >= $1"


class Owners:
    """Of one cluster."""

    def __init__(self, site: Site, by_address: dict[str, pb.Coordinator]) -> None:
        self.site = site
        addresses = site.cluster.address.split(",")
        pids = [pid for name, pid in sorted(site.cluster.pids.items()) if name.startswith("coordinator")]
        # Addresses are given in the order of the processes.
        uses = dict(zip(addresses, map(ProcessUse, pids), strict=True))
        self.head = next(each for each in by_address.values() if each.role == pb.COORDINATOR_ROLE_OWNER)
        self.head_use = uses.pop(self.head.address)
        self.members = list(uses.values())

    async def once(self, pipeline: str, runs: int, steps: int) -> dict[str, float]:
        """Microseconds of CPU per step, of which each process has its part; of starts the share."""
        before = self.head_use.cpu_seconds, [each.cpu_seconds for each in self.members]
        began = time.time()
        gate = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with gate:
                run = await self.site.client.start(pipeline)
                await run.wait(raise_on_failure=True)

        await asyncio.gather(*(one() for _ in range(runs)))
        seconds = time.time() - began
        members = [each.cpu_seconds - was for each, was in zip(self.members, before[1], strict=True)]
        head = self.head_use.cpu_seconds - before[0]
        return {
            "steps_per_s": runs * steps / seconds,
            "head_us": head / (runs * steps) * MICROSECONDS,
            "members_us": sum(members) / (runs * steps) * MICROSECONDS,
            "placed_elsewhere": await self._elsewhere(began),
        }

    async def _elsewhere(self, since: float) -> float:
        connection = await asyncpg.connect(self.site.cluster.database_url)
        try:
            found = await connection.fetchrow(OWNERS, int(since * MICROSECONDS), self.head.id)
        finally:
            await connection.close()
        assert found is not None
        return float(found["elsewhere"] / found["runs"])


@contextlib.asynccontextmanager
async def owning(count: int, store: SeaweedServer) -> AsyncIterator[Owners]:
    more = {
        "PENSTOCK_JOIN": "auto",
        "PENSTOCK_ARTIFACTS_URL": store.url(f"owners-{count}"),
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    async with running_cluster(more=more, coordinators=count) as site:
        await new_contestant(site)
        until = time.monotonic() + JOINED_SECONDS
        while True:
            seen = {each.address: each for each in await site.client.list_coordinators()}
            members = [each for each in seen.values() if each.role == pb.COORDINATOR_ROLE_MEMBER]
            if len(members) == count - 1:
                break
            assert time.monotonic() < until, f"{len(members)} of {count - 1} have joined"
            await asyncio.sleep(POLL_SECONDS)
        yield Owners(site, seen)


async def measure(repeat: int, report: Report) -> None:
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-owners-"))
        store = stack.enter_context(running_seaweed(Path(folder) / "s3"))
        clusters = {count: await stack.enter_async_context(owning(count, store)) for count in range(1, MOST + 1)}
        for workload, runs, steps in ((flows.chain40.name, CHAINS, CHAIN), (flows.diamond.name, DIAMONDS, DIAMOND)):
            found: dict[int, list[dict[str, float]]] = {count: [] for count in clusters}
            for _ in range(repeat + 1):
                for count, cluster in clusters.items():
                    found[count].append(await cluster.once(workload, runs, steps))
            for count, rounds in found.items():
                medians = {name: round(statistics.median(each[name] for each in rounds[1:]), 2) for name in rounds[0]}
                report.add({"workload": workload, "owners": count, "repeat": repeat, "median": medians})


if __name__ == "__main__":
    play(__doc__, measure)
