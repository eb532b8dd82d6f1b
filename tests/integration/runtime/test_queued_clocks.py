"""How long a step may wait for an agent, before and after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.runtime.test_runs import spec

from penstock_coordinator.core.run.states import RunState

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import World

IMPATIENT = spec({"name": "a", "timeouts": {"queued": "1s"}})


async def test_the_clock_of_a_new_run_runs_from_the_coordinators_start_on(world: World) -> None:
    """Long before agents would have had time to come back: there is nothing that they could come back to."""
    coordinator = await world.coordinator()
    run_id = await coordinator.start(IMPATIENT)
    view = await coordinator.ended(run_id)
    assert view.row.state == RunState.FAILED
    assert "QueuedTimeout" in view.row.reason


async def test_the_clock_of_a_recovered_run_waits_until_agents_had_time_to_come_back(world: World) -> None:
    first = await world.coordinator()
    run_id = await first.start(IMPATIENT)
    await first.kill()
    second = await world.coordinator(lease_ttl=2_000_000, expiry_margin=500_000)
    began_at = second.supervisor._began_at
    view = await second.ended(run_id)
    assert view.row.state == RunState.FAILED
    assert view.row.end_time is not None
    assert view.row.end_time >= began_at + 2_500_000
