"""A key that a run shares with the runs below it: its place is theirs, one at a time."""

from __future__ import annotations

import asyncio
import functools
import uuid
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from tests.integration.runtime.test_runs import spec
from tests.waiting import until

from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.core.run.states import RunState

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import Coordinator, World
    from tests.integration.runtime.scripted_agent import ScriptedAgent

    from penstock_coordinator.ports import RunId, RunRow

KEY = {"key": "warehouse", "limit": 1}
ITEMS = 3


def above(name: str, child: str, **fields: Any) -> PipelineSpec:
    step = {"name": "child", "pipeline": {"name": child}, "map": {"values": list(range(ITEMS))}}
    return json_format.ParseDict({"name": name, "steps": [step], "concurrency": KEY, **fields}, PipelineSpec())


def below(world: World, parent: RunId) -> list[RunRow]:
    rows = world.database.runs.values()
    return [row for row in rows if row.origin.parent is not None and row.origin.parent.run_id == parent]


async def ready(coordinator: Coordinator) -> ScriptedAgent:
    agent = coordinator.agent(slots=50)
    await agent.connect(credits=1_000)
    return agent


async def all_one_by_one(agent: ScriptedAgent, count: int) -> None:
    for _ in range(count):
        grant = await agent.grant()
        await agent.beat()
        assert not agent.grants, "one has the place"
        await agent.succeed(grant)


async def work(agent: ScriptedAgent) -> None:
    while True:
        await agent.succeed(await agent.grant())


async def test_runs_below_do_not_wait_for_the_one_above(world: World) -> None:
    coordinator = await world.coordinator()
    agent = await ready(coordinator)
    await coordinator.create(spec({"name": "work"}, name="leaf", concurrency=KEY))
    first = await coordinator.start(above("top", "leaf"))
    await all_one_by_one(agent, ITEMS)
    assert (await coordinator.ended(first)).row.state == RunState.COMPLETED
    assert len(below(world, first)) == ITEMS


async def test_a_run_below_cancels_those_beside_it_and_not_the_one_above(world: World) -> None:
    coordinator = await world.coordinator()
    agent = await ready(coordinator)
    oldest = {**KEY, "policy": "CONCURRENCY_POLICY_CANCEL_OLDEST"}
    await coordinator.create(spec({"name": "work"}, name="leaf", concurrency=oldest))
    step = {"name": "child", "pipeline": {"name": "leaf"}, "map": {"values": [1, 2]}, "allowFailure": True}
    first = await coordinator.start(above("top", "leaf", steps=[step]))
    working = asyncio.create_task(work(agent))
    assert (await coordinator.ended(first)).row.state == RunState.COMPLETED
    working.cancel()
    assert sorted(row.state for row in below(world, first)) == [RunState.COMPLETED, RunState.CANCELLED]


async def test_others_wait_for_the_run_above_and_all_below_it(world: World) -> None:
    coordinator = await world.coordinator()
    agent = await ready(coordinator)
    await coordinator.create(spec({"name": "work"}, name="leaf", concurrency=KEY))
    await coordinator.create(above("middle", "leaf"))
    first = await coordinator.start(above("top", "middle"))
    other = await coordinator.start(spec({"name": "work"}, name="other", concurrency=KEY))
    await all_one_by_one(agent, ITEMS * ITEMS)
    assert (await coordinator.ended(first)).row.state == RunState.COMPLETED
    await all_one_by_one(agent, 1)
    assert (await coordinator.ended(other)).row.state == RunState.COMPLETED


async def test_who_waits_is_told_for_whom_and_a_restart_changes_nothing(world: World) -> None:
    coordinator = await world.coordinator()
    agent = await ready(coordinator)
    await coordinator.create(spec({"name": "work"}, name="leaf", max_active_runs=1, concurrency=KEY))
    first = await coordinator.start(above("top", "leaf"))
    grant = await agent.grant()
    held = [row.run_id for row in below(world, first) if row.run_id != grant.lease.run_id]
    await coordinator.kill()
    again = await world.coordinator()
    for run_id in held:
        view = await again.engine.run(run_id)
        assert view.held_by_key
        (reason,) = (await again.engine.explain(run_id, None, -1)).reasons
        assert reason.kind == "RunHeld"
    back = again.agent(slots=50, boot_id="boot-2")
    await back.connect(credits=1_000)
    await all_one_by_one(back, ITEMS)
    assert (await again.ended(first)).row.state == RunState.COMPLETED


async def test_two_that_wait_for_each_other_are_told_who_holds_what(world: World) -> None:
    coordinator = await world.coordinator()
    await ready(coordinator)
    keys = {"one": "two", "two": "one"}
    tops: dict[str, RunId] = {}
    for key in keys:
        await coordinator.create(spec({"name": "work"}, name=f"leaf-{key}", concurrency={"key": key, "limit": 1}))
    for key, other in keys.items():
        child = {"name": "child", "dependsOn": ["work"], "pipeline": {"name": f"leaf-{other}"}}
        steps = [{"name": "work", "command": {"argv": ["true"]}}, child]
        tops[key] = await coordinator.start(above("top", "", steps=steps, concurrency={"key": key, "limit": 1}))
    agent = coordinator.agents[0]
    for grant in [await agent.grant(), await agent.grant()]:
        await agent.acked(await agent.succeed(grant))
    for key, other in keys.items():
        await until(functools.partial(rows_below, world, tops[key]))
        (explained,) = (await coordinator.engine.explain(tops[key], 1, -1)).steps
        (reason,) = explained.reasons
        holder = str(uuid.UUID(bytes=tops[other]))
        assert reason.details["held"] == {
            "key": other,
            "limit": 1,
            "ahead": 0,
            "holders": [{"run_id": holder, "step": ""}],
        }
        assert f'under the key "{other}", whose limit is 1 and which run {holder} holds' in reason.message
    await coordinator.engine.cancel_run(tops["one"], True, "enough", None)
    assert (await coordinator.ended(tops["one"])).row.state == RunState.CANCELLED
    (grant,) = [await agent.grant()]
    await agent.succeed(grant)
    assert (await coordinator.ended(tops["two"])).row.state == RunState.COMPLETED


async def rows_below(world: World, parent: RunId) -> list[RunRow]:
    return below(world, parent)


async def test_a_run_that_recurs_may_have_one_run_at_a_time(world: World) -> None:
    coordinator = await world.coordinator()
    agent = await ready(coordinator)
    steps = [
        {"name": "work", "command": {"argv": ["true"]}},
        {
            "name": "again",
            "pipeline": {"name": "p"},
            "inputs": {"n": {"value": 0}},
            "when": "params.n > 0",
            "dependsOn": ["work"],
        },
    ]
    fields = {"name": "p", "steps": steps, "parameters": [{"name": "n", "type": "PARAMETER_TYPE_INT"}]}
    recurring = json_format.ParseDict({**fields, "max_active_runs": 1}, PipelineSpec())
    run_id = await coordinator.start(recurring, b'{"n": 1}')
    await all_one_by_one(agent, 2)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
