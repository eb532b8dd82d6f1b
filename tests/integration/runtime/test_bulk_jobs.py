"""Jobs over many runs: their place is kept, and what they do is done once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.integration.runtime.test_runs import spec

from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import BulkState, RunFilter
from penstock_coordinator.runtime.bulk import CANCEL, PAGE, RETRY, ROLLBACK, BulkJob, BulkJobs, Order, Selection

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import Coordinator, World

    from penstock_coordinator.ports import RunId

RUNS = 2 * PAGE + 7


async def start_many(coordinator: Coordinator, count: int) -> list[RunId]:
    return list(await asyncio.gather(*(coordinator.start(spec({"name": "a"})) for _ in range(count))))


async def made(jobs: BulkJobs, selection: Selection | None = None) -> BulkJob:
    job = await jobs.create(Order(CANCEL, selection or Selection(), immediate=True, reason="enough"), None)
    assert isinstance(job, BulkJob)
    return job


async def states(coordinator: Coordinator, runs: list[RunId]) -> set[RunState]:
    found = set()
    for run_id in runs:
        row = await coordinator.supervisor.stores.runs.get(run_id)
        assert row is not None
        found.add(RunState(row.state))
    return found


async def test_a_job_goes_on_where_the_one_before_was_killed(world: World) -> None:
    first = await world.coordinator()
    runs = await start_many(first, RUNS)
    jobs = first.engine.bulk
    job = await made(jobs)
    assert await jobs.run_once()
    await first.kill()

    second = await world.coordinator()
    jobs = second.engine.bulk
    while await jobs.run_once():
        pass
    done = await jobs.get(job.row.job_id)
    assert done is not None
    assert (done.row.state, done.progress.seen, done.progress.done) == (BulkState.COMPLETED, RUNS, RUNS)
    assert await states(second, runs) == {RunState.CANCELLED}


@pytest.mark.parametrize("action", [CANCEL, RETRY])
async def test_what_was_done_before_a_kill_is_counted_once(world: World, action: int) -> None:
    """A run that was cancelled, or retried, is not of the selection any more when the next coordinator looks."""
    first = await world.coordinator()
    await start_many(first, 3)
    if action == RETRY:
        await made(first.engine.bulk)
        while await first.engine.bulk.run_once():
            pass
    jobs = first.engine.bulk
    job = await jobs.create(Order(action, Selection(), immediate=True), None)
    assert isinstance(job, BulkJob)
    rows = await jobs._begin(job)
    assert [await jobs._do(job, row) for row in rows[:2]] == [True] * 2
    await first.kill()

    jobs = (await world.coordinator()).engine.bulk
    while await jobs.run_once():
        pass
    done = await jobs.get(job.row.job_id)
    assert done is not None
    assert (done.progress.seen, done.progress.done, done.progress.failed) == (3, 3, 0)


async def test_a_page_that_is_done_twice_counts_once_in_each_run(world: World) -> None:
    """As after a crash between the cancels and the keeping of the place."""
    coordinator = await world.coordinator()
    runs = await start_many(coordinator, 3)
    jobs = coordinator.engine.bulk
    job = await made(jobs)
    rows = await coordinator.supervisor.stores.runs.list_runs(RunFilter(), 10)
    assert [await jobs._do(job, row) for row in rows] == [True] * 3
    seqs = [(await coordinator.ended(run_id)).row.last_seq for run_id in runs]
    assert [await jobs._do(job, row) for row in rows] == [True] * 3
    assert [(await coordinator.ended(run_id)).row.last_seq for run_id in runs] == seqs


async def test_only_runs_from_before_the_job_are_touched(world: World) -> None:
    coordinator = await world.coordinator()
    old = await start_many(coordinator, 2)
    jobs = coordinator.engine.bulk
    job = await made(jobs)
    new = await start_many(coordinator, 2)
    while await jobs.run_once():
        pass
    assert await states(coordinator, old) == {RunState.CANCELLED}
    assert await states(coordinator, new) == {RunState.PENDING}
    found = await jobs.get(job.row.job_id)
    assert found is not None
    assert found.progress.seen == 2


async def test_a_run_that_is_set_aside_is_told_of_and_holds_up_no_other(world: World) -> None:
    coordinator = await world.coordinator()
    bad, good = await start_many(coordinator, 2)
    coordinator.supervisor.set_aside.put(bad, RuntimeError("for the test"), "")
    jobs = coordinator.engine.bulk
    job = await made(jobs)
    while await jobs.run_once():
        pass
    done = await jobs.get(job.row.job_id)
    assert done is not None
    assert (done.progress.done, done.progress.failed) == (1, 1)
    assert [each.run_id for each in done.progress.refusals] == [bad]
    assert await states(coordinator, [good]) == {RunState.CANCELLED}


async def test_a_stopped_job_does_no_more(world: World) -> None:
    coordinator = await world.coordinator()
    runs = await start_many(coordinator, PAGE + 1)
    jobs = coordinator.engine.bulk
    job = await made(jobs)
    assert await jobs.count(job.order) == (PAGE + 1, 0)
    await jobs.run_once()
    stopped = await jobs.stop(job.row.job_id)
    assert stopped is not None
    assert (stopped.row.state, stopped.progress.done) == (BulkState.STOPPED, PAGE)
    assert not await jobs.run_once()
    assert await states(coordinator, runs) == {RunState.CANCELLED, RunState.PENDING}


async def test_a_retry_that_is_done_twice_opens_one_generation(world: World) -> None:
    """As after a crash between the retries and the keeping of the place."""
    coordinator = await world.coordinator()
    runs = await start_many(coordinator, 3)
    jobs = coordinator.engine.bulk
    await made(jobs)
    while await jobs.run_once():
        pass
    job = await jobs.create(Order(RETRY, Selection(), reason="again", requested_by="ann"), None)
    assert isinstance(job, BulkJob)
    rows = await coordinator.supervisor.stores.runs.list_runs(RunFilter(), 10)
    assert [await jobs._do(job, row) for row in rows] == [True] * 3
    assert [await jobs._do(job, row) for row in rows] == [True] * 3
    assert {(await coordinator.engine.run(run_id)).generation for run_id in runs} == {2}
    assert await states(coordinator, runs) == {RunState.PENDING}


async def test_runs_are_rolled_back_once_each(world: World) -> None:
    coordinator = await world.coordinator()
    runs = await start_many(coordinator, 3)
    for run_id in runs[:2]:
        await coordinator.engine.cancel_run(run_id, True, "enough", None)
        await coordinator.ended(run_id)
    jobs = coordinator.engine.bulk
    job = await jobs.create(Order(ROLLBACK, Selection(), reason="a mistake"), None)
    assert isinstance(job, BulkJob)
    while await jobs.run_once():
        pass
    found = await jobs.get(job.row.job_id)
    assert found is not None
    assert (found.progress.seen, found.progress.done) == (2, 2)
    assert await states(coordinator, runs[:2]) == {RunState.ROLLED_BACK}
    assert await states(coordinator, runs[2:]) == {RunState.PENDING}
