"""Healthy calls with and without an attack, and what the attack found."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from benchmarks import flows
from benchmarks.malformed.attack import SECRET_VARIABLE, WINDOW_SECONDS
from benchmarks.penstock_cluster import Site, running_cluster
from benchmarks.process_use import MEBIBYTE
from penstock.v1 import agent_admin_service_pb2 as admin

SLOTS = 2
HEALTHY_PER_SECOND = 50
WARM_UP_SECONDS = 10.0
START_SECONDS = 4.0
"""That the attacker has to start."""
SETTLE_SECONDS = 1.0
"""After an attack, before it is quiet again."""
MOST_GROWTH_MB = 64
UNFORESEEN = ("call_failed", "session_failed", "turn_failed", "Traceback")


@dataclass(frozen=True, slots=True)
class Trial:
    frames: int = 10_000
    connections: int = 2_000
    seconds: float = 60.0
    seed: int = 1
    most_times: float = 2.0
    """How many times as long a healthy call's p99 may be."""
    spare_ms: float = 0.0
    """So much longer it may be in any case: for machines where the baseline is nearly nothing."""


def broken_promises(trial: Trial, figures: dict[str, Any]) -> list[str]:
    longest = max(trial.most_times * figures["p99_without_ms"], figures["p99_without_ms"] + trial.spare_ms)
    checks = {
        f"{figures['frames']} frames, not {trial.frames}": figures["frames"] != trial.frames,
        f"{figures['connections']} connections, not {trial.connections}": figures["connections"] != trial.connections,
        "the coordinator was started again": figures["restarts"],
        "an agent is not connected any more": not figures["agents_connected"],
        f"wrong codes: {figures['wrong'][:3]}": figures["wrong"],
        f"leaks: {figures['leaks'][:3]}": figures["leaks"],
        f"the coordinator's log: {figures['unforeseen'][:3]}": figures["unforeseen"],
        f"{figures['failed_calls']} healthy calls failed": figures["failed_calls"],
        f"p99 {figures['p99_with_ms']} ms instead of {figures['p99_without_ms']} ms": figures["p99_with_ms"] > longest,
        f"{figures['growth_mb']} MB more": figures["growth_mb"] > MOST_GROWTH_MB,
    }
    return [promise for promise, is_broken in checks.items() if is_broken]


async def run_trial(trial: Trial) -> dict[str, Any]:
    """On a cluster of its own."""
    async with running_cluster(SLOTS, {"PENSTOCK_LOG_LEVEL": "warning"}) as site:
        await site.client.create_pipeline(flows.single)
        run = await site.client.start(flows.single.name)
        await run.wait(raise_on_failure=True)
        await _Healthy(site, run.id, time.monotonic()).calls(WARM_UP_SECONDS)
        pid, coordinator = site.cluster.pids["coordinator"], site.coordinator()
        memory = coordinator.memory
        healthy = _Healthy(site, run.id, time.monotonic() + START_SECONDS)
        attacking = asyncio.create_task(_attack(site, trial, healthy.begin))
        await healthy.calls(2 * trial.seconds)
        findings = await attacking
        growth = coordinator.memory - memory
        # All of it still works.
        await (await site.client.start(flows.single.name)).wait(raise_on_failure=True)
        states = [agent.state async for agent in site.client.list_agents() if agent.id == "agent-1"]
        return {
            "frames": findings["frames"],
            "connections": findings["connections"],
            "codes": findings["codes"],
            "wrong": findings["wrong"],
            "leaks": findings["leaks"],
            "failed_connections": findings["failed_connections"],
            "restarts": int(site.cluster.pids["coordinator"] != pid),
            "agents_connected": states == [admin.AGENT_STATE_CONNECTED],
            "unforeseen": _unforeseen(site),
            "healthy_calls": len(healthy.attacked),
            "failed_calls": healthy.failed,
            "p50_without_ms": _percentile(healthy.quiet, 0.5),
            "p50_with_ms": _percentile(healthy.attacked, 0.5),
            "p99_without_ms": _percentile(healthy.quiet, 0.99),
            "p99_with_ms": _percentile(healthy.attacked, 0.99),
            "growth_mb": round(growth / MEBIBYTE, 1),
        }


class _Healthy:
    """Looks and starts in turn, at a fixed rate. Windows with and without an attack follow each other, so that whatever
    else the machine does weighs on both."""

    def __init__(self, site: Site, run_id: str, begin: float) -> None:
        self.begin = begin
        self.quiet: list[float] = []
        """Seconds that each call took since it was due."""
        self.attacked: list[float] = []
        self.failed = 0
        self._site = site
        self._run_id = run_id

    async def calls(self, seconds: float) -> None:
        under_way: set[asyncio.Task[None]] = set()
        for number in range(int(seconds * HEALTHY_PER_SECOND)):
            due = self.begin + number / HEALTHY_PER_SECOND
            await asyncio.sleep(max(due - time.monotonic(), 0))
            call = asyncio.create_task(self._call(due, number % 2 == 1))
            under_way.add(call)
            call.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)

    async def _call(self, due: float, starts: bool) -> None:
        client = self._site.client
        try:
            await (client.start(flows.single.name) if starts else client.get_run(self._run_id))
        except Exception:  # of whatever kind: it is counted
            self.failed += 1
        took = time.monotonic() - due
        windows, inside = divmod(due - self.begin, WINDOW_SECONDS)
        if windows % 2 == 0:
            self.attacked.append(took)
        elif inside >= SETTLE_SECONDS:
            self.quiet.append(took)


async def _attack(site: Site, trial: Trial, begin: float) -> dict[str, Any]:
    cluster = site.cluster
    arguments = (trial.frames, trial.connections, trial.seconds, begin, trial.seed)
    secret = urlsplit(cluster.database_url).password or ""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.malformed.attack", cluster.address, cluster.http_address),
        *map(str, arguments),
        env={**os.environ, SECRET_VARIABLE: secret, "GRPC_VERBOSITY": "NONE"},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the attacker ended with {process.returncode} after {time.monotonic():.0f} s")
    found: dict[str, Any] = json.loads(said)
    return found


def _unforeseen(site: Site) -> list[str]:
    lines = site.cluster.logs["coordinator"].path.read_text(errors="replace").splitlines()
    return [line[:300] for line in lines if any(word in line for word in UNFORESEEN)][:20]


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values) or [0.0]
    return round(1_000 * ordered[min(int(len(ordered) * share), len(ordered) - 1)], 2)
