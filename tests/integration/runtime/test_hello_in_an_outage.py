"""An agent that says Hello while the database is away is heard of: what it holds is not given up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from tests.integration.runtime.test_runs import spec

from penstock_coordinator.core.run.states import RunState

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import World

TTL, MARGIN = 400_000, 100_000


async def test_leases_wait_for_an_agent_that_cannot_have_a_session(world: World) -> None:
    coordinator = await world.coordinator(lease_ttl=TTL, expiry_margin=MARGIN)
    agent = coordinator.agent()
    await agent.connect()
    run_id = await coordinator.start(spec({"name": "a"}))
    grant = await agent.grant()
    await agent.beat()
    held = agent.held
    await agent.vanish()

    world.database.there.clear()
    clock = coordinator.supervisor.clock
    end = clock.monotonic() + 3 * (TTL + MARGIN)
    while clock.monotonic() < end:
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
