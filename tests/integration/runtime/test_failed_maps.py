"""A mapped step that failed tells why, also though only items fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.runtime.test_runs import spec

from penstock_coordinator.core.run.states import StepState

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import World

MAPPED = spec({"name": "m", "map": {"values": [1, 2, 3]}}, {"name": "slow"})


async def test_the_whole_tells_the_failure_of_its_first_failed_item(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent(slots=8)
    await agent.connect(credits=10)
    run_id = await coordinator.start(MAPPED)
    grants = {grant.display_name: grant for grant in [await agent.grant() for _ in range(4)]}
    await agent.succeed(grants["m[0]"])
    await agent.acked(await agent.fail(grants["m[2]"]))
    still, _ = await coordinator.engine.step_run(run_id, 0, -1)
    assert still.failure is None, "it has not failed yet"
    await agent.acked(await agent.fail(grants["m[1]"], "Timeout"))
    live, _ = await coordinator.engine.step_run(run_id, 0, -1)
    await agent.succeed(grants["slow"])
    await coordinator.ended(run_id)
    ended, _ = await coordinator.engine.step_run(run_id, 0, -1)
    (listed, _) = await coordinator.engine.step_runs(run_id, None, frozenset(), None, 10)
    for view in (live, ended, listed):
        assert view.state == StepState.FAILED
        assert view.failure is not None
        assert view.failure.reason == "Timeout"
        assert view.failure.message == "m[1]: it did not work"
