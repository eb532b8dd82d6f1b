"""Runs of another coordinator that become this one's while its own go on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.integration.runtime.test_runs import spec
from tests.waiting import until

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.runtime.preparing import LeaverPreparation, NotFollowing
from penstock_coordinator.runtime.recovery import adopt_runs
from penstock_coordinator.runtime.views import SetAside, Stopping

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import Coordinator, World

    from penstock_coordinator.ports import RunId

ONE = spec({"name": "a"})
TWO = spec({"name": "a"}, {"name": "b", "dependsOn": ["a"]})
IMPATIENT = spec({"name": "a", "timeouts": {"queued": "1s"}})
MEMBER = CoordinatorRow("c2", OwnershipState.FOLLOWER, 1, 1, 10_000_000, "127.0.0.1:7400", "", 1)


def claim(world: World, *run_ids: RunId) -> None:
    """They are the first coordinator's from now on."""
    for run_id in run_ids:
        world.database.runs[run_id] = replace(world.database.runs[run_id], owner="c1")


async def _left(world: World, *runs: object) -> tuple[Coordinator, list[RunId]]:
    """A coordinator, and what one that is gone has left to it."""
    head, member = await world.coordinator("c1"), await world.coordinator("c2")
    left = [await member.start(each) for each in runs]  # type: ignore[arg-type]  # specifications
    await member.kill()
    return head, left


async def test_what_an_agent_runs_goes_on_and_nobody_is_charged(world: World) -> None:
    head, member = await world.coordinator("c1"), await world.coordinator("c2")
    own = await head.start(ONE)
    left = await member.start(TWO)
    before = member.agent("a1")
    await before.connect(credits=1)
    grant = await before.grant()
    await member.kill()
    claim(world, left)

    assert await head.supervisor.adopt_runs([left]) == 1
    assert await head.supervisor.adopt_runs([left]) == 0, "it has its actor"
    assert head.supervisor.counts.adoptions.runs == 1
    agent = head.agent("a1")
    agent.held = before.held
    await agent.connect(credits=2)
    await agent.until(lambda: [each.verdict for each in agent.verdicts] == [wire.VERDICT_CONTINUE])
    ack = await agent.acked(await agent.succeed(grant))
    assert ack.status == wire.RESULT_ACK_STATUS_COMMITTED
    following = [await agent.grant() for _ in range(2)]
    assert {(each.lease.run_id, each.attempt) for each in following} == {(own, 1), (left, 1)}
    for each in following:
        await agent.succeed(each)
    for run_id in (own, left):
        assert (await head.ended(run_id)).row.state == RunState.COMPLETED


async def test_until_it_has_an_actor_its_results_are_kept_and_callers_come_again(world: World) -> None:
    head, (left,) = await _left(world, ONE)
    claim(world, left)
    world.database.there.clear()
    adopting = asyncio.create_task(head.supervisor.adopt_runs([left]))

    async def arriving() -> bool:
        return left in head.supervisor.arriving

    await until(arriving)
    assert not head.supervisor.lost(left), "the janitor leaves it alone"
    assert head.supervisor.deliver(left, None)  # type: ignore[arg-type]  # nobody looks at it
    with pytest.raises(Stopping):
        await anext(aiter(head.engine.watch(left, 1)), None)
    world.database.there.set()
    assert await adopting == 1
    assert left not in head.supervisor.arriving
    assert await head.engine.cancel_run(left, False, "", None) is None
    assert (await head.ended(left)).row.state == RunState.CANCELLED


async def test_a_live_run_without_an_actor_is_not_told_to_be_cancelled(world: World) -> None:
    head, (left,) = await _left(world, ONE)
    claim(world, left)
    with pytest.raises(Stopping):
        await head.engine.cancel_run(left, False, "", None)
    assert RunState(world.database.runs[left].state) is RunState.PENDING


