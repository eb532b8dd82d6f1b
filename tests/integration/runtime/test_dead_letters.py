"""Budgets and dead letters through the runtime: who is charged, what becomes a letter, and what closes it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.runtime.test_reopening import failed_run, key
from tests.integration.runtime.test_runs import spec

from penstock_coordinator.core.plan.limits import RunLimits
from penstock_coordinator.core.run.events import WHOLE, Budget, Charge, LeaseLost
from penstock_coordinator.core.run.resets import NotPossible
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import BulkState, DeadLetter, LetterFilter, LetterState, Repeated
from penstock_coordinator.runtime.bulk import PURGE, REQUEUE, BulkJob, LetterSelection, Order, Selection
from penstock_coordinator.runtime.dead_letters import UnknownLetter
from penstock_coordinator.runtime.renewing import NEWEST
from penstock_coordinator.runtime.reopening import Reopened
from penstock_coordinator.runtime.views import UnknownRun

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import Coordinator, World
    from tests.integration.runtime.scripted_agent import ScriptedAgent

    from penstock_coordinator.ports import RunId

ANY_STATE = tuple(int(state) for state in LetterState)


async def letters(coordinator: Coordinator, **where: Any) -> list[DeadLetter]:
    return await coordinator.engine.dead_letters.list_letters(LetterFilter(**where), 100, None)


async def only(coordinator: Coordinator, **where: Any) -> DeadLetter:
    (found,) = await letters(coordinator, **where)
    return found


async def losses(coordinator: Coordinator, run_id: RunId) -> list[LeaseLost]:
    events = [event async for page in coordinator.engine.watch(run_id, 1) for _, event in page]
    return [event for event in events if isinstance(event, LeaseLost)]


async def jobs_done(coordinator: Coordinator, order: Order) -> BulkJob:
    jobs = coordinator.engine.bulk
    job = await jobs.create(order, None)
    assert isinstance(job, BulkJob)
    while await jobs.run_once():
        pass
    done = await jobs.get(job.row.job_id)
    assert done is not None
    assert done.row.state is BulkState.COMPLETED
    return done


# --- budgets


async def test_three_agents_that_die_of_a_step_are_poison(world: World) -> None:
    coordinator = await world.coordinator()
    run_id = await coordinator.start(spec({"name": "a", "retry": {"max_losses": 1}}))
    for number in range(3):
        agent = coordinator.agent(boot_id=f"boot-{number}")
        await agent.connect(credits=10)
        assert (await agent.grant()).attempt == number + 1
        await agent.beat()
        await coordinator.forgets(agent)
    await coordinator.agent(boot_id="boot-3").connect()
    assert (await coordinator.ended(run_id)).row.state == RunState.FAILED
    found = await losses(coordinator, run_id)
    assert [(each.cause, each.charge, each.boot) for each in found] == [
        ("agent_restarted", Charge.POISON, f"boot-{number}") for number in range(3)
    ]
    view, attempts = await coordinator.engine.step_run(run_id, 0, WHOLE)
    assert view.failure is not None
    assert view.failure.reason == "Poison"
    assert [each.charged_to for each in attempts] == [Budget.POISON] * 3
    letter = (await only(coordinator, budgets=(int(Budget.POISON),))).letter
    assert (letter.reason, letter.attempts, letter.display_name) == ("Poison", 3, "a")


async def expired(coordinator: Coordinator, agent: ScriptedAgent) -> None:
    """So long nothing was heard of it that its leases are over."""
    (holder,) = coordinator.supervisor.fleet.leases.holders_of(agent.agent_id)
    holder.heard_at -= 3_600_000_000
    coordinator.supervisor.fleet.expire()


async def test_an_agent_that_hung_up_and_does_not_come_back_has_died(world: World) -> None:
    coordinator = await world.coordinator()
    run_id = await coordinator.start(spec({"name": "a"}))
    agent = coordinator.agent()
    await agent.connect(credits=10)
    await agent.grant()
    await agent.beat()
    await coordinator.forgets(agent)
    await expired(coordinator, agent)
    second = coordinator.agent("agent-2", boot_id="other")
    await second.connect(credits=10)
    grant = await second.grant()
    await second.beat()
    await expired(coordinator, second)
    third = coordinator.agent("agent-3", boot_id="third")
    await third.connect(credits=10)
    grant = await third.grant()
    assert grant.attempt == 3
    await third.acked(await third.succeed(grant))
    await coordinator.ended(run_id)
    found = await losses(coordinator, run_id)
    assert [(each.cause, each.charge) for each in found] == [
        ("agent_gone", Charge.POISON),
        ("lease_expired", Charge.INFRASTRUCTURE),
    ], "one that fell silent may have been cut off"
    _, attempts = await coordinator.engine.step_run(run_id, 0, WHOLE)
    assert [each.charged_to for each in attempts] == [Budget.POISON, Budget.INFRASTRUCTURE, Budget.NONE]


async def test_agents_that_fall_silent_use_up_what_the_setting_allows(world: World) -> None:
    coordinator = await world.coordinator(run_limits=RunLimits(losses=2))
    run_id = await coordinator.start(spec({"name": "a", "retry": {"max_attempts": 5}}))
    for number in range(2):
        agent = coordinator.agent(f"agent-{number}", boot_id=f"boot-{number}")
        await agent.connect(credits=10)
        await agent.grant()
        await agent.beat()
        await expired(coordinator, agent)
    assert (await coordinator.ended(run_id)).row.state == RunState.FAILED
    letter = (await only(coordinator)).letter
    assert (letter.reason, letter.budget) == ("AgentLost", Budget.INFRASTRUCTURE)
    assert letter.message.startswith("2 agents were lost")


async def test_what_a_person_cancels_is_charged_to_nobody(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await coordinator.start(spec({"name": "a"}, {"name": "b"}))
    first, _ = await agent.grant(), await agent.grant()
    await agent.beat()
    await coordinator.engine.cancel_run(run_id, False, "enough", None)
    await agent.acked(await agent.fail(first))
    await expired(coordinator, agent)
    assert (await coordinator.ended(run_id)).row.state == RunState.CANCELLED
    for step in (0, 1):
        _, attempts = await coordinator.engine.step_run(run_id, step, WHOLE)
        assert [each.charged_to for each in attempts] == [Budget.NONE]
    assert await letters(coordinator, states=ANY_STATE) == []


# --- letters


async def test_a_failure_that_is_allowed_and_one_that_is_retried_are_no_letters(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    steps: tuple[dict[str, object], ...] = (
        {"name": "allowed", "allow_failure": True},
        {"name": "again", "retry": {"max_attempts": 2, "initial_backoff": "0s"}},
    )
    run_id = await coordinator.start(spec(*steps))
    for _ in range(2):
        await agent.acked(await agent.fail(await agent.grant()))
    await agent.acked(await agent.succeed(await agent.grant()))
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    _, attempts = await coordinator.engine.step_run(run_id, 1, WHOLE)
    assert [each.charged_to for each in attempts] == [Budget.RETRIES, Budget.NONE]
    assert await letters(coordinator, states=ANY_STATE) == []


async def test_a_letter_is_shown_with_all_that_a_person_needs(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    second: dict[str, object] = {"name": "b", "inputs": {"x": {"step": {"step": "a"}}}}
    run_id = await coordinator.start(spec({"name": "a"}, second))
    await agent.acked(await agent.succeed(await agent.grant(), b'{"v":1}'))
    await agent.acked(await agent.fail(await agent.grant()))
    await coordinator.ended(run_id)
    found = await only(coordinator)
    assert (found.run_id, found.letter.step_name, found.letter.budget) == (run_id, "b", Budget.RETRIES)
    shown = await coordinator.engine.dead_letters.show(run_id, found.letter.seq)
    assert shown.inputs == {"x": b'{"v":1}'}
    assert [each.number for each in shown.attempts] == [1]
    assert shown.step_run is not None
    assert any("dead-letters requeue" in remedy for remedy in shown.remedies)
    with pytest.raises(UnknownLetter):
        await coordinator.engine.dead_letters.show(run_id, 1)


async def test_a_requeue_runs_the_step_again_and_closes_the_letter(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await failed_run(coordinator, agent)
    seq = (await only(coordinator)).letter.seq
    requeue = coordinator.engine.dead_letters.requeue
    assert await requeue(run_id, seq, "ann", "mended", key("k")) == Reopened(kept=1, reset=1, kept_runs=1)
    assert await requeue(run_id, seq, "ann", "mended", key("k")) == Reopened(kept=1, reset=1, kept_runs=1)
    other = await requeue(run_id, seq, "ann", "mended", key("k", b"other"))
    assert isinstance(other, Repeated)
    with pytest.raises(NotPossible, match="was begun again since"):
        await requeue(run_id, seq, "ann", "", None)
    assert await letters(coordinator) == []
    closed = await only(coordinator, states=ANY_STATE)
    assert (closed.state, closed.closed_by) == (LetterState.REQUEUED, "ann")
    await agent.acked(await agent.fail(await agent.grant()))
    await coordinator.ended(run_id)
    again = await only(coordinator)
    assert (again.letter.generation, again.letter.attempts) == (2, 2)


async def test_the_letter_of_a_step_that_the_version_does_without_is_closed_and_shown(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await failed_run(coordinator, agent)
    await coordinator.create(spec({"name": "a"}))
    await coordinator.engine.retry_run(run_id, "bob", "", None, NEWEST)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    closed = await only(coordinator, states=ANY_STATE)
    assert closed.state is LetterState.REQUEUED
    shown = await coordinator.engine.dead_letters.show(run_id, closed.letter.seq)
    assert (shown.step_run, shown.attempts, shown.remedies) == (None, [], [])


@pytest.mark.parametrize("way", ["retry", "rerun"])
async def test_other_ways_to_run_again_close_letters_too(world: World, way: str) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await failed_run(coordinator, agent)
    if way == "retry":
        await coordinator.engine.retry_run(run_id, "bob", "", None)
    else:
        await coordinator.engine.rerun_step(run_id, 0, WHOLE, "bob", "", None)
    closed = await only(coordinator, states=ANY_STATE)
    assert (closed.state, closed.closed_by) == (LetterState.REQUEUED, "bob")


async def test_a_purged_letter_is_off_the_list_and_its_run_is_not(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await failed_run(coordinator, agent)
    seq = (await only(coordinator)).letter.seq
    engine = coordinator.engine.dead_letters
    assert (await engine.purge(run_id, seq, "ann")).state is LetterState.PURGED
    assert (await engine.purge(run_id, seq, "bob")).closed_by == "ann"
    assert await letters(coordinator) == []
    with pytest.raises(NotPossible, match="was purged"):
        await engine.requeue(run_id, seq, "", "", None)
    assert (await coordinator.engine.run(run_id)).row.state == RunState.FAILED
    with pytest.raises(UnknownLetter):
        await engine.purge(run_id, 1, "")


async def test_a_step_is_requeued_while_its_run_goes_on(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await coordinator.start(spec({"name": "a"}, {"name": "b"}))
    first, other = await agent.grant(), await agent.grant()
    await agent.acked(await agent.fail(first))
    letter = (await only(coordinator)).letter
    await coordinator.engine.dead_letters.requeue(run_id, letter.seq, "", "", None)
    again = await agent.grant()
    assert (again.lease.step, again.attempt) == (first.lease.step, 2)
    await agent.acked(await agent.succeed(again))
    await agent.acked(await agent.succeed(other))
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


# --- sub-pipelines


async def test_the_letter_of_a_sub_pipeline_is_that_of_its_own_step(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    child = spec({"name": "inner"})
    child.name = "child"
    await coordinator.create(child)
    run_id = await coordinator.start(spec({"name": "outer", "pipeline": {"name": "child"}, "command": None}))
    await agent.acked(await agent.fail(await agent.grant()))
    assert (await coordinator.ended(run_id)).row.state == RunState.FAILED
    found = await only(coordinator)
    assert (found.letter.pipeline, found.letter.step_name) == ("child", "inner")
    shown = await coordinator.engine.dead_letters.show(found.run_id, found.letter.seq)
    assert any("is a step of the run" in remedy for remedy in shown.remedies)


async def test_the_run_of_a_sub_pipeline_is_opened_alone(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    child = spec({"name": "inner"})
    child.name = "child"
    await coordinator.create(child)
    run_id = await coordinator.start(spec({"name": "outer", "pipeline": {"name": "child"}, "command": None}))
    await agent.acked(await agent.fail(await agent.grant()))
    await coordinator.ended(run_id)
    found = await only(coordinator)
    await coordinator.engine.dead_letters.requeue(found.run_id, found.letter.seq, "", "", None)
    await agent.acked(await agent.succeed(await agent.grant()))
    assert (await coordinator.ended(found.run_id)).row.state == RunState.COMPLETED
    assert (await coordinator.engine.run(run_id)).row.state == RunState.FAILED


async def test_a_sub_pipeline_that_cannot_start_is_a_letter_of_the_step_above(world: World) -> None:
    coordinator = await world.coordinator()
    run_id = await coordinator.start(spec({"name": "outer", "pipeline": {"name": "nobody"}, "command": None}))
    assert (await coordinator.ended(run_id)).row.state == RunState.FAILED
    found = await only(coordinator)
    assert (found.letter.step_name, found.letter.budget) == ("outer", Budget.NONE)


# --- many at once


async def failed_map(coordinator: Coordinator, agent: ScriptedAgent, items: int) -> RunId:
    run_id = await coordinator.start(spec({"name": "m", "map": {"values": list(range(items))}}))
    for _ in range(items):
        await agent.fail(await agent.grant())
    assert (await coordinator.ended(run_id)).row.state == RunState.FAILED
    return run_id


async def test_a_job_requeues_all_letters_of_a_run_in_one_generation(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=1_000)
    runs = [await failed_map(coordinator, agent, 5) for _ in range(2)]
    assert len(await letters(coordinator)) == 10
    order = Order(REQUEUE, Selection(), requested_by="ann", letters=LetterSelection(step="m"))
    assert await coordinator.engine.bulk.count(order) == (2, 10)
    done = await jobs_done(coordinator, order)
    assert (done.progress.seen, done.progress.done, done.progress.failed) == (2, 2, 0)
    assert await letters(coordinator) == []
    for _ in range(10):
        await agent.succeed(await agent.grant())
    for run_id in runs:
        view = await coordinator.ended(run_id)
        assert (view.row.state, view.generation) == (RunState.COMPLETED, 2)


async def test_a_job_that_was_killed_requeues_nothing_twice(world: World) -> None:
    first = await world.coordinator()
    agent = first.agent()
    await agent.connect(credits=1_000)
    runs = [await failed_map(first, agent, 2) for _ in range(3)]
    await agent.goodbye()
    jobs = first.engine.bulk
    job = await jobs.create(Order(REQUEUE, Selection(), letters=LetterSelection(pipeline="p")), None)
    assert isinstance(job, BulkJob)
    rows = await jobs._begin(job)
    assert [await jobs._do(job, row) for row in rows[:2]] == [True] * 2
    await first.kill()

    second = await world.coordinator()
    jobs = second.engine.bulk
    while await jobs.run_once():
        pass
    done = await jobs.get(job.row.job_id)
    assert done is not None
    assert (done.progress.seen, done.progress.done, done.progress.unchanged) == (3, 3, 0)
    for run_id in runs:
        assert (await second.engine.run(run_id)).generation == 2


async def test_a_job_purges_what_its_filter_finds(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=1_000)
    run_id, other = await failed_map(coordinator, agent, 3), await failed_run(coordinator, agent)
    order = Order(PURGE, Selection(), requested_by="ann", letters=LetterSelection(run_id=run_id))
    done = await jobs_done(coordinator, order)
    assert (done.progress.seen, done.progress.done) == (1, 1)
    assert [each.run_id for each in await letters(coordinator)] == [other]
    assert len(await letters(coordinator, states=(int(LetterState.PURGED),))) == 3


async def test_a_run_that_cannot_be_opened_refuses_and_the_others_go_on(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=1_000)
    good = await failed_run(coordinator, agent)
    live = await coordinator.start(spec({"name": "a"}, {"name": "b"}, fail_fast=True))
    first, _ = await agent.grant(), await agent.grant()
    await agent.acked(await agent.fail(first))
    done = await jobs_done(coordinator, Order(REQUEUE, Selection(), letters=LetterSelection(pipeline="p")))
    assert (done.progress.done, done.progress.failed) == (1, 1)
    assert [(each.run_id, each.message) for each in done.progress.refusals] == [
        (live, "the run is CANCELLING: wait until it is at rest")
    ]
    assert (await coordinator.engine.run(good)).generation == 2


# --- one letter, asked for by many


async def fails_all(agent: ScriptedAgent) -> None:
    while True:
        await agent.fail(await agent.grant())


async def test_of_many_requeues_of_one_letter_one_is_accepted(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await failed_run(coordinator, agent)
    seq = (await only(coordinator)).letter.seq
    requeue = coordinator.engine.dead_letters.requeue
    failing = asyncio.create_task(fails_all(agent))
    asked = (requeue(run_id, seq, "ann", "", key(f"k{number}")) for number in range(20))
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert (await coordinator.ended(run_id)).generation == 2
    failing.cancel()
    assert [each for each in found if not isinstance(each, NotPossible)] == [Reopened(kept=1, reset=1, kept_runs=1)]
    refusals = {str(each) for each in found if isinstance(each, NotPossible)}
    assert len(refusals) == 1
    assert "was begun again since" in refusals.pop()
    assert (await coordinator.engine.dead_letters.get(run_id, seq)).state is LetterState.REQUEUED


@pytest.mark.parametrize("first", ["purge", "requeue"])
async def test_a_letter_is_either_requeued_or_purged(world: World, first: str) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await failed_run(coordinator, agent)
    seq = (await only(coordinator)).letter.seq
    engine = coordinator.engine.dead_letters
    requeue, purge = engine.requeue(run_id, seq, "ann", "", None), engine.purge(run_id, seq, "bob")
    if first == "requeue":
        done, purged = await asyncio.gather(requeue, purge)
        assert done == Reopened(kept=1, reset=1, kept_runs=1)
        assert isinstance(purged, DeadLetter)
        assert (purged.state, purged.closed_by) == (LetterState.REQUEUED, "ann")
    else:
        gone, refused = await asyncio.gather(purge, requeue, return_exceptions=True)
        assert isinstance(gone, DeadLetter)
        assert gone.state is LetterState.PURGED
        assert isinstance(refused, NotPossible)
        assert "was purged" in str(refused)
        assert (await coordinator.engine.run(run_id)).generation == 1


async def test_no_letter_of_a_removed_run_is_purged(world: World) -> None:
    """What is left of a removed run goes a moment after it."""
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await failed_run(coordinator, agent)
    seq = (await only(coordinator)).letter.seq
    await coordinator.supervisor.at_rest(run_id)
    del world.database.runs[run_id]
    with pytest.raises(UnknownRun):
        await coordinator.engine.dead_letters.purge(run_id, seq, "ann")
    assert (await coordinator.engine.dead_letters.get(run_id, seq)).state is LetterState.OPEN
