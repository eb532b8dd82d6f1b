"""What an agent is given and lets lie goes elsewhere; what waits on a busy agent goes to an idle one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.integration.runtime.test_runs import spec

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.runtime.supervisor import Timing

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import Coordinator, World
    from tests.integration.runtime.scripted_agent import ScriptedAgent

ONE = spec({"name": "a"})


@pytest.fixture(autouse=True)
def _still(world: World) -> None:
    """A machine that is held up takes nothing of the time that an agent has."""
    world.clock.stop()


async def looked_after(world: World, coordinator: Coordinator, deaf: ScriptedAgent) -> None:
    """The coordinator looks at its leases when what the agent was given should have been accepted."""
    world.clock.move(Timing().accept_timeout)
    coordinator.supervisor.run_periodic()
    await deaf.until(lambda: bool(deaf.called_back))


async def says_that_it_has_read(deaf: ScriptedAgent) -> None:
    """And does not hold it: the second heartbeat answers what came after the grant."""
    deaf.held.clear()
    await deaf.beat()
    await deaf.beat()


async def test_what_is_not_accepted_in_time_goes_elsewhere(world: World) -> None:
    coordinator = await world.coordinator()
    deaf = coordinator.agent("agent-1")
    await deaf.connect()
    run_id = await coordinator.start(ONE)
    lost = await deaf.untouched_grant()
    other = coordinator.agent("agent-2")
    await other.connect()
    coordinator.supervisor.run_periodic()
    assert not deaf.called_back, "there is time left"
    await looked_after(world, coordinator, deaf)
    assert deaf.called_back == [lost.lease]
    assert not other.grants, "its acceptance may be on its way"
    await says_that_it_has_read(deaf)
    grant = await other.grant()
    assert (grant.lease.token > lost.lease.token, grant.attempt) == (True, 1)
    # Whatever it says of it now comes too late.
    await deaf.say(leases_accepted=wire.LeasesAccepted(leases=[lost.lease]))
    await deaf.say(leases_rejected=wire.LeasesRejected(leases=[wire.RejectedLease(lease=lost.lease, reason="late")]))
    deaf.held.append(wire.HeldLease(lease=lost.lease, phase=wire.LEASE_PHASE_RUNNING))
    assert (await deaf.beat()).revoked == [lost.lease]
    assert (await deaf.acked(await deaf.succeed(lost))).status == wire.RESULT_ACK_STATUS_STALE
    await other.succeed(grant)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    assert coordinator.supervisor.fleet.discarded == {"agent-1": 1}


async def test_what_may_have_been_accepted_goes_elsewhere_when_the_agents_own_clock_has_ended_it(world: World) -> None:
    """It speaks, and answers nothing: neither does it say that it has read of the lease."""
    coordinator = await world.coordinator()
    deaf, other = coordinator.agent("agent-1"), coordinator.agent("agent-2")
    await deaf.connect(credits=1)
    run_id = await coordinator.start(ONE)
    await deaf.untouched_grant()
    await looked_after(world, coordinator, deaf)
    await other.connect()
    timing = Timing()
    for span in (timing.lease_ttl - timing.accept_timeout, timing.expiry_margin):
        assert not other.grants
        world.clock.move(span)
        for agent in (deaf, other):
            await agent.say(heartbeat=wire.Heartbeat())
            await agent.until(lambda agent=agent: bool(agent.beats))  # type: ignore[misc]  # bound at once
            agent.beats.clear()
        coordinator.supervisor.run_periodic()
    grant = await other.grant()
    assert grant.attempt == 2, "it may have begun"
    await other.succeed(grant)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_no_budget_pays_for_what_was_not_accepted(world: World) -> None:
    coordinator = await world.coordinator()
    run_id = await coordinator.start(ONE)
    timing = Timing()
    for number in range(5):
        deaf = coordinator.agent(f"agent-{number}")
        await deaf.connect()
        await deaf.untouched_grant()
        await looked_after(world, coordinator, deaf)
        await deaf.vanish()
        world.clock.move(timing.lease_ttl + timing.expiry_margin)
        coordinator.supervisor.run_periodic()
    agent = coordinator.agent("agent-9")
    await agent.connect()
    grant = await agent.grant()
    assert grant.attempt == 1 + 5, "each of them may have begun"
    await agent.succeed(grant)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_who_lets_leases_lie_gets_nothing_for_a_while(world: World) -> None:
    coordinator = await world.coordinator()
    deaf = coordinator.agent("agent-1")
    await deaf.connect(credits=10)
    await coordinator.start(ONE)
    await deaf.untouched_grant()
    await looked_after(world, coordinator, deaf)
    (session,) = coordinator.supervisor.fleet.sessions()
    assert not session.capacity.open
    await says_that_it_has_read(deaf)
    assert not deaf.grants
    world.clock.move(Timing().accept_timeout)
    await deaf.beat()
    coordinator.supervisor.run_periodic()
    grant = await deaf.grant()
    await deaf.beat()
    await deaf.acked(await deaf.succeed(grant))


async def test_what_was_accepted_is_not_called_back(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await coordinator.start(spec({"name": "m", "map": {"values": [1, 2, 3]}}))
    grants = [await agent.grant() for _ in range(3)]
    await agent.beat()
    world.clock.move(Timing().accept_timeout)
    coordinator.supervisor.run_periodic()
    await agent.beat()
    assert not agent.called_back
    for grant in grants:
        await agent.succeed(grant)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_what_waits_on_a_busy_agent_goes_to_an_idle_one(world: World) -> None:
    coordinator = await world.coordinator()
    busy = coordinator.agent("agent-1", slots=1)
    await busy.connect(credits=4)
    run_id = await coordinator.start(spec({"name": "m", "map": {"values": [1, 2, 3, 4]}}))
    grants = [await busy.grant() for _ in range(4)]
    busy.held[0].phase = wire.LEASE_PHASE_RUNNING
    await busy.beat()
    await busy.beat()
    await busy.beat()
    assert not busy.called_back, "there is nobody who could take it"
    idle = coordinator.agent("agent-2", slots=2)
    await idle.connect(credits=2)
    await idle.beat()  # its credits have been read before
    await busy.beat()
    await busy.until(lambda: len(busy.called_back) == 2)
    assert busy.called_back == [grants[3].lease, grants[2].lease], "those that would begin last, as many as fit"
    for grant in (grants[3], grants[2]):
        await busy.hand_back(grant)
    moved = [await idle.grant() for _ in range(2)]
    assert {grant.display_name for grant in moved} == {"m[2]", "m[3]"}
    assert [grant.attempt for grant in moved] == [1, 1]
    await busy.beat()
    assert len(busy.called_back) == 2, "the idle one is busy now"
    for agent, its in ((busy, grants[:2]), (idle, moved)):
        for grant in its:
            await agent.succeed(grant)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_what_has_started_meanwhile_stays_and_is_not_asked_for_again(world: World) -> None:
    coordinator = await world.coordinator()
    busy, idle = coordinator.agent("agent-1", slots=1), coordinator.agent("agent-2", slots=1)
    await busy.connect(credits=2)
    await coordinator.start(spec({"name": "m", "map": {"values": [1, 2]}}))
    grants = [await busy.grant() for _ in range(2)]
    await idle.connect(credits=1)
    await idle.beat()
    busy.held[0].phase = wire.LEASE_PHASE_RUNNING
    await busy.beat()
    await busy.beat()
    await busy.until(lambda: busy.called_back == [grants[1].lease])
    for _ in range(3):
        await busy.beat()
    assert len(busy.called_back) == 1
    assert not idle.grants
