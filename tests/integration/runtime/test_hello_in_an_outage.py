"""An agent that says Hello while the database is away goes on with its former session: what it holds is not given up,
and it gets nothing new. An older agent, which does not number its streams, is heard of at least."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from tests.integration.runtime.test_runs import spec

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.runtime.supervisor import Timing

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import Coordinator, World
    from tests.integration.runtime.scripted_agent import ScriptedAgent

HALF_A_LIFE = (Timing().lease_ttl + Timing().expiry_margin) // 2


async def connected(coordinator: Coordinator, stream: int, held: list[wire.HeldLease] | None = None) -> ScriptedAgent:
    agent = coordinator.agent()
    agent.stream = stream
    agent.held = held or []
    await agent.connect()
    return agent


async def outlast_leases(world: World, coordinator: Coordinator, agent: ScriptedAgent) -> None:
    """Beat for longer than a lease lives unheard of."""
    for _ in range(4):
        world.clock.move(HALF_A_LIFE)
        assert not (await agent.beat()).revoked
        coordinator.supervisor.run_periodic()


async def test_an_agent_goes_on_with_its_former_session(world: World) -> None:
    coordinator = await world.coordinator()
    agent = await connected(coordinator, 1)
    first = agent.welcome
    run_id = await coordinator.start(spec({"name": "a"}, {"name": "b"}))
    grant, longer = await agent.grant(), await agent.grant()
    await agent.beat()
    await agent.vanish()

    world.database.there.clear()
    coordinator.supervisor.fleet.hold_back("database_away")
    again = await connected(coordinator, 2, agent.held)
    assert first is not None
    assert again.welcome is not None
    assert again.welcome.session_epoch == first.session_epoch
    await again.until(lambda: again.orders == ["pause"])
    assert [verdict.verdict for verdict in again.verdicts] == [wire.VERDICT_CONTINUE] * 2
    await outlast_leases(world, coordinator, again)
    result = await again.succeed(grant)
    await again.beat()
    assert not again.acks, "nothing can be committed"
    # Cut off once more: it goes on from where it had gone on.
    await again.vanish()
    third = await connected(coordinator, 3, again.held)
    assert third.welcome is not None
    assert third.welcome.session_epoch == first.session_epoch

    await outlast_leases(world, coordinator, third)
    world.database.there.set()
    coordinator.supervisor.fleet.hold_back("")
    coordinator.supervisor.run_periodic()
    await third.ended.wait()
    assert third.goaways[0].reason == "database_back"
    back = await connected(coordinator, 4, third.held)
    assert back.welcome is not None
    assert back.welcome.session_epoch > first.session_epoch
    # Its acknowledgement went with the stream: so it is sent again, and is no late one.
    back.held = []
    await back.say(results=wire.Results(results=[again.results[result]]))
    assert (await back.acked(result)).status == wire.RESULT_ACK_STATUS_DUPLICATE
    await back.acked(await back.succeed(longer))
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    for step in (0, 1):
        _, attempts = await coordinator.engine.step_run(run_id, step, -1)
        assert len(attempts) == 1
    run_id = await coordinator.start(spec({"name": "b"}))
    await back.acked(await back.succeed(await back.grant()))
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_who_goes_on_gets_nothing_new_and_what_it_lost_goes_elsewhere(world: World) -> None:
    coordinator = await world.coordinator()
    agent = await connected(coordinator, 1)
    run_id = await coordinator.start(spec({"name": "a"}, {"name": "b"}))
    await agent.grant()
    await agent.untouched_grant()
    world.database.there.clear()
    # Of two grants one is known to it. The former stream still stands, and what is said on it counts no more.
    again = await connected(coordinator, 2, agent.held[:1])
    await agent.ended.wait()
    assert agent.goaways[0].reason == "superseded"
    beat = await again.beat()
    assert not beat.revoked
    await again.more(100)
    await again.beat()
    assert not again.grants
    world.database.there.set()
    other = coordinator.agent("agent-2")
    await other.connect()
    moved = await other.grant()
    assert moved.lease.step == 1
    assert not again.grants
    await other.acked(await other.succeed(moved))
    assert not (await coordinator.engine.run(run_id)).row.end_time


async def test_another_process_does_not_go_on(world: World) -> None:
    coordinator = await world.coordinator()
    agent = await connected(coordinator, 1)
    await coordinator.start(spec({"name": "a"}))
    await agent.grant()
    await coordinator.forgets(agent)
    world.database.there.clear()
    for boot_id, stream in (("boot-2", 2), ("boot-1", 1)):
        other = coordinator.agent(boot_id=boot_id)
        other.stream = stream
        code, _ = await other.refused()
        assert code is grpc.StatusCode.UNAVAILABLE
    world.database.there.set()


async def test_leases_wait_for_an_agent_that_cannot_have_a_session(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    run_id = await coordinator.start(spec({"name": "a"}))
    grant = await agent.grant()
    await agent.beat()
    held = agent.held
    await agent.vanish()

    world.database.there.clear()
    for _ in range(6):
        world.clock.move(HALF_A_LIFE)
        again = coordinator.agent()
        again.held = held
        code, _ = await again.refused()
        assert code is grpc.StatusCode.UNAVAILABLE
        coordinator.supervisor.run_periodic()
    world.database.there.set()

    back = coordinator.agent()
    back.held = held
    await back.connect()
    await back.acked(await back.succeed(grant))
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    _, attempts = await coordinator.engine.step_run(run_id, 0, -1)
    assert len(attempts) == 1
