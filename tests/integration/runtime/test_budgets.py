"""Budgets through the runtime: what is used is committed with the ends of attempts, and who waits goes on by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from google.protobuf.duration_pb2 import Duration
from tests.integration.runtime.test_runs import spec
from tests.waiting import until

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.core.plan.budget import Amounts, Per, window_at
from penstock_coordinator.core.run.resets import NotPossible
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import Unavailable

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import Coordinator, World
    from tests.integration.runtime.scripted_agent import ScriptedAgent

    from penstock.v1.pipeline_pb2 import PipelineSpec
    from penstock_coordinator.ports import RunId

SECOND = 1_000_000
A_DAY = {"cpu_seconds": 10, "per": "COST_BUDGET_PER_DAY"}


def budgeted(**more: object) -> PipelineSpec:
    return spec({"name": "a"}, budget=A_DAY, **more)


async def use(agent: ScriptedAgent, seconds: int, output: bytes = b"null") -> RunId:
    """The next attempt takes so much CPU time."""
    grant = await agent.grant()
    result = wire.StepResult(
        lease=grant.lease,
        attempt=grant.attempt,
        result_id=grant.lease.run_id,
        status=wire.RESULT_STATUS_OK,
        output=output,
        run_duration=Duration(seconds=1),
        cpu_duration=Duration(seconds=seconds),
    )
    agent.held = [held for held in agent.held if held.lease != grant.lease]
    await agent.say(results=wire.Results(results=[result]))
    await agent.acked(result.result_id)
    return bytes(grant.lease.run_id)


@pytest.fixture(autouse=True)
def _at_noon(world: World) -> None:
    """So that no day ends in the middle of a test."""
    now = world.clock.now()
    world.clock.set_later(window_at(Per.DAY, now).start + 12 * 3_600 * SECOND - now)


async def agent_of(coordinator: Coordinator) -> ScriptedAgent:
    agent = coordinator.agent(slots=10)
    await agent.connect(credits=100)
    return agent


async def state(coordinator: Coordinator, run_id: RunId) -> RunState:
    return RunState((await coordinator.engine.run(run_id)).row.state)


async def admitted(world: World, coordinator: Coordinator, run_id: RunId) -> None:
    """It may have begun when somebody looked the next time."""

    async def begun() -> bool:
        world.clock.move(2 * SECOND)
        coordinator.supervisor.run_periodic()
        return (await coordinator.engine.run(run_id)).held_by_key == ""

    await until(begun)


async def looked(world: World, coordinator: Coordinator) -> None:
    """Once more, for nothing."""
    world.clock.move(2 * SECOND)
    coordinator.supervisor.run_periodic()
    task = coordinator.supervisor.budgets._task
    assert task is not None
    await task


async def test_a_run_waits_for_the_next_day(world: World) -> None:
    coordinator = await world.coordinator()
    agent = await agent_of(coordinator)
    first, second = [await coordinator.start(budgeted()) for _ in range(2)]
    assert await use(agent, 12) == first
    waits = await coordinator.start(budgeted())
    view = await coordinator.engine.run(waits)
    assert (view.held_by_key, RunState(view.row.state)) == ("pipeline:p (budget)", RunState.PENDING)
    assert "have used 12 of 10 CPU-seconds of their budget of this day" in view.held_by_budget
    explanation = await coordinator.engine.explain(waits, None, -1)
    assert [reason.kind for reason in explanation.reasons] == ["PipelineBudget"]
    await looked(world, coordinator)
    assert await use(agent, 1) == second, "what was under way goes on"
    assert await state(coordinator, waits) is RunState.PENDING
    now = world.clock.now()
    world.clock.set_later(window_at(Per.DAY, now).stop - now)
    await admitted(world, coordinator, waits)
    assert await use(agent, 1) == waits
    assert (await coordinator.ended(waits)).row.state == RunState.COMPLETED
    assert await state(coordinator, await coordinator.start(budgeted())) is not RunState.COMPLETED


async def test_what_was_used_and_who_waits_is_known_after_a_restart(world: World) -> None:
    coordinator = await world.coordinator()
    agent = await agent_of(coordinator)
    runs = [await coordinator.start(budgeted()) for _ in range(3)]
    for _ in runs:
        await use(agent, 4)
    waits = await coordinator.start(budgeted())
    await coordinator.kill()

    again = await world.coordinator()
    await looked(world, again)
    assert (await again.engine.run(waits)).held_by_key == "pipeline:p (budget)"
    version = await again.stores.pipelines.get_version("p", 0)
    assert version is not None
    plan = await again.engine.plan(version.digest)
    found = await again.engine.window_budget(plan)
    assert found.used == Amounts(3 * SECOND, 12 * SECOND, 0)
    await again.engine.raise_window_budget(plan, Amounts(0, 13 * SECOND), "ann")
    assert (await again.engine.window_budget(plan)).budget.limits == Amounts(0, 13 * SECOND)
    await admitted(world, again, waits)
    agent = await agent_of(again)
    assert await use(agent, 1) == waits
    assert (await again.ended(waits)).row.state == RunState.COMPLETED
    # Of the day that follows nothing is raised.
    now = world.clock.now()
    world.clock.set_later(window_at(Per.DAY, now).stop - now)
    assert (await again.engine.window_budget(plan)).budget.limits == Amounts(0, 10 * SECOND)


async def test_a_run_that_waits_takes_no_place_under_other_limits(world: World) -> None:
    coordinator = await world.coordinator()
    agent = await agent_of(coordinator)
    limited = {"max_active_runs": 1}
    first = await coordinator.start(budgeted(**limited))
    assert await use(agent, 20) == first
    one, two = [await coordinator.start(budgeted(**limited)) for _ in range(2)]
    assert [(await coordinator.engine.run(run)).held_by_key for run in (one, two)] == ["pipeline:p (budget)"] * 2
    await coordinator.engine.cancel_run(one, False, "enough", None)
    assert (await coordinator.ended(one)).row.state == RunState.CANCELLED
    three = await coordinator.start(budgeted(**limited))
    now = world.clock.now()
    world.clock.set_later(window_at(Per.DAY, now).stop - now)

    async def in_turn() -> bool:
        world.clock.move(2 * SECOND)
        coordinator.supervisor.run_periodic()
        keys = [(await coordinator.engine.run(run)).held_by_key for run in (two, three)]
        return keys == ["", "pipeline:p"]

    await until(in_turn)
    assert await use(agent, 1) == two
    assert await use(agent, 1) == three


async def test_runs_are_refused_where_they_are_not_to_wait(world: World) -> None:
    coordinator = await world.coordinator()
    agent = await agent_of(coordinator)
    stopping = spec({"name": "a"}, budget={**A_DAY, "on_exceeded": "ON_EXCEEDED_STOP"})
    first = await coordinator.start(stopping)
    grant = await agent.grant()
    assert grant.lease.run_id == first
    await agent.fail(grant)
    other = await coordinator.start(stopping)
    assert await use(agent, 20) == other
    late = await coordinator.ended(await coordinator.start(stopping))
    assert late.row.state == RunState.FAILED
    assert late.row.reason.startswith('budget: the runs of "p" have used 20 of 10 CPU-seconds')
    with pytest.raises(NotPossible, match="wait for the next one, or raise it"):
        await coordinator.engine.retry_run(first, "ann", "", None)
    assert await state(coordinator, first) is RunState.FAILED


async def test_a_retry_waits_too_and_a_rollback_does_not(world: World) -> None:
    coordinator = await world.coordinator()
    agent = await agent_of(coordinator)
    undone = spec({"name": "a", "compensate": "u"}, {"name": "b", "depends_on": ["a"]}, {"name": "u"}, budget=A_DAY)
    run = await coordinator.start(undone)
    assert await use(agent, 20) == run
    await agent.fail(await agent.grant())
    assert (await coordinator.ended(run)).row.state == RunState.FAILED
    await coordinator.engine.rollback_run(run, "ann", "", None)
    assert await use(agent, 1) == run
    assert (await coordinator.ended(run)).row.state == RunState.ROLLED_BACK
    await coordinator.engine.retry_run(run, "ann", "", None)
    assert (await coordinator.engine.run(run)).held_by_key == "pipeline:p (budget)"


async def test_nothing_is_started_while_it_is_not_known_what_was_used(world: World) -> None:
    coordinator = await world.coordinator()
    world.database.there.clear()
    with pytest.raises(Unavailable):
        await coordinator.start(budgeted())
    world.database.there.set()


async def test_an_actor_made_again_knows_what_its_run_has_used(world: World) -> None:
    coordinator = await world.coordinator()
    agent = await agent_of(coordinator)
    run = await coordinator.start(spec({"name": "a"}, {"name": "b", "depends_on": ["a"]}, budget={"cpu_seconds": 10}))
    assert await use(agent, 12) == run

    async def held() -> bool:
        return bool((await coordinator.engine.run(run)).held_by_budget)

    await until(held)
    actor = coordinator.supervisor.actor(run)
    assert actor is not None
    actor.crash(RuntimeError("for the test"))
    assert await coordinator.supervisor.live_actor(run) is not None
    view = await coordinator.engine.run(run)
    assert view.budget is not None
    assert (view.budget.used, view.budget.exceeded) == (Amounts(SECOND, 12 * SECOND, 0), 2)
    await coordinator.engine.raise_budget(run, Amounts(0, 30 * SECOND), "ann", "")
    assert await use(agent, 1) == run
    assert (await coordinator.ended(run)).row.state == RunState.COMPLETED


async def test_who_waits_for_a_run_that_its_budget_holds_is_told(world: World) -> None:
    coordinator = await world.coordinator()
    agent = await agent_of(coordinator)
    limited = spec({"name": "a"}, {"name": "b", "dependsOn": ["a"]}, budget={"cpu_seconds": 10})
    limited.name = "child"
    await coordinator.create(limited)
    parent = await coordinator.start(spec({"name": "outer", "pipeline": {"name": "child"}, "command": None}))
    child = str(UUID(bytes=await use(agent, 11)))

    async def told() -> str:
        return (await coordinator.engine.explain(parent, None, -1)).steps[0].reasons[-1].message

    assert f"That run has used its budget: `penstock explain {child}` tells more." in await told()
