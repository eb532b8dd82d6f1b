"""Healthy calls before an attack and while it goes on, and what the attack found."""

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
from benchmarks.malformed.attack import SECRET_VARIABLE
from benchmarks.penstock_cluster import Site, running_cluster
from benchmarks.process_use import MEBIBYTE
from penstock.v1 import agent_admin_service_pb2 as admin

SLOTS = 2
HEALTHY_PER_SECOND = 50
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
        await _healthy_calls(site, run.id, min(trial.seconds, 10.0))  # warms up
        pid, coordinator = site.cluster.pids["coordinator"], site.coordinator()
        quiet, failed_before = await _healthy_calls(site, run.id, trial.seconds)
        memory = coordinator.memory
        attacking = asyncio.create_task(_attack(site, trial))
        loaded, failed = await _healthy_calls(site, run.id, trial.seconds, attacking)
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
            "healthy_calls": len(loaded),
            "failed_calls": failed + failed_before,
            "p50_without_ms": _percentile(quiet, 0.5),
            "p50_with_ms": _percentile(loaded, 0.5),
            "p99_without_ms": _percentile(quiet, 0.99),
            "p99_with_ms": _percentile(loaded, 0.99),
            "growth_mb": round(growth / MEBIBYTE, 1),
        }


async def _healthy_calls(
    site: Site, run_id: str, seconds: float, until: asyncio.Task[Any] | None = None
) -> tuple[list[float], int]:
    """Looks and starts in turn, at a fixed rate; the seconds that each took since it was due, and how many failed."""
    loop = asyncio.get_running_loop()
    took: list[float] = []
    failed = number = 0
    calls: set[asyncio.Task[None]] = set()

    async def one(due: float, starts: bool) -> None:
        nonlocal failed
        try:
            await (site.client.start(flows.single.name) if starts else site.client.get_run(run_id))
            took.append(loop.time() - due)
        except Exception:  # of whatever kind: it is counted
            failed += 1

    began = loop.time()
    while (number / HEALTHY_PER_SECOND < seconds) if until is None else not until.done():
        due = began + number / HEALTHY_PER_SECOND
        await asyncio.sleep(max(due - loop.time(), 0))
        call = loop.create_task(one(due, number % 2 == 1))
        calls.add(call)
        call.add_done_callback(calls.discard)
        number += 1
    await asyncio.gather(*calls)
    return took, failed


async def _attack(site: Site, trial: Trial) -> dict[str, Any]:
    cluster = site.cluster
    arguments = (trial.frames, trial.connections, trial.seconds, trial.seed)
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
