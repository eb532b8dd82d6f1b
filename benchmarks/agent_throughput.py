"""Short steps per second through one agent: a scripted coordinator, the real agent process, two warm workers.

    python benchmarks/agent_throughput.py [--steps 20000] [--slots 2]

Prints a JSON line: steps per second in a flood, and the time of one step alone (grant to result), in ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.integration.agent.coordinator import Coordinator, running_coordinator, seconds

from penstock.agent.v1 import agent_service_pb2 as wire

STEPS = {"steps.py": "def add(a, b):\n    return a + b\n"}
MOST_PER_MESSAGE = 200


class Flood:
    """Grants as fast as the credits allow."""

    def __init__(self, coordinator: Coordinator, spec: wire.TaskSpec, steps: int) -> None:
        self._coordinator = coordinator
        self._spec = spec
        self._steps = steps

    async def run(self) -> float:
        coordinator = self._coordinator
        coordinator.results.clear()
        template = coordinator.new_grant(9_999, self._spec, inputs={"a": 1, "b": 2})
        coordinator.session.granted -= 1
        begun = time.perf_counter()
        left = self._steps
        while left:
            await coordinator.until(lambda: coordinator.session.grant_limit > coordinator.session.granted)
            session = coordinator.session
            room = min(session.grant_limit - session.granted, left, MOST_PER_MESSAGE)
            grants = [self._next(template, first=left == self._steps and not at) for at in range(room)]
            left -= room
            await coordinator.send_grants(grants)
        await coordinator.until(lambda: len(coordinator.results) >= self._steps, patience=300)
        return self._steps / (time.perf_counter() - begun)

    def _next(self, template: wire.LeaseGrant, *, first: bool) -> wire.LeaseGrant:
        session = self._coordinator.session
        session.granted += 1
        grant = wire.LeaseGrant()
        grant.CopyFrom(template)
        if not first:
            grant.ClearField("task_spec")
        grant.grant_seq = session.granted
        grant.lease.step = session.granted
        grant.lease.token = 1_000_000 + session.granted
        return grant


async def _alone(coordinator: Coordinator, spec: wire.TaskSpec, count: int = 100) -> list[float]:
    times: list[float] = []
    for _ in range(count):
        begun = time.perf_counter()
        await coordinator.run(spec, inputs={"a": 1, "b": 2})
        times.append((time.perf_counter() - begun) * 1e3)
    return sorted(times)


async def measure(steps: int, slots: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        async with running_coordinator() as coordinator:
            coordinator.heartbeat_interval = 5.0
            agent = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "penstock_agent", "--address", coordinator.address,
                "--slots", str(slots), "--data-dir", folder, "--log-level", "warning",
            )  # fmt: skip
            try:
                await coordinator.until(lambda: coordinator.sessions)
                spec = coordinator.function(coordinator.add_bundle(STEPS), "steps:add", attempt_timeout=seconds(60))
                alone = await _alone(coordinator, spec)
                rates = [await Flood(coordinator, spec, steps).run() for _ in range(3)]
            finally:
                agent.terminate()
                await agent.wait()
    return {
        "benchmark": "agent_throughput",
        "slots": slots,
        "steps": steps,
        "steps_per_second": round(statistics.median(rates)),
        "alone_p50_ms": round(statistics.median(alone), 3),
        "alone_p99_ms": round(alone[int(len(alone) * 0.99) - 1], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--slots", type=int, default=2)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(measure(given.steps, given.slots))), flush=True)


if __name__ == "__main__":
    main()
