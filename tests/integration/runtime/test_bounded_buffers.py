"""What is kept for others is bounded, and what happens past the bound is what docs/overload.md says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from tests.integration.api.conftest import ONE_STEP, spec
from tests.integration.runtime.conftest import Coordinator, World
from tests.waiting import until

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.core.run.messages import Continue
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import BulkState, Unavailable
from penstock_coordinator.runtime import actor as actors
from penstock_coordinator.runtime import session as sessions
from penstock_coordinator.runtime.actor import Actor, Mail
from penstock_coordinator.runtime.admission import Strain
from penstock_coordinator.runtime.bulk import CANCEL, BulkJob, Order, Selection
from penstock_coordinator.runtime.session import AgentSession
from penstock_coordinator.runtime.views import Overloaded, SlowReader, Undecided
from penstock_coordinator.runtime.watching import BUFFERED_EVENTS, Watcher


@contextmanager
def impatient(coordinator: Coordinator) -> Iterator[None]:
    """In here a caller waits for a commit for 50 ms: what is to be committed has to be so before."""
    with patch.object(coordinator.supervisor, "patience", 0.05):
        yield


async def test_results_past_the_mailboxs_bound_are_left_to_the_agent_which_sends_them_again(world: World) -> None:
    coordinator = await world.coordinator(result_resend_interval=100_000)
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await coordinator.start(ONE_STEP)
    grant = await agent.grant()
    actor = coordinator.supervisor.actor(run_id)
    assert actor is not None
    with patch.object(actors, "MAILBOX_LIMIT", 1):
        actor.post(Mail(Continue(1)))
        assert actor.full
    with patch.object(Actor, "full", True):
        await agent.succeed(grant)
        await agent.beat()  # the answer comes after whatever there is to say of the result
        assert not agent.acks
    again = await agent.succeed(grant)
    assert (await agent.acked(again)).status == wire.RESULT_ACK_STATUS_COMMITTED
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_callers_past_the_bound_of_what_is_wanted_of_one_run_are_told_to_come_back(world: World) -> None:
    coordinator = await world.coordinator()
    run_id = await coordinator.start(ONE_STEP)
    faults = coordinator.stores.faults
    faults.hold = asyncio.Event()
    with patch.object(actors, "CONTROL_LIMIT", 10), impatient(coordinator):
        asked = [asyncio.create_task(_pause(coordinator, run_id)) for _ in range(15)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert sorted(type(each).__name__ for each in outcomes) == ["Overloaded"] * 5 + ["Undecided"] * 10
    faults.hold.set()


async def test_nothing_is_asked_of_runs_while_commits_wait_for_the_database(world: World) -> None:
    coordinator = await world.coordinator()
    run_id = await coordinator.start(ONE_STEP)
    coordinator.supervisor.admission.measure(Strain(), "commits wait for the database")
    with pytest.raises(Unavailable):
        await _pause(coordinator, run_id)
    coordinator.supervisor.admission.measure(Strain(), "")
    await _pause(coordinator, run_id)


async def _pause(coordinator: Coordinator, run_id: bytes) -> object:
    return await coordinator.engine.pause_run(run_id, "", "", None)


async def test_an_agent_that_talks_and_does_not_listen_loses_its_stream(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=0)
    session: AgentSession = next(iter(coordinator.supervisor.fleet.sessions()))
    with patch.object(sessions, "MOST_WAITING_MESSAGES", 100):
        for _ in range(150):
            session.send(wire.CoordinatorMessage(heartbeat_ack=wire.HeartbeatAck()))
    assert session.closed.is_set()
    assert sum(1 for _ in session.drain()) <= 100
    await agent.until(agent.ended.is_set)


def test_a_watcher_that_falls_behind_holds_nothing_any_more() -> None:
    watcher = Watcher()
    watcher.push([(number, None) for number in range(BUFFERED_EVENTS)])  # type: ignore[misc]  # what they are is all one
    assert len(watcher._buffer) == BUFFERED_EVENTS
    watcher.push([(BUFFERED_EVENTS, None)])  # type: ignore[list-item]
    assert watcher.overflowed
    assert not watcher._buffer


async def test_a_slow_reader_is_told_the_event_to_go_on_with_and_misses_none(world: World) -> None:
    coordinator = await world.coordinator()
    run_id = await coordinator.start(ONE_STEP)
    following = aiter(coordinator.engine.watch(run_id, 1))
    last = (await anext(following))[-1][0]
    with patch("penstock_coordinator.runtime.watching.BUFFERED_EVENTS", 0):
        agent = coordinator.agent()
        await agent.connect(credits=10)
        await agent.succeed(await agent.grant())
        await coordinator.ended(run_id)
        with pytest.raises(SlowReader) as slow:
            await anext(following)
    assert slow.value.next_seq == last + 1
    rest = [number async for events in coordinator.engine.watch(run_id, slow.value.next_seq) for number, _ in events]
    assert rest[0] == last + 1
    assert rest == list(range(last + 1, rest[-1] + 1))


async def test_a_start_that_nobody_waits_for_any_more_is_committed_all_the_same(world: World) -> None:
    coordinator = await world.coordinator(commit_patience=50_000)
    faults = coordinator.stores.faults
    faults.hold = asyncio.Event()
    with pytest.raises(Undecided):
        await coordinator.start(ONE_STEP)
    assert coordinator.supervisor.live_runs == 1
    faults.hold.set()

    async def stored() -> bool:
        return len(coordinator.stores.runs._database.runs) == 1  # type: ignore[attr-defined]  # in memory

    assert await until(stored)
    assert Overloaded("x").retry_after == 1_000_000


async def test_a_bulk_job_outlives_commits_that_take_longer_than_anybody_waits(world: World) -> None:
    coordinator = await world.coordinator()
    runs = [await coordinator.start(ONE_STEP) for _ in range(3)]
    jobs, faults = coordinator.engine.bulk, coordinator.stores.faults
    job = await jobs.create(Order(CANCEL, Selection(), immediate=True), None)
    assert isinstance(job, BulkJob)
    faults.hold = asyncio.Event()

    async def done() -> bool:
        assert not working.done()
        jobs._wake.set()
        found = await jobs.get(job.row.job_id)
        return found is not None and found.row.state == BulkState.COMPLETED and found.progress.done == len(runs)

    with impatient(coordinator):
        working = asyncio.create_task(jobs.run())
        with pytest.raises(Undecided):
            await coordinator.engine.cancel_run(runs[0], True, "", None)
        faults.hold.set()
        assert await until(done)
    working.cancel()
    await asyncio.wait({working})


async def test_a_cancel_reaches_the_runs_below_when_commits_take_longer_than_anybody_waits(world: World) -> None:
    coordinator = await world.coordinator()
    await coordinator.create(ONE_STEP)
    agent = coordinator.agent()
    await agent.connect(credits=0)
    parent = await coordinator.start(spec({"name": "child", "pipeline": {"name": "p"}}, name="parent"))

    async def both_live() -> bool:
        return coordinator.supervisor.live_runs == 2

    assert await until(both_live)
    faults = coordinator.stores.faults
    faults.hold = asyncio.Event()
    with impatient(coordinator), pytest.raises(Undecided):
        await coordinator.engine.cancel_run(parent, False, "enough", None)
    faults.hold.set()
    assert (await coordinator.ended(parent)).row.state == RunState.CANCELLED

    async def none_live() -> bool:
        return coordinator.supervisor.live_runs == 0

    assert await until(none_live)


async def test_whoever_looks_at_a_run_waits_no_longer_for_a_commit_either(world: World) -> None:
    coordinator = await world.coordinator()
    run_id = await coordinator.start(ONE_STEP)
    faults = coordinator.stores.faults
    faults.hold = asyncio.Event()
    with impatient(coordinator):
        with pytest.raises(Undecided):
            await _pause(coordinator, run_id)
        with pytest.raises(Unavailable) as away:
            await coordinator.engine.run(run_id)
    assert not isinstance(away.value, Undecided)
    faults.hold.set()
    assert (await coordinator.engine.run(run_id)).paused is not None
