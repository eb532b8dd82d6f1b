"""The ends of agents' streams, on the coordinator's side."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from tests.waiting import until

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import World


async def test_a_stream_that_the_coordinator_ends_is_no_error(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    (session,) = coordinator.supervisor.fleet.sessions()

    async def nobody_reads() -> bool:
        return not any("_read_all" in repr(task.get_coro()) for task in asyncio.all_tasks())

    with structlog.testing.capture_logs() as said:
        session.close("silent")
        await agent.until(lambda: bool(agent.goaways))
        await until(nobody_reads)

    assert [line["event"] for line in said if line["log_level"] == "error"] == []
