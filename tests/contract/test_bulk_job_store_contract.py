"""What the store of bulk jobs promises, on PostgreSQL and in memory."""

from __future__ import annotations

import asyncio

from tests.contract.records import new_run_id, request

from penstock_coordinator.ports import BulkJobRow, BulkState, Repeated, Stores

TOP = b"\xff" * 16


def job(order: bytes = b"order") -> BulkJobRow:
    return BulkJobRow(new_run_id(), BulkState.RUNNING, 1_000, None, TOP, order, b"progress")


async def test_a_job_comes_back_as_it_was_written(stores: Stores) -> None:
    one = job(b"\x00\xff")
    assert await stores.bulk_jobs.create(one, None) is None
    assert await stores.bulk_jobs.get(one.job_id) == one
    assert await stores.bulk_jobs.get(new_run_id()) is None


async def test_the_same_request_makes_one_job(stores: Stores) -> None:
    one, again = job(), job()
    key = request("bulk-1").key
    assert await stores.bulk_jobs.create(one, key) is None
    assert await stores.bulk_jobs.create(again, key) == Repeated(same=True, answer=one.job_id)
    other = request("bulk-1", digest=b"other").key
    assert await stores.bulk_jobs.create(job(), other) == Repeated(same=False, answer=one.job_id)
    assert await stores.bulk_jobs.list_jobs(10) == [one]


async def test_jobs_are_listed_newest_first_and_live_ones_oldest_first(stores: Stores) -> None:
    jobs = [job() for _ in range(3)]
    for each in jobs:
        await stores.bulk_jobs.create(each, None)
    await stores.bulk_jobs.stop(jobs[1].job_id, 5)
    listed = await stores.bulk_jobs.list_jobs(2)
    assert [each.job_id for each in listed] == [jobs[2].job_id, jobs[1].job_id]
    assert [each.job_id for each in await stores.bulk_jobs.list_jobs(9, jobs[1].job_id)] == [jobs[0].job_id]
    assert await stores.bulk_jobs.live() == [jobs[0], jobs[2]]


async def test_a_place_is_kept_from_the_place_before_alone(stores: Stores) -> None:
    one = job()
    await stores.bulk_jobs.create(one, None)
    cursors = [new_run_id() for _ in range(2)]
    kept = await asyncio.gather(*(stores.bulk_jobs.advance(one, cursor, cursor, None) for cursor in cursors))
    assert sorted(kept) == [False, True]
    found = await stores.bulk_jobs.get(one.job_id)
    assert found is not None
    assert found.cursor == found.progress == cursors[kept.index(True)]
    assert await stores.bulk_jobs.advance(found, new_run_id(), b"all", 9) is True
    ended = await stores.bulk_jobs.get(one.job_id)
    assert ended is not None
    assert (ended.state, ended.end_time, ended.progress) == (BulkState.COMPLETED, 9, b"all")


async def test_a_stopped_job_goes_no_further(stores: Stores) -> None:
    one = job()
    await stores.bulk_jobs.create(one, None)
    await stores.bulk_jobs.stop(one.job_id, 5)
    await stores.bulk_jobs.stop(one.job_id, 6)
    assert await stores.bulk_jobs.advance(one, new_run_id(), b"", None) is False
    found = await stores.bulk_jobs.get(one.job_id)
    assert found is not None
    assert (found.state, found.end_time, found.cursor) == (BulkState.STOPPED, 5, TOP)
