"""A take-over by one that had read the runs while they were still another one's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.integration.runtime.test_runs import spec

from penstock_coordinator.adapters.memory import memory_stores
from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.runtime import recovery
from penstock_coordinator.runtime.preparing import NotFollowing, Preparation

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import World

RUNS = 12
TWO_STEPS: tuple[dict[str, object], ...] = {"name": "a"}, {"name": "b", "dependsOn": ["a"]}
OWNER = CoordinatorRow("c1", OwnershipState.OWNER, 1, 1, 10_000_000, "127.0.0.1:7400", "", 1)


def following(world: World) -> Preparation:
    """The coordinators of a world have one id, which is no matter here."""
    made = Preparation(lambda: OWNER, lambda: None)
    made.begin(memory_stores(world.database, coordinator_id="c1", lanes=2))
    return made


def records(world: World) -> int:
    return sum(map(len, world.database.records.values()))


@pytest.mark.parametrize("small_pages", [False, True])
async def test_only_what_came_since_is_read_and_all_goes_on(
    world: World, small_pages: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small_pages:
        monkeypatch.setattr(recovery, "PAGE", 3)
        monkeypatch.setattr(recovery, "RUNS_AT_ONCE", 4)
    first = await world.coordinator()
    agent = first.agent("a1", slots=RUNS)
    await agent.connect(credits=RUNS - 1)
    runs = [await first.start(spec(*TWO_STEPS)) for _ in range(RUNS - 1)]
    for _ in range(RUNS // 2):
        await agent.acked(await agent.succeed(await agent.grant()))
    preparation = following(world)
    assert await preparation.prepare("c1") == RUNS - 1
    read_before = records(world)
    runs.append(await first.start(spec(*TWO_STEPS)))
    for _ in range(RUNS // 2 - 1):
        await agent.acked(await agent.succeed(await agent.grant()))
    await first.kill()

    read = preparation.take()
    assert read is not None
    assert preparation.take() is None
    assert await read.read(runs) == records(world) - read_before
    second = await world.coordinator(read=read)
    again = second.agent("a2", slots=2 * RUNS)
    await again.connect(credits=2 * RUNS)
    granted = []
    for _ in range(RUNS + 1):
        grant = await again.grant()
        granted.append((grant.lease.run_id, grant.lease.step, grant.attempt))
        await again.succeed(grant)
    assert sorted(granted) == sorted([(run, 1, 1) for run in runs] + [(runs[-1], 0, 1)])
    assert [(await second.ended(run)).row.state for run in runs] == [RunState.COMPLETED] * RUNS


async def test_a_run_whose_journal_could_not_be_read_then_is_read_from_its_beginning(world: World) -> None:
    first = await world.coordinator()
    run_id = await first.start(spec(*TWO_STEPS))
    kept = world.database.records[run_id]
    seq = max(kept)
    whole = kept[seq]
    kept[seq] = msgspec.structs.replace(whole, payload=b"\xff")
    preparation = following(world)
    await preparation.prepare("c1")
    kept[seq] = whole
    await first.kill()

    second = await world.coordinator(read=preparation.take())
    assert not second.supervisor.set_aside
    assert second.supervisor.actor(run_id) is not None


async def test_who_follows_somebody_else_reads_nothing(world: World) -> None:
    preparation = following(world)
    with pytest.raises(NotFollowing):
        await preparation.prepare("c3")
    preparation.take()
    with pytest.raises(NotFollowing):
        await preparation.prepare("c1")
