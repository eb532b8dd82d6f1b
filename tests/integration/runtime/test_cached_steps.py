"""Steps that are answered from the cache, and values that many need and one computes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import TYPE_CHECKING

import msgspec
from google.protobuf import json_format
from tests.waiting import until

from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.core.run.events import CacheMode
from penstock_coordinator.core.run.messages import CancelRun, PauseRun, ResumeRun
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.ports import CacheFilter, Origin
from penstock_coordinator.runtime.caching import CacheTiming

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.integration.runtime.conftest import Coordinator, World
    from tests.integration.runtime.scripted_agent import ScriptedAgent

    from penstock_coordinator.runtime.views import StepRunView

QUICK = CacheTiming(look_interval=50_000, patience=60_000_000)


def spec(*steps: dict[str, object], **fields: object) -> PipelineSpec:
    made = [{"command": {"argv": ["true"]}, "cache": {}, **step} for step in steps]
    return json_format.ParseDict({"name": "p", "steps": made, **fields}, PipelineSpec())


ONE = spec({"name": "a"})
CHAIN = spec({"name": "a"}, {"name": "b", "inputs": {"x": {"step": {"step": "a"}}}})


async def connected(coordinator: Coordinator, slots: int = 32) -> ScriptedAgent:
    agent = coordinator.agent(slots=slots)
    await agent.connect(credits=1_000)
    return agent


async def step(coordinator: Coordinator, run_id: bytes, number: int = 0, item: int = -1) -> StepRunView:
    view, _ = await coordinator.engine.step_run(run_id, number, item)
    return view


async def holds(condition: Callable[[], bool]) -> None:
    async def asked() -> bool:
        return condition()

    await until(asked)


@contextlib.asynccontextmanager
async def keeping_house(coordinator: Coordinator) -> AsyncIterator[None]:
    """What a process does now and then."""

    async def again_and_again() -> None:
        while True:
            coordinator.supervisor.run_periodic()
            await asyncio.sleep(0.02)

    task = asyncio.create_task(again_and_again())
    try:
        yield
    finally:
        task.cancel()


async def waiting(coordinator: Coordinator, run_ids: list[bytes]) -> None:
    """Until all of the runs but one wait for that one, and each says so."""

    def told() -> int:
        actors = [coordinator.supervisor.actor(run_id) for run_id in run_ids]
        waits = [active.wait for actor in actors if actor is not None for active in actor.run.active.values()]
        return sum(1 for wait in waits if wait is not None and wait.key)

    await holds(lambda: told() == len(run_ids) - 1)


async def test_a_second_run_is_answered_without_an_agent(world: World) -> None:
    coordinator = await world.coordinator(cache=QUICK)
    agent = await connected(coordinator)
    first = await coordinator.start(CHAIN)
    await agent.succeed(await agent.grant(), b'{"v": 1}')
    await agent.succeed(await agent.grant(), b"[2]")
    assert (await coordinator.ended(first)).row.state == RunState.COMPLETED
    second = await coordinator.start(CHAIN)
    ended = await coordinator.ended(second)
    assert ended.row.state == RunState.COMPLETED
    assert not agent.grants
    for number, output in enumerate([b'{"v": 1}', b"[2]"]):
        view = await step(coordinator, second, number)
        assert view.state == StepState.COMPLETED
        assert view.attempts == 0
        assert view.output == output
        assert view.source is not None
        assert view.source.run_id == first
        assert view.source.display_name == "ab"[number]
        assert view.source.attempt == 1
    assert (await step(coordinator, first)).source is None


async def test_other_inputs_are_another_value_and_an_equal_output_cuts_off_early(world: World) -> None:
    coordinator = await world.coordinator(cache=QUICK)
    agent = await connected(coordinator)
    await coordinator.start(CHAIN)
    await agent.succeed(await agent.grant(), b"1")
    await agent.succeed(await agent.grant(), b"2")
    changed = spec({"name": "a", "command": {"argv": ["true", "again"]}}, {**_plain(CHAIN.steps[1])})
    run_id = await coordinator.start(changed)
    again = await agent.grant()
    assert again.step_name == "a"
    await agent.succeed(again, b"1")
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    assert (await step(coordinator, run_id, 1)).source is not None
    other = spec({"name": "a", "command": {"argv": ["true", "other"]}}, {**_plain(CHAIN.steps[1])})
    run_id = await coordinator.start(other)
    await agent.succeed(await agent.grant(), b"3")
    last = await agent.grant()
    assert dict(last.inputs) == {"x": b"3"}
    await agent.succeed(last, b"4")
    await coordinator.ended(run_id)


def _plain(step_spec: object) -> dict[str, object]:
    found: dict[str, object] = json_format.MessageToDict(step_spec)  # type: ignore[arg-type]  # a message
    return found


async def test_ten_runs_compute_a_value_once(world: World) -> None:
    coordinator = await world.coordinator(cache=QUICK)
    agent = await connected(coordinator)
    runs = [await coordinator.start(ONE) for _ in range(10)]
    grant = await agent.grant()
    await waiting(coordinator, runs)
    (holder,) = [run_id for run_id in runs if run_id == grant.lease.run_id]
    explained = await coordinator.engine.explain(next(r for r in runs if r != holder), None, -1)
    (reason,) = explained.steps[0].reasons
    assert reason.kind == "Cache"
    assert str(holder.hex()[-12:]) in reason.message
    await agent.succeed(grant, b"7")
    for run_id in runs:
        assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
        assert (await step(coordinator, run_id)).output == b"7"
    assert not agent.grants
    assert len(await coordinator.stores.cache.list_entries(CacheFilter(), 100)) == 1


async def test_a_failure_wakes_one_of_those_that_wait(world: World) -> None:
    coordinator = await world.coordinator(cache=QUICK)
    agent = await connected(coordinator)
    runs = [await coordinator.start(ONE) for _ in range(4)]
    first = await agent.grant()
    await waiting(coordinator, runs)
    await agent.fail(first)
    second = await agent.grant()
    assert second.lease.run_id != first.lease.run_id
    left = [run_id for run_id in runs if run_id != first.lease.run_id]
    await waiting(coordinator, left)
    actor = next(coordinator.supervisor.actor(each) for each in left if each != second.lease.run_id)
    assert actor is not None
    await holds(lambda: bytes(second.lease.run_id).hex()[-12:] in (actor.run.active[0].wait or ("", "", ""))[2])
    assert not agent.grants
    await coordinator.supervisor.ask(second.lease.run_id, CancelRun(0, True, "enough"), None)
    third = await agent.grant()
    await agent.succeed(third, b"1")
    for run_id in set(left) - {bytes(second.lease.run_id)}:
        assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    assert not agent.grants


async def test_a_restart_forgets_neither_who_computes_nor_who_waits(world: World) -> None:
    first = await world.coordinator(cache=QUICK)
    agent = await connected(first)
    runs = [await first.start(ONE) for _ in range(3)]
    grant = await agent.grant()
    await waiting(first, runs)
    await first.kill()
    coordinator = await world.coordinator(cache=QUICK)
    again = coordinator.agent()
    again.held = agent.held
    await again.connect(credits=100)
    await waiting(coordinator, runs)
    assert not again.grants
    await again.succeed(grant, b"5")
    for run_id in runs:
        assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
        assert (await step(coordinator, run_id)).output == b"5"
    assert not again.grants


async def test_what_a_coordinator_that_died_had_reserved_runs_out(world: World) -> None:
    timing = CacheTiming(reservation_ttl=300_000, look_interval=50_000)
    first = await world.coordinator(cache=timing)
    agent = await connected(first)
    await first.start(ONE)
    await agent.grant()
    (key,) = world.database.cache_reservations
    await first.kill()
    # The run is nobody's: as one of a coordinator that does not come back.
    world.database.runs.clear()
    coordinator = await world.coordinator(cache=timing)
    other = await connected(coordinator)
    run_id = await coordinator.start(ONE)
    async with keeping_house(coordinator):
        await other.succeed(await other.grant(), b"1")
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    assert world.database.cache_entries[max(world.database.cache_entries)].row.key == key


async def test_items_of_equal_values_are_computed_once(world: World) -> None:
    coordinator = await world.coordinator(cache=QUICK)
    agent = await connected(coordinator)
    mapped = spec(
        {"name": "m", "map": {"values": [1, 2, 1, 1], "max_parallel": 2}, "inputs": {"i": {"item": {}}}},
        {"name": "j", "inputs": {"all": {"step": {"step": "m"}}}},
    )
    run_id = await coordinator.start(mapped)
    grants = [await agent.grant(), await agent.grant()]
    assert sorted(grant.inputs["i"] for grant in grants) == [b"1", b"2"]
    for grant in grants:
        await agent.succeed(grant, grant.inputs["i"] + b"0")
    join = await agent.grant()
    assert join.inputs["all"] == b"[10,20,10,10]"
    await agent.succeed(join)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    assert [(await step(coordinator, run_id, 0, item)).source is not None for item in range(4)].count(True) == 2


async def test_a_run_may_do_without_the_cache_or_fill_it_anew(world: World) -> None:
    coordinator = await world.coordinator(cache=QUICK)
    agent = await connected(coordinator)
    await coordinator.start(ONE)
    await agent.succeed(await agent.grant(), b"1")
    off = await coordinator.start(ONE, origin=Origin(cache=int(CacheMode.OFF)))
    await agent.succeed(await agent.grant(), b"2")
    assert (await coordinator.ended(off)).row.origin.cache == CacheMode.OFF
    refresh = await coordinator.start(ONE, origin=Origin(cache=int(CacheMode.REFRESH)))
    await agent.succeed(await agent.grant(), b"3")
    await coordinator.ended(refresh)
    last = await coordinator.start(ONE)
    await coordinator.ended(last)
    assert (await step(coordinator, last)).output == b"3"
    switched_off = spec({"name": "a"}, no_cache=True)
    run_id = await coordinator.start(switched_off)
    await agent.succeed(await agent.grant(), b"4")
    await coordinator.ended(run_id)


async def test_an_expired_value_is_computed_again(world: World) -> None:
    coordinator = await world.coordinator(cache=QUICK)
    agent = await connected(coordinator)
    expiring = spec({"name": "a", "cache": {"expires": "1s"}})
    await coordinator.start(expiring)
    await agent.succeed(await agent.grant(), b"1")
    await holds(lambda: bool(world.database.cache_entries))
    (number, entry) = next(iter(world.database.cache_entries.items()))
    aged = msgspec.structs.replace(entry.row, at=entry.row.at - 2_000_000, expire_time=entry.row.at - 1)
    world.database.cache_entries[number] = dataclasses.replace(entry, row=aged)
    run_id = await coordinator.start(expiring)
    await agent.succeed(await agent.grant(), b"2")
    await coordinator.ended(run_id)


async def test_a_cache_that_does_not_answer_is_done_without(world: World) -> None:
    coordinator = await world.coordinator(cache=CacheTiming(patience=200_000))
    agent = await connected(coordinator)
    store = coordinator.stores.cache
    never = asyncio.Event()

    async def ask(*_arguments: object) -> list[None]:
        await never.wait()
        return []

    store.ask = ask  # type: ignore[method-assign,assignment]  # a store that hangs
    run_id = await coordinator.start(ONE)
    grant = await agent.grant()
    explained = await coordinator.engine.explain(run_id, 0, -1)
    assert any("without the cache" in reason.message for reason in explained.steps[0].reasons)
    await agent.succeed(grant, b"1")
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    assert len(world.database.cache_entries) == 1, "its value is known all the same"


async def test_what_a_paused_run_has_not_begun_is_computed_by_another(world: World) -> None:
    timing = CacheTiming(reservation_ttl=200_000, look_interval=50_000)
    coordinator = await world.coordinator(cache=timing)
    runs = [await coordinator.start(ONE) for _ in range(2)]
    await waiting(coordinator, runs)
    actors = {run_id: coordinator.supervisor.actor(run_id) for run_id in runs}
    (holder,) = [run_id for run_id, actor in actors.items() if actor is not None and actor.run.queues]
    (other,) = set(runs) - {holder}
    await coordinator.supervisor.ask(holder, PauseRun(coordinator.supervisor.clock.now()), None)
    agent = await connected(coordinator)
    async with keeping_house(coordinator):
        grant = await agent.grant()
    assert grant.lease.run_id == other
    await agent.succeed(grant, b"1")
    await coordinator.ended(other)
    await coordinator.supervisor.ask(holder, ResumeRun(coordinator.supervisor.clock.now()), None)
    await agent.succeed(await agent.grant(), b"1")
    assert (await coordinator.ended(holder)).row.state == RunState.COMPLETED


async def test_a_step_that_a_person_runs_again_is_computed(world: World) -> None:
    coordinator = await world.coordinator(cache=QUICK)
    agent = await connected(coordinator)
    run_id = await coordinator.start(CHAIN)
    await agent.succeed(await agent.grant(), b"1")
    await agent.succeed(await agent.grant(), b"2")
    await coordinator.ended(run_id)
    await coordinator.engine.rerun_step(run_id, 0, -1, "ann", "", None)
    again = await agent.grant()
    assert (again.step_name, again.attempt) == ("a", 2)
    await agent.succeed(again, b"1")
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    assert (await step(coordinator, run_id, 1)).source is not None
    assert not agent.grants


async def test_nothing_is_said_of_a_run_that_uses_no_cache(world: World) -> None:
    coordinator = await world.coordinator(cache=QUICK)
    agent = await connected(coordinator)
    plain = spec({"name": "a", "cache": None})
    run_id = await coordinator.start(plain)
    await agent.succeed(await agent.grant(), b"1")
    await coordinator.ended(run_id)
    assert not world.database.cache_entries
    assert not world.database.cache_reservations
