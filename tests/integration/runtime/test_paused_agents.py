"""What a person says of an agent outlives its sessions and the coordinator; what was decided before is not sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.integration.runtime.test_runs import spec
from tests.waiting import until

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import Unavailable

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import World


async def test_a_paused_agent_is_paused_after_a_restart_and_what_it_runs_goes_on(world: World) -> None:
    first = await world.coordinator()
    agent = first.agent("a1")
    await agent.connect()
    run_id = await first.start(spec({"name": "a"}, {"name": "b", "dependsOn": ["a"]}))
    grant = await agent.grant()
    assert await first.engine.pause_agent("a1", paused=True)
    await first.kill()

    second = await world.coordinator()
    again = second.agent("a1")
    again.held = agent.held
    again.held[0].phase = wire.LEASE_PHASE_RUNNING
    await again.connect()
    await again.until(lambda: again.orders == ["pause"] and len(again.verdicts) == 1)
    assert again.verdicts[0].verdict == wire.VERDICT_CONTINUE
    assert second.engine.agents()["a1"].row.paused
    await again.acked(await again.succeed(grant))
    await again.beat()
    assert not again.called_back, "it was running"
    assert not again.grants, "what follows is not for an agent that is paused"

    assert await second.engine.pause_agent("a1", paused=False)
    await again.succeed(await again.grant())
    assert again.orders == ["pause", "resume"]
    assert (await second.ended(run_id)).row.state == RunState.COMPLETED


async def test_what_was_leased_before_the_pause_and_is_not_sent_goes_elsewhere(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent("a1")
    await agent.connect()
    run_id = await coordinator.start(spec({"name": "a"}, {"name": "b", "dependsOn": ["a"]}))
    grant = await agent.grant()
    faults = coordinator.stores.faults
    faults.hold = asyncio.Event()
    faults.entered.clear()
    await agent.succeed(grant)
    await faults.entered.wait()

    async def leased() -> bool:
        return any(session.capacity.permits for session in coordinator.supervisor.fleet.sessions())

    await until(leased)
    assert await coordinator.engine.pause_agent("a1", paused=True)
    faults.hold.set()
    await agent.beat()
    other = coordinator.agent("a2")
    await other.connect()
    moved = await other.grant()
    assert (moved.lease.step, moved.attempt) == (1, 1), "it never began"
    assert not agent.grants
    await other.succeed(moved)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    (session,) = [each for each in coordinator.supervisor.fleet.sessions() if each.holder.agent == "a1"]
    assert (session.capacity.leases, session.capacity.permits) == (0, 0), "its room is free"


async def test_who_was_replaced_does_not_say_that_an_agent_is_paused(world: World) -> None:
    """The newer coordinator may have read the row before it was written."""
    first = await world.coordinator()
    agent = first.agent("a1")
    await agent.connect()
    await world.coordinator()
    with pytest.raises(Unavailable, match="another coordinator has taken over"):
        await first.engine.pause_agent("a1", paused=True)
    assert first.fatal
