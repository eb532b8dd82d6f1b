"""Leases that have not started are called back when their run is paused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.runtime.test_runs import spec

from penstock_coordinator.core.run.states import RunState

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import World


async def test_a_lease_that_comes_back_unstarted_is_the_first_attempt_again(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent("a1", slots=1)
    await agent.connect(credits=2)
    run_id = await coordinator.start(spec({"name": "a"}, {"name": "b"}))
    first, second = await agent.grant(), await agent.grant()
    await coordinator.engine.pause_run(run_id, "ann", "dinner", None)
    await agent.until(lambda: len(agent.called_back) == 2)
    assert {lease.step for lease in agent.called_back} == {0, 1}
    await agent.hand_back(second)
    await agent.succeed(first)
    assert (await coordinator.engine.run(run_id)).row.state == RunState.PAUSED
    assert not agent.grants

    await agent.more(3)
    await coordinator.engine.resume_run(run_id, "bob", None)
    again = await agent.grant()
    assert (again.lease.step, again.attempt) == (second.lease.step, 1)
    await agent.succeed(again)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_the_call_is_made_again_after_a_restart(world: World) -> None:
    first = await world.coordinator()
    agent = first.agent("a1", slots=1)
    await agent.connect(credits=1)
    run_id = await first.start(spec({"name": "a"}))
    await agent.grant()
    await first.engine.pause_run(run_id, "ann", "", None)
    await first.kill()
    second = await world.coordinator()
    view = await second.engine.run(run_id)
    assert (view.row.state, view.paused is not None) == (RunState.PAUSED, True)
