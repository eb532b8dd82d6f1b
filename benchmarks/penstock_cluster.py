"""Penstock as a system under measurement: a cluster of this machine, and its client."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import flows
from benchmarks.process_use import ProcessUse
from benchmarks.step_body import LOG_VARIABLE
from benchmarks.step_log import StepLog
from benchmarks.workloads import FAN, Figures, measure
from penstock.client.client import Client
from penstock.dev.cluster import DevCluster
from penstock.v1 import run_pb2

SLOTS = 2
"""Step processes: as many as the bare loop has, and as the machine that the figures are quoted for has cores."""
CHECKOUT = Path(__file__).parents[1]
"""The bundle of the flows is this folder alone; what they share with other systems, steps import from here."""
MOST_PER_CALL = 1_000
POLL_SECONDS = 0.005
LIVE = (run_pb2.RUN_STATE_PENDING, run_pb2.RUN_STATE_RUNNING)
PIPELINES = (flows.chain40, flows.fan1000, flows.diamond, flows.single)
WARM_UP_RUNS = 500


class PenstockSubject:
    """A `Subject`, through the client over gRPC."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def chain(self) -> None:
        run = await self._client.start(flows.chain40.name)
        await run.wait(raise_on_failure=True)
        assert await run.result("s39") == 40

    async def fan(self) -> None:
        run = await self._client.start(flows.fan1000.name, {"items": list(range(FAN))})
        await run.wait(raise_on_failure=True)
        assert await run.result("join") == FAN + sum(range(FAN))

    async def diamonds(self, count: int) -> None:
        await self._start_many(flows.diamond.name, count)

    async def singles(self, count: int) -> None:
        await self._start_many(flows.single.name, count)

    async def single(self) -> None:
        run = await self._client.start(flows.single.name)
        await run.wait(raise_on_failure=True)

    async def _start_many(self, pipeline: str, count: int) -> None:
        """Until none of the pipeline's runs is live."""
        for begin in range(0, count, MOST_PER_CALL):
            runs = await self._client.start_many(pipeline, [{}] * min(MOST_PER_CALL, count - begin))
        await runs[-1].wait(raise_on_failure=True)
        while await self._any_live(pipeline):  # noqa: ASYNC110  # nothing tells of many runs at once
            await asyncio.sleep(POLL_SECONDS)

    async def _any_live(self, pipeline: str) -> bool:
        return [run async for run in self._client.list_runs(pipeline=pipeline, states=LIVE, limit=1)] != []


class PenstockContestant:
    def __init__(self, subject: PenstockSubject, log: StepLog) -> None:
        self._subject = subject
        self._log = log

    async def measure(self, workload: str) -> Figures:
        return await measure(workload, self._subject, self._log)


@dataclass(frozen=True, slots=True)
class Site:
    """A cluster of this machine, a client of it, and the log that its steps write."""

    cluster: DevCluster
    client: Client
    log: StepLog

    def coordinator(self) -> ProcessUse:
        return ProcessUse(self.cluster.pids["coordinator"])


@contextlib.asynccontextmanager
async def running_cluster(
    slots: int = SLOTS, more: dict[str, str] | None = None, coordinators: int = 1
) -> AsyncIterator[Site]:
    """In a temporary folder, which is removed in the end; with `more` settings in its environment."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        folder = Path(name)
        log = StepLog(folder / "steps.log")
        environment = {
            LOG_VARIABLE: str(log.path),
            "PENSTOCK_LOG_LEVEL": "warning",
            **(more or {}),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")])),
        }
        cluster = DevCluster(folder / "data", agents=1, slots=slots, environment=environment, coordinators=coordinators)
        async with cluster, Client(cluster.address) as client:
            yield Site(cluster, client, log)


async def new_contestant(site: Site) -> PenstockContestant:
    """With warm step processes, on a database that has seen every table."""
    for pipeline in PIPELINES:
        await site.client.create_pipeline(pipeline)
    subject = PenstockSubject(site.client)
    await subject.singles(WARM_UP_RUNS)
    await subject.fan()
    return PenstockContestant(subject, site.log)
