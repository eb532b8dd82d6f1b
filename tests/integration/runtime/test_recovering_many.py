"""Recovery of many runs: in pages, each run whole, and none in the way of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.integration.runtime.test_runs import spec

from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.runtime import recovery
from penstock_coordinator.runtime.views import SetAside

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import World

    from penstock_coordinator.ports import RunId

RUNS = 12


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

    assert second.supervisor.set_aside == set()
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
