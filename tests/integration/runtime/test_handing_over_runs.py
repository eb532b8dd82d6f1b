"""What a supervisor does when another one is to have its runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.integration.runtime.test_runs import spec

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import World

PATIENCE = 60.0


@pytest.mark.parametrize("address", ["127.0.0.1:1", ""])
async def test_agents_go_at_once_and_runs_are_released_when_what_is_decided_is_committed(
    world: World, address: str
) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    faults, released = coordinator.stores.faults, asyncio.Event()
    faults.hold = asyncio.Event()
    faults.entered.clear()
    starting = asyncio.create_task(coordinator.start(spec({"name": "a"})))

    async def release() -> None:
        assert starting.done() or len(world.database.runs) == 1
        released.set()

    async with asyncio.timeout(PATIENCE):
        await faults.entered.wait()
        handing_over = asyncio.create_task(coordinator.supervisor.hand_over(address, release))
        await agent.ended.wait()
        assert agent.redirects == ([address] if address else [])
        assert [each.reason for each in agent.goaways] == ([] if address else ["not_the_leader"])
        assert not released.is_set()
        faults.hold.set()
        await handing_over
        await starting
    assert released.is_set()
