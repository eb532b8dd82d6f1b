"""What it costs that much is there and nothing happens, and how soon it goes on after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time

import grpc.aio

from benchmarks import flows
from benchmarks.contestants import child_contestant
from benchmarks.penstock_cluster import MOST_PER_CALL, Site
from benchmarks.process_use import MEBIBYTE
from benchmarks.sessions import open_when_possible
from benchmarks.workloads import Figures
from penstock.authoring.pipelines import Pipeline
from penstock.v1 import agent_admin_service_pb2 as admin

SESSIONS = 1_000
LOAD_PROCESSES = 4
RUNS = 10_000
IDLE_SECONDS = 30.0
WAITING_SECONDS = 60.0
SETTLE_SECONDS = 5.0
PATIENCE_SECONDS = 120.0
POLL_SECONDS = 0.05


async def idle_sessions(site: Site) -> Figures:
    """Agents that hold nothing and send heartbeats."""
    coordinator = site.coordinator()
    before = coordinator.memory
    each = SESSIONS // LOAD_PROCESSES
    async with contextlib.AsyncExitStack() as stack:
        for first in range(0, SESSIONS, each):
            command = [sys.executable, "-m", "benchmarks.idle_agents", site.cluster.address, str(first), str(each)]
            await stack.enter_async_context(child_contestant(f"idle agents {first}", command, {}))
        await asyncio.sleep(SETTLE_SECONDS)
        percent = await coordinator.cpu_percent(IDLE_SECONDS)
        connected = [agent async for agent in site.client.list_agents() if agent.state == admin.AGENT_STATE_CONNECTED]
        assert len(connected) == SESSIONS + 1, f"{len(connected)} agents are connected"
        growth = coordinator.memory - before
    return {"sessions": SESSIONS, "cpu_percent": percent, "growth_kb_per_session": growth / SESSIONS / 1024}


async def waiting_runs(site: Site) -> Figures:
    """Runs whose step waits for an agent that never comes."""
    coordinator = site.coordinator()
    before = coordinator.memory
    took = await _start_many(site, flows.unserved_single)
    await asyncio.sleep(SETTLE_SECONDS)
    percent = await coordinator.cpu_percent(WAITING_SECONDS)
    return {
        "runs": RUNS,
        "starts_per_s": RUNS / took,
        "cpu_percent": percent,
        "memory_mb": coordinator.memory / MEBIBYTE,
        "growth_mb": (coordinator.memory - before) / MEBIBYTE,
    }


async def recovery(site: Site) -> Figures:
    """The coordinator is killed when the first of two steps of every run is done; an agent comes for the second."""
    await _start_many(site, flows.half_served)
    await _until_ran(site, RUNS)
    await asyncio.sleep(SETTLE_SECONDS)
    site.cluster.kill("coordinator")
    connected, granted = await _first_lease(site.cluster.address)
    coordinator = site.coordinator()
    return {
        "runs": RUNS,
        "session_s": connected - coordinator.began_at,
        "first_lease_s": granted - coordinator.began_at,
        "cpu_s": coordinator.cpu_seconds,
        "memory_mb": coordinator.memory / MEBIBYTE,
    }


async def _first_lease(address: str) -> tuple[float, float]:
    """When a session was there, and when it was granted a lease; seconds since 1970. A coordinator that was just
    started again may end a session that comes before it owns its runs."""
    while True:
        session = await open_when_possible(address, "waiting", flows.UNSERVED)
        connected = time.time()
        try:
            await session.granted()
        except (grpc.aio.AioRpcError, ConnectionError):
            continue
        else:
            return connected, time.time()
        finally:
            await session.close()


async def _start_many(site: Site, pipeline: Pipeline) -> float:
    """RUNS of them; the seconds that it took."""
    await site.client.create_pipeline(pipeline)
    began = time.perf_counter()
    for _ in range(0, RUNS, MOST_PER_CALL):
        await site.client.start_many(pipeline.name, [{}] * MOST_PER_CALL)
    return time.perf_counter() - began


async def _until_ran(site: Site, steps: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(site.log.read()) < steps:  # noqa: ASYNC110  # nothing tells of lines in a file
            await asyncio.sleep(POLL_SECONDS)
