"""Which run an agent's places go to, over the real wire."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from google.protobuf import json_format

from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.core.dispatch.fairness import Fairness
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import Origin

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import World
    from tests.integration.runtime.scripted_agent import ScriptedAgent


def wide(name: str, steps: int, **fields: object) -> PipelineSpec:
    """Steps that are all ready at once."""
    made = [{"name": f"s{n}", "command": {"argv": ["true"]}} for n in range(steps)]
    return json_format.ParseDict({"name": name, "steps": made, **fields}, PipelineSpec())


async def served(agent: ScriptedAgent, count: int, *, limit: int) -> list[str]:
    """The pipelines of the next grants; each step ends, and makes room, before the next is granted."""
    pipelines = []
    for number in range(count):
        grant = await agent.grant()
        pipelines.append(grant.pipeline)
        await agent.acked(await agent.succeed(grant))
        await agent.more(limit + number + 1)
    return pipelines


async def test_a_run_of_high_priority_passes_a_big_one(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent(slots=1)
    await agent.connect(credits=1)
    await coordinator.start(wide("big", 300))
    assert await served(agent, 3, limit=1) == ["big"] * 3
    urgent = await coordinator.start(wide("urgent", 3), origin=Origin(priority=10))
    # What the agent has already been granted, or is about to be, goes on.
    pipelines = await served(agent, 6, limit=4)
    first = pipelines.index("urgent")
    assert first <= 1
    assert pipelines[first : first + 3] == ["urgent"] * 3
    assert (await coordinator.ended(urgent)).row.state == RunState.COMPLETED


async def test_weights_share_an_agent_three_to_one(world: World) -> None:
    coordinator = await world.coordinator()
    await coordinator.start(wide("three", 100), origin=Origin(weight=3.0))
    await coordinator.start(wide("one", 100))
    agent = coordinator.agent(slots=1)
    await agent.connect(credits=1)
    assert Counter(await served(agent, 40, limit=1)) == {"three": 30, "one": 10}


async def test_groups_share_an_agent_whatever_they_hold(world: World) -> None:
    coordinator = await world.coordinator(fairness=Fairness(label="team", weights={"web": 2.0}))
    for number in range(4):
        await coordinator.start(wide(f"data-{number}", 50), labels=(("team", "data"),))
    await coordinator.start(wide("web", 50), labels=(("team", "web"),))
    await coordinator.start(wide("none", 50))
    agent = coordinator.agent(slots=1)
    await agent.connect(credits=1)
    teams = Counter(pipeline.split("-")[0] for pipeline in await served(agent, 40, limit=1))
    assert teams == {"web": 20, "data": 10, "none": 10}


async def test_the_priority_of_a_step_is_added_to_the_run_s(world: World) -> None:
    spec = wide("p", 4)
    spec.steps[2].priority = 5
    spec.steps[3].priority = -1
    coordinator = await world.coordinator()
    await coordinator.start(spec, origin=Origin(priority=-2))
    await coordinator.start(wide("other", 1))
    agent = coordinator.agent(slots=1)
    await agent.connect(credits=1)
    names = []
    for number in range(5):
        grant = await agent.grant()
        names.append(f"{grant.pipeline}.{grant.step_name}")
        await agent.acked(await agent.succeed(grant))
        await agent.more(number + 2)
    assert names == ["p.s2", "other.s0", "p.s0", "p.s1", "p.s3"]


async def test_priority_and_weight_are_there_again_after_a_restart(world: World) -> None:
    first = await world.coordinator()
    await first.start(wide("usual", 5))
    await first.start(wide("high", 5), origin=Origin(priority=3))
    await first.kill()
    coordinator = await world.coordinator()
    agent = coordinator.agent(slots=1)
    await agent.connect(credits=1)
    assert await served(agent, 10, limit=1) == ["high"] * 5 + ["usual"] * 5
