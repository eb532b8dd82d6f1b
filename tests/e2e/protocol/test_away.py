"""A coordinator that is away, and comes back before leases run out, leaves running steps running."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.e2e.protocol.away_flows import steps_that_take
from tests.e2e.protocol.conftest import CONNECTED, System
from tests.e2e.protocol.ledger import Ledger, instant, now
from tests.waiting import until

from penstock.v1 import run_pb2

TTL = 40.0


async def test_half_a_lease_without_a_coordinator_starts_nothing_again(system: System, tmp_path: Path) -> None:
    system.settings |= {"PENSTOCK_LEASE_TTL": f"{TTL:g}s", "PENSTOCK_EXPIRY_MARGIN": "1s"}
    ledger, gate = Ledger(tmp_path / "ledger"), tmp_path / "gate"
    coordinator = await system.coordinator()
    agent = await system.agent("agent-1")
    async with system.client() as client:
        run = await client.start(steps_that_take(ledger.path, *[0.1] * 4, gate=gate))
        await ledger.has("begin", 4)
        left_at = now()
        await coordinator.kill()
        # What it takes to start is a part of being away.
        await instant(left_at + TTL / 2 - 6.0)
        await system.coordinator()
        await agent.says(CONNECTED, 2)
        away = now() - left_at
        assert not ledger.of("end")
        gate.touch()
        ended = await run.wait(60.0)
    assert ended.state == run_pb2.RUN_STATE_COMPLETED
    assert sorted((each.number, each.attempt) for each in ledger.of("begin")) == [(number, 1) for number in range(4)]
    assert len(ledger.of("end")) == 4
    print(f"away for {away:.1f} s of a lease's {TTL:g} s")
    assert away < TTL, "the machine was too slow to show anything"


async def test_results_of_the_meantime_are_kept(system: System, tmp_path: Path) -> None:
    """Steps end while there is no coordinator: their results are on the agent's disk, and count when it is back."""
    system.settings |= {"PENSTOCK_LEASE_TTL": "30s", "PENSTOCK_EXPIRY_MARGIN": "1s"}
    ledger = Ledger(tmp_path / "ledger")
    coordinator = await system.coordinator()
    agent = await system.agent("agent-1")
    async with system.client() as client:
        run = await client.start(steps_that_take(ledger.path, 1.0, 1.0))
        await ledger.has("begin", 2)
        await coordinator.kill()
        await ledger.has("end", 2)

        async def kept() -> bool:
            return system.spooled("agent-1") == 2

        await until(kept, 60.0)
        await agent.kill()
        await asyncio.gather(system.coordinator(), system.agent("agent-1", connected=False))
        ended = await run.wait(60.0)
    assert ended.state == run_pb2.RUN_STATE_COMPLETED
    assert len(ledger.of("begin")) == 2, "the results survived the agent too"
