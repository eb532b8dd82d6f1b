"""What a step costs whose agent cannot reach the owner, and comes by a coordinator that follows: CPU and latency.

    python -m benchmarks.relayed [--repeat 5] [--results FILE]

As root: the agent is on a machine of its own (a network namespace), from which the owner is cut off and not, in
turns. Two coordinators on a PostgreSQL of their own. Medians.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from tests.rig.far import Far, Near
from tests.rig.parts import Agent, Coordinator

from benchmarks.penstock_cluster import CHECKOUT, PIPELINES, POLL_SECONDS, SLOTS, PenstockSubject
from benchmarks.process_use import ProcessUse
from benchmarks.report import Report, play
from benchmarks.step_body import LOG_VARIABLE
from benchmarks.step_log import StepLog
from benchmarks.workloads import CHAIN, CHAINS, FAN, chain
from penstock.client.client import Client
from penstock.dev.postgres import EmbeddedPostgres

FANS = 4
WARM_UP_RUNS = 200
PATIENCE = 120.0
MICROSECONDS = 1e6
SETTINGS = {
    "PENSTOCK_LOG_LEVEL": "warning",
    "PENSTOCK_OWNERSHIP_LEASE": "60s",
    "PENSTOCK_HEARTBEAT_INTERVAL": "1s",
}


class Site:
    """The first coordinator owns."""

    def __init__(self, folder: Path, database_url: str, near: Near, machine: Far) -> None:
        self.log = StepLog(folder / "steps.log")
        self.machine = machine
        self.coordinators = []
        for number, address in enumerate(near.addresses, 1):
            made = Coordinator(folder, database_url, SETTINGS, name=f"c{number}", reached_at=address)
            self.coordinators.append(made)
        self.address = ",".join(each.address for each in self.coordinators)
        path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
        environment = {LOG_VARIABLE: str(self.log.path), "PYTHONPATH": path}
        self.agent = Agent("agent-1", folder, self.address, SLOTS, environment=environment, prefix=machine.prefix)

    @property
    def owner(self) -> str:
        return self.coordinators[0].reached_at

    def cpu_seconds(self) -> list[float]:
        """Of the owner and of the one that follows, since they began."""
        return [ProcessUse(each.pid).cpu_seconds for each in self.coordinators]


@contextlib.asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[Site, Client]]:
    with contextlib.ExitStack() as stack:
        server = EmbeddedPostgres(folder / "postgres")
        server.start()
        stack.callback(server.stop)
        near = stack.enter_context(Near(2))
        site = Site(folder, server.dsn, near, stack.enter_context(Far(near, 0)))
        for part in (*site.coordinators, site.agent):
            part.start()
            stack.callback(part.stop)
            if isinstance(part, Coordinator):
                part.wait_ready()
        async with Client(site.address) as client:
            yield site, client


async def comes_by(client: Client, relay: bool) -> None:
    """Returns when the agent is connected, by another coordinator or directly."""
    async with asyncio.timeout(PATIENCE):
        while [bool(each.via) async for each in client.list_agents() if each.state == 1] != [relay]:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(POLL_SECONDS)


async def once(site: Site, subject: PenstockSubject) -> dict[str, float]:
    before = site.cpu_seconds()
    figures = await chain(subject, site.log)
    between = site.cpu_seconds()
    for _ in range(FANS):
        await subject.fan()
    after = site.cpu_seconds()
    found = {"transition_p50_ms": figures["transition_p50_ms"], "transition_p99_ms": figures["transition_p99_ms"]}
    for number, name in enumerate(("owner", "follower")):
        found[f"chain_{name}_us"] = (between[number] - before[number]) / (CHAINS * CHAIN) * MICROSECONDS
        found[f"fan_{name}_us"] = (after[number] - between[number]) / (FANS * (FAN + 2)) * MICROSECONDS
    return found


async def measure(repeat: int, report: Report) -> None:
    found: dict[str, list[dict[str, float]]] = {"direct": [], "relayed": []}
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        async with running(Path(name)) as (site, client):
            await comes_by(client, False)
            for pipeline in PIPELINES:
                await client.create_pipeline(pipeline)
            subject = PenstockSubject(client)
            await subject.singles(WARM_UP_RUNS)
            for _ in range(repeat + 1):
                await comes_by(client, False)
                found["direct"].append(await once(site, subject))
                with site.machine.cut_off(site.owner):
                    await comes_by(client, True)
                    found["relayed"].append(await once(site, subject))
    for way, rounds in found.items():
        counted = rounds[1:]
        medians = {key: round(statistics.median(each[key] for each in counted), 2) for key in counted[0]}
        report.add({"workload": "relayed", "way": way, "repeat": repeat, "median": medians})


if __name__ == "__main__":
    play(__doc__, measure)
