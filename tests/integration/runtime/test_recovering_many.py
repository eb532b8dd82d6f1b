"""Recovery of many runs: in pages, each run whole, and none in the way of the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import pytest
from tests.integration.runtime.test_runs import spec

from penstock.v1.coordinator_service_pb2 import GetHealthRequest
from penstock_coordinator.api.coordinator_service import CoordinatorService
from penstock_coordinator.api.health import Readiness
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.runtime import aside, recovery
from penstock_coordinator.runtime.views import SetAside

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import World

    from penstock_coordinator.ports import RunId

RUNS = 12
PATIENCE = 60.0
NO_CONTEXT: Any = None


def _spoil(world: World, run_id: RunId) -> None:
    """As if a newer release had written it."""
    records = world.database.records[run_id]
    last = max(records)
    records[last] = msgspec.structs.replace(records[last], payload=b"\xff")


@pytest.fixture
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "PAGE", 3)
    monkeypatch.setattr(recovery, "RUNS_AT_ONCE", 4)
    monkeypatch.setattr(recovery, "FOLDED_AT_ONCE", 2)


@pytest.mark.usefixtures("_small_pages")
async def test_runs_of_several_records_go_on_where_they_were(world: World) -> None:
    first = await world.coordinator()
    agent = first.agent("a1", slots=RUNS)
    await agent.connect(credits=RUNS)
    runs = [await first.start(spec({"name": "a"}, {"name": "b", "dependsOn": ["a"]})) for _ in range(RUNS)]
    for _ in range(RUNS):
        await agent.acked(await agent.succeed(await agent.grant()))
    await first.kill()

    second = await world.coordinator()
    again = second.agent("a2", slots=RUNS)
    await again.connect(credits=RUNS)
    for _ in range(RUNS):
        grant = await again.grant()
        assert grant.lease.step == 1
        await again.succeed(grant)

    assert second.supervisor.set_aside == {}
    assert [(await second.ended(run)).row.state for run in runs] == [RunState.COMPLETED] * RUNS


async def test_a_run_that_cannot_be_read_is_set_aside_and_the_others_go_on(world: World) -> None:
    first = await world.coordinator()
    bad, good = await first.start(spec({"name": "a"})), await first.start(spec({"name": "a"}))
    await first.kill()
    before = world.database.records[bad]
    whole = dict(before)
    _spoil(world, bad)

    second = await world.coordinator()
    agent = second.agent("a1")
    await agent.connect(credits=2)
    await agent.succeed(await agent.grant())

    assert (await second.ended(good)).row.state == RunState.COMPLETED
    with pytest.raises(SetAside):
        await second.engine.run(bad)
    with pytest.raises(SetAside):
        await second.engine.pause_run(bad, "ann", "", None)
    with pytest.raises(SetAside):
        await second.engine.at_rest(bad)

    await second.kill()
    before.update(whole)
    third = await world.coordinator()
    other = third.agent("a2")
    await other.connect(credits=1)
    await other.succeed(await other.grant())
    assert (await third.ended(bad)).row.state == RunState.COMPLETED


async def test_an_agent_keeps_the_result_of_a_run_that_is_set_aside(world: World) -> None:
    first = await world.coordinator()
    agent = first.agent("a1")
    await agent.connect(credits=1)
    run_id = await first.start(spec({"name": "a"}))
    grant = await agent.grant()
    await first.kill()
    _spoil(world, run_id)

    second = await world.coordinator()
    assert second.supervisor.deliver(run_id, None)  # type: ignore[arg-type]  # nobody looks at it
    assert grant.lease.run_id == run_id


async def test_a_run_that_crashed_and_cannot_be_read_is_set_aside_until_it_can(world: World) -> None:
    coordinator = await world.coordinator()
    bad, good = await coordinator.start(spec({"name": "a"})), await coordinator.start(spec({"name": "a"}))
    agent = coordinator.agent()
    await agent.connect(credits=2)
    grants = {grant.lease.run_id: grant for grant in [await agent.grant(), await agent.grant()]}
    waits = asyncio.create_task(coordinator.engine.at_rest(bad))
    await asyncio.sleep(0)
    whole = dict(world.database.records[bad])
    _spoil(world, bad)
    actor = coordinator.supervisor.actor(bad)
    assert actor is not None
    actor.crash(RuntimeError("for the test"))
    async with asyncio.timeout(PATIENCE):
        await waits
        with pytest.raises(SetAside):
            await coordinator.engine.at_rest(bad)
    with pytest.raises(SetAside, match="a record of it cannot be read"):
        await coordinator.engine.explain(bad, None, -1)
    with pytest.raises(SetAside):
        await coordinator.engine.run(bad)
    health = await CoordinatorService(coordinator.supervisor, Readiness()).GetHealth(GetHealthRequest(), NO_CONTEXT)
    assert list(health.health.set_aside_runs) == [str(UUID(bytes=bad))]
    await agent.succeed(grants[good])
    assert (await coordinator.ended(good)).row.state == RunState.COMPLETED
    await agent.succeed(grants[bad])
    assert coordinator.supervisor.set_aside, "the agent keeps its result"

    world.database.records[bad].update(whole)
    assert await recovery.adopt_runs(coordinator.supervisor, [bad]) == [bad]
    assert not coordinator.supervisor.set_aside
    await agent.succeed(grants[bad])
    assert (await coordinator.ended(bad)).row.state == RunState.COMPLETED


async def test_a_run_that_crashes_again_and_again_is_set_aside(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "MOST_CRASHES", 3)
    coordinator = await world.coordinator()
    supervisor = coordinator.supervisor
    bad = await coordinator.start(spec({"name": "a"}))
    for crashes in range(1, 4):
        actor = await supervisor.live_actor(bad)
        assert actor is not None
        actor.crash(RuntimeError("for the test"))
        assert (bad in supervisor.set_aside) == (crashes == 3)
    with pytest.raises(SetAside, match="RuntimeError"):
        await coordinator.engine.run(bad)
    assert await recovery.adopt_runs(supervisor, [bad]) == [bad]
    agent = coordinator.agent()
    await agent.connect(credits=1)
    grant = await agent.grant()
    again = await supervisor.live_actor(bad)
    assert again is not None
    again.crash(RuntimeError("once more, after something was committed"))
    assert await supervisor.live_actor(bad) is not None
    await agent.succeed(grant)
    assert (await coordinator.ended(bad)).row.state == RunState.COMPLETED
    assert supervisor.set_aside._crashes == {}