async def test_only_live_runs_of_its_own_are_adopted_and_one_that_cannot_be_read_is_set_aside(world: World) -> None:
    head, (another_ones, ended, good, bad) = await _left(world, ONE, ONE, ONE, ONE)
    claim(world, ended, good, bad)
    world.database.runs[ended] = replace(world.database.runs[ended], state=RunState.COMPLETED)
    records = world.database.records[bad]
    whole = records[1]
    records[1] = msgspec.structs.replace(whole, payload=b"\xff")
    asked = [another_ones, ended, good, bad, b"?" * 16]
    assert await adopt_runs(head.supervisor, asked) == [good]
    with pytest.raises(SetAside):
        await head.engine.run(bad)
    records[1] = whole
    assert await adopt_runs(head.supervisor, asked) == [bad]
    assert not head.supervisor.set_aside


async def test_of_what_was_read_ahead_only_what_came_since_is_read(world: World) -> None:
    head, member = await world.coordinator("c1"), await world.coordinator("c2")
    members: list[CoordinatorRow] = []
    preparation = LeaverPreparation(lambda: members, head.supervisor.arriving)
    known, stays = await member.start(TWO), await member.start(ONE)
    with pytest.raises(NotFollowing):
        await preparation.prepare("c2")
    members.append(MEMBER)
    assert await preparation.prepare("c2") == 2
    agent = member.agent("a1")
    await agent.connect(credits=1)
    await agent.acked(await agent.succeed(await agent.grant()))
    new = await member.start(ONE)
    await member.kill()
    for run_id in (known, stays):
        records = world.database.records[run_id]
        records[1] = msgspec.structs.replace(records[1], payload=b"read once is enough")

    claim(world, known, new)
    assert await head.supervisor.adopt_runs([known, new]) == 2
    claim(world, stays)
    assert await head.supervisor.adopt_runs([stays]) == 1, "it is kept until its run comes"
    assert not head.supervisor.set_aside
    actor = head.supervisor.actor(known)
    assert actor is not None
    assert actor.run.counts().completed == 1


async def test_the_clock_of_a_step_that_waits_stands_still_until_agents_had_time_to_come(world: World) -> None:
    head, (left,) = await _left(world, IMPATIENT)
    waited = head.supervisor.timing.lease_ttl + head.supervisor.timing.expiry_margin
    claim(world, left)
    before = world.clock.now()
    await head.supervisor.adopt_runs([left])
    actor = head.supervisor.actor(left)
    assert actor is not None
    assert before + waited <= head.supervisor.queued_open_at(actor.run) <= world.clock.now() + waited
    own = await head.start(ONE)
    actor = head.supervisor.actor(own)
    assert actor is not None
    assert head.supervisor.queued_open_at(actor.run) == 0


async def test_runs_that_arrived_long_ago_are_forgotten_and_one_that_comes_again_is_not(world: World) -> None:
    arriving = (head := await world.coordinator("c1")).supervisor.arriving
    long = head.supervisor.timing.lease_ttl + head.supervisor.timing.expiry_margin
    first, again, last = b"1" * 16, b"2" * 16, b"3" * 16
    arriving.arrived([again, first])
    world.clock.set_later(long // 2)
    arriving.arrived([again])
    world.clock.set_later(long // 2)
    arriving.arrived([last])
    assert arriving.arrived_at(first) == 0
    assert 0 < arriving.arrived_at(again) < arriving.arrived_at(last)


async def test_of_runs_that_share_a_limit_the_one_that_had_its_place_keeps_it(world: World) -> None:
    head = await world.coordinator("c1")
    limited = spec({"name": "a"}, max_active_runs=1)
    runs = [await head.start(limited) for _ in range(3)]
    for run_id in runs:
        head.supervisor._actors.pop(run_id).discard()
        head.supervisor.limits.ended(run_id)
    assert sorted(await adopt_runs(head.supervisor, reversed(runs))) == runs
    held = {}
    for run_id in runs:
        actor = head.supervisor.actor(run_id)
        assert actor is not None
        held[run_id] = actor.run.held is not None
    assert list(held.values()) == [False, True, True]
