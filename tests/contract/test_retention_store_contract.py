"""What the removal of old data promises, on PostgreSQL and in memory."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.contract.backends import Backend, open_speaking
from tests.contract.records import (
    artifact,
    artifact_use,
    attempt,
    letter,
    new_run,
    new_run_id,
    record,
    request,
    start,
    step_run,
)

from penstock_coordinator.ports import (
    BulkJobRow,
    BulkState,
    Committed,
    EndedRuns,
    KeyClaim,
    KeyTaken,
    LogChunk,
    LogFilter,
    LogLine,
    OldRows,
    Origin,
    Parent,
    Record,
    Removed,
    Reuse,
    RunChange,
    RunId,
    RunRows,
    Stores,
)
from penstock_coordinator.runtime.log_packing import make_pack

RUNNING, COMPLETED, FAILED = 2, 6, 7
FIRST = bytes(16)
LONG_AGO, NOW = 1_795_010_000_000_000, 1_796_000_000_000_000
"""Later than the ids of all runs: nothing of a run is older than its id."""
EVER = EndedRuns()


async def commit(stores: Stores, *records: Record) -> None:
    assert await stores.journal.commit(0, records) == [Committed()] * len(records)


async def add_run(
    stores: Stores,
    *,
    ended_at: int | None = LONG_AGO,
    parent: RunId | None = None,
    pipeline: str = "etl",
    key: str = "",
    rows: int = 0,
) -> RunId:
    """A run with so many events more, step runs, attempts and chunks of logs; live if it has no end."""
    run_id = new_run_id()
    origin = Origin(parent=None if parent is None else Parent(parent, 0, -1), run_key=key)
    new = msgspec.structs.replace(new_run(pipeline), origin=origin)
    claim = KeyClaim(pipeline, key, Reuse.REJECT) if key else None
    await commit(stores, msgspec.structs.replace(start(run_id, new=new), claim=claim))
    for number in range(rows):
        rows_of_step = {
            "step_runs": (step_run(number),),
            "attempts": (attempt(number),),
            "letters": (letter(3 + number),),
            "artifacts": (artifact(3 + number),),
        }
        await commit(stores, msgspec.structs.replace(record(run_id, 3 + number), **rows_of_step))
        await add_log_pack(stores, run_id, number)
        await stores.artifacts.add_uses([(run_id, artifact_use(number))])
    for number in range(rows):
        await stores.logs.append_logs([chunk(run_id, number)])
    if ended_at is not None:
        await commit(stores, ending(run_id, 3 + rows, ended_at))
    return run_id


def chunk(run_id: RunId, step: int) -> LogChunk:
    return LogChunk(run_id, step, -1, 1, 5, (LogLine(1, 1, 5, "line"),))


async def add_log_pack(stores: Stores, run_id: RunId, number: int) -> None:
    """Of a run that has no lines in rows."""
    await stores.logs.append_logs([chunk(run_id, 100 + number)])
    name = f"logs/{run_id.hex()}/{number}"
    made = make_pack(run_id, name, await stores.log_packs.oldest_rows(run_id, 1, 1), 1)
    await stores.log_packs.claim_name(name, run_id, NOW)
    assert await stores.log_packs.add_pack(made.pack, made.parts)


def ending(run_id: RunId, seq: int, ended_at: int = LONG_AGO) -> Record:
    return msgspec.structs.replace(
        record(run_id, seq), change=RunChange(COMPLETED, end_time=ended_at, summary=b"packed")
    )


def reopening(run_id: RunId, seq: int) -> Record:
    return msgspec.structs.replace(record(run_id, seq), change=RunChange(RUNNING, generation=2))


async def ended(stores: Stores, which: EndedRuns = EVER) -> list[RunId]:
    return await stores.retention.ended_runs(which, FIRST, 100)


async def left(stores: Stores, run_id: RunId) -> list[int]:
    return [await stores.retention.count_rows(rows, [run_id]) for rows in RunRows]


# --- which runs may go


async def test_runs_at_rest_are_found_by_their_age_oldest_first(stores: Stores) -> None:
    old, live, older = (
        await add_run(stores),
        await add_run(stores, ended_at=None),
        await add_run(stores, ended_at=LONG_AGO - 1),
    )
    other = await add_run(stores, ended_at=NOW)
    assert await ended(stores) == [old, older, other]
    assert await ended(stores, EndedRuns(ended_before=LONG_AGO)) == [older]
    assert await ended(stores, EndedRuns(ended_before=LONG_AGO + 1)) == [old, older]
    assert await ended(stores, EndedRuns(ended_from=LONG_AGO)) == [old, other]
    assert await ended(stores, EndedRuns(below=older)) == [old]
    assert await stores.retention.ended_runs(EVER, old, 1) == [older]
    assert await stores.retention.live_ids("c1", FIRST, 10) == [live]
    assert await stores.retention.live_ids("c1", live, 10) == []


async def test_what_the_database_takes_grows_with_what_is_stored(stores: Stores) -> None:
    before = await stores.retention.bytes_taken()
    for _ in range(3):
        await commit(stores, *(start(new_run_id()) for _ in range(100)))
    assert await stores.retention.bytes_taken() > before


async def test_runs_are_found_by_pipeline_and_counted_from_the_newest(stores: Stores) -> None:
    runs = [await add_run(stores, pipeline="a") for _ in range(3)]
    await add_run(stores, pipeline="a", ended_at=None)
    await add_run(stores, pipeline="a", parent=runs[2])
    other = await add_run(stores, pipeline="b")
    assert await ended(stores, EndedRuns(pipeline="a")) == runs
    assert await ended(stores, EndedRuns(pipeline="b")) == [other]
    assert [await stores.retention.nth_newest("a", number) for number in (1, 3, 4)] == [runs[2], runs[0], None]


async def test_a_step_of_a_run_that_is_there_does_not_go_alone(stores: Stores) -> None:
    parent = await add_run(stores)
    child = await add_run(stores, parent=parent)
    assert await ended(stores) == [parent]
    assert await stores.retention.remove_runs([child], EVER, NOW) == []
    assert await stores.retention.remove_runs([parent], EVER, NOW) == [parent]
    assert await stores.retention.children([parent], FIRST, 10) == [child]
    assert await stores.retention.children([parent], child, 10) == []
    assert await stores.retention.remove_runs([child], EVER, NOW) == [child]


async def test_a_run_with_a_live_step_stays_and_so_does_what_is_above_it(stores: Stores) -> None:
    top = await add_run(stores)
    middle = await add_run(stores, parent=top)
    await add_run(stores, parent=middle, ended_at=None)
    assert await stores.retention.held_from_below() == {top, middle}
    assert await stores.retention.remove_runs([middle], EVER, NOW) == []


async def test_a_child_of_a_removed_run_that_was_live_goes_when_it_is_at_rest(stores: Stores) -> None:
    parent = await add_run(stores)
    child = await add_run(stores, parent=parent)
    assert await stores.retention.remove_runs([parent], EVER, NOW) == [parent]
    await commit(stores, reopening(child, 4))
    assert await stores.retention.children([parent], FIRST, 10) == []
    await stores.retention.all_gone([parent])
    assert await stores.retention.noted(FIRST, 10) == [parent], "the note waits for the child"
    await commit(stores, ending(child, 5))
    assert await ended(stores) == [child]


# --- the removal


async def test_a_removed_run_is_noted_and_then_its_rows_go_in_batches(stores: Stores) -> None:
    run_id, other = await add_run(stores, rows=5), await add_run(stores, rows=2)
    assert await left(stores, run_id) == [7, 5, 5, 5, 5, 5, 5, 5]
    assert await stores.retention.remove_runs([run_id], EVER, NOW) == [run_id]
    assert await stores.runs.get(run_id) is None
    assert (await stores.retention.noted(FIRST, 10), await stores.retention.removed_at(run_id)) == ([run_id], NOW)
    for rows in RunRows:
        counts = [await stores.retention.remove_rows(rows, [run_id], 2) for _ in range(4)]
        assert sum(counts) == (7 if rows is RunRows.EVENTS else 5)
        assert counts[0] == 2
    await stores.retention.all_gone([run_id])
    assert await left(stores, run_id) == [0] * 8
    assert await left(stores, other) == [4, 2, 2, 2, 2, 2, 2, 2]
    assert await stores.retention.noted(FIRST, 10) == []
    assert await stores.retention.removed_at(run_id) == NOW


async def test_the_oldest_events_go_first(stores: Stores) -> None:
    run_id = await add_run(stores, rows=3)
    await stores.retention.remove_runs([run_id], EVER, NOW)
    await stores.retention.remove_rows(RunRows.EVENTS, [run_id], 2)
    assert [each.first_seq for each in await stores.journal.read(run_id)] == [4, 5, 6]


async def test_nothing_of_a_live_run_is_removed(stores: Stores) -> None:
    run_id = await add_run(stores, ended_at=None, rows=2)
    assert await stores.retention.remove_runs([run_id], EVER, NOW) == []
    for rows in RunRows:
        assert await stores.retention.remove_rows(rows, [run_id], 10) == 0
    assert await left(stores, run_id) == [3, 2, 2, 2, 2, 2, 2, 2]
    assert await stores.retention.note_strays([run_id], NOW) == 0


async def test_of_two_removals_at_once_one_removes_each_row(stores: Stores) -> None:
    runs = [await add_run(stores, rows=3) for _ in range(4)]
    removed = await asyncio.gather(*(stores.retention.remove_runs(runs, EVER, NOW) for _ in range(2)))
    assert sorted(run_id for found in removed for run_id in found) == sorted(runs)
    counts = await asyncio.gather(*(stores.retention.remove_rows(RunRows.LOGS, runs, 100) for _ in range(2)))
    assert sum(counts) == 12


# --- with those who write


async def test_a_removed_run_is_not_opened_again_and_nothing_of_it_is_stored(stores: Stores) -> None:
    run_id, other = await add_run(stores), await add_run(stores)
    await stores.retention.remove_runs([run_id], EVER, NOW)
    outcomes = await stores.journal.commit(0, [reopening(run_id, 4), reopening(other, 4)])
    assert outcomes == [Removed(), Committed()]
    assert [each.first_seq for each in await stores.journal.read(run_id)] == [1, 3]


async def test_a_run_that_is_opened_at_this_moment_is_either_removed_or_opened(stores: Stores) -> None:
    for _ in range(10):
        run_id = await add_run(stores)
        (outcome,), removed = await asyncio.gather(
            stores.journal.commit(0, [reopening(run_id, 4)]), stores.retention.remove_runs([run_id], EVER, NOW)
        )
        assert (outcome, removed) in ((Committed(), []), (Removed(), [run_id]))


async def test_the_run_key_of_a_removed_run_is_free(stores: Stores) -> None:
    run_id = await add_run(stores, key="daily")
    again = msgspec.structs.replace(start(new_run_id()), claim=KeyClaim("etl", "daily", Reuse.REJECT))
    assert await stores.journal.commit(0, [again]) == [KeyTaken(run_id, COMPLETED)]
    await stores.retention.remove_runs([run_id], EVER, NOW)
    assert await stores.retention.free_run_keys([run_id]) == 1
    assert await stores.retention.free_run_keys([run_id]) == 0
    assert await stores.journal.commit(0, [again]) == [Committed()]


async def test_a_run_key_is_free_as_soon_as_its_run_is_gone_and_is_not_taken_from_the_next(stores: Stores) -> None:
    run_id = await add_run(stores, key="daily")
    await stores.retention.remove_runs([run_id], EVER, NOW)
    heir = new_run_id()
    claim = KeyClaim("etl", "daily", Reuse.REJECT)
    await commit(stores, msgspec.structs.replace(start(heir), claim=claim))
    assert await stores.retention.free_run_keys([run_id]) == 0
    late = msgspec.structs.replace(start(new_run_id()), claim=claim)
    assert await stores.journal.commit(0, [late]) == [KeyTaken(heir, 1)]


async def test_a_key_that_is_freed_while_it_is_claimed_is_somebodys(stores: Stores) -> None:
    for number in range(10):
        run_id = await add_run(stores, key=f"k{number}")
        await stores.retention.remove_runs([run_id], EVER, NOW)
        claim = KeyClaim("etl", f"k{number}", Reuse.REJECT)
        heir = msgspec.structs.replace(start(new_run_id()), claim=claim)
        await asyncio.gather(stores.journal.commit(0, [heir]), stores.retention.free_run_keys([run_id]))
        late = msgspec.structs.replace(start(new_run_id()), claim=claim)
        assert await stores.journal.commit(0, [late]) == [KeyTaken(heir.run_id, 1)]


# --- parts of runs, and rows of none


async def test_logs_of_runs_that_ended_long_ago_are_found_in_pages(stores: Stores) -> None:
    runs = [await add_run(stores, rows=2) for _ in range(3)]
    await add_run(stores, rows=1, ended_at=None)
    young = await add_run(stores, rows=1, ended_at=NOW)
    await add_run(stores)
    store = stores.retention
    first, after = await store.runs_with_logs(NOW, FIRST, 2)
    assert (first, after) == (runs[:2], runs[1])
    assert after is not None
    found, after = await store.runs_with_logs(NOW, after, 10)
    assert (found, after) == (runs[2:], None)
    assert young not in found
    assert await store.remove_rows(RunRows.LOGS, runs, 100) == 6
    assert await stores.logs.read_logs(runs[0], LogFilter(), 0, 10) == []
    assert await left(stores, runs[0]) == [4, 2, 2, 0, 2, 2, 2, 2]
    assert await store.runs_with_logs(NOW, FIRST, 10) == (runs, None), "they have packs"
    assert await store.remove_rows(RunRows.LOG_PACKS, runs, 100) == 6
    assert await store.runs_with_logs(NOW, FIRST, 10) == ([], None)


@pytest.mark.parametrize("rows", RunRows)
async def test_rows_of_no_run_are_found_and_noted(stores: Stores, rows: RunRows) -> None:
    owned, stray = await add_run(stores, rows=1), new_run_id()
    await orphan(stores, rows, stray)
    assert await stores.retention.strays(rows, NOW, FIRST, 10) == ([stray], None)
    assert await stores.retention.strays(rows, 1_000, FIRST, 10) == ([], None)
    assert await stores.retention.strays(rows, NOW, stray, 10) == ([], None)
    assert await stores.retention.note_strays([stray, owned], NOW) == 1
    assert await stores.retention.strays(rows, NOW, FIRST, 10) == ([], None), "what is noted is looked after"
    assert await stores.retention.remove_rows(rows, [stray], 10) == 1
    await stores.retention.all_gone([stray])
    assert await stores.retention.noted(FIRST, 10) == []


async def orphan(stores: Stores, rows: RunRows, run_id: RunId) -> None:
    bare = record(run_id, 1)
    match rows:
        case RunRows.EVENTS:
            await commit(stores, bare)
        case RunRows.STEP_RUNS:
            await commit(stores, msgspec.structs.replace(bare, step_runs=(step_run(0),)))
        case RunRows.ATTEMPTS:
            await commit(stores, msgspec.structs.replace(bare, attempts=(attempt(0),)))
        case RunRows.LOGS:
            await stores.logs.append_logs([chunk(run_id, 0)])
        case RunRows.LOG_PACKS:
            await add_log_pack(stores, run_id, 0)
        case RunRows.LETTERS:
            await commit(stores, msgspec.structs.replace(bare, letters=(letter(1),)))
        case RunRows.ARTIFACTS:
            await commit(stores, msgspec.structs.replace(bare, artifacts=(artifact(1),)))
        case RunRows.USES:
            await stores.artifacts.add_uses([(run_id, artifact_use(0))])


async def test_rows_that_come_after_the_removal_are_strays(stores: Stores) -> None:
    run_id = await add_run(stores)
    await stores.retention.remove_runs([run_id], EVER, NOW)
    await stores.retention.all_gone([run_id])
    await orphan(stores, RunRows.LOGS, run_id)
    assert await stores.retention.strays(RunRows.LOGS, NOW, FIRST, 10) == ([run_id], None)


# --- what goes by its age alone


async def test_requests_go_by_age_but_not_while_their_run_lives(stores: Stores) -> None:
    live, at_rest = new_run_id(), new_run_id()
    await commit(stores, start(live, request=request("live")), start(at_rest, request=request("ended")))
    await commit(stores, ending(at_rest, 3))
    await stores.runs.remember_request(request("alone"), 1_000)
    await stores.runs.remember_request(request("young"), 2_000)

    assert await stores.retention.count_old(OldRows.REQUESTS, 2_000) == 2
    assert await stores.retention.remove_old(OldRows.REQUESTS, 2_000, 1) == 1
    assert await stores.retention.remove_old(OldRows.REQUESTS, 2_000, 10) == 1

    names = ("live", "ended", "alone", "young")
    assert [n for n in names if await stores.runs.find_request("", "StartRun", n)] == ["live", "young"]
    assert await stores.retention.remove_old(OldRows.REQUESTS, 2_000, 10) == 0


async def test_jobs_that_ended_go_by_age(stores: Stores) -> None:
    jobs = [BulkJobRow(new_run_id(), BulkState.RUNNING, 1, None, b"\xff" * 16, b"o", b"p") for _ in range(3)]
    for job in jobs:
        await stores.bulk_jobs.create(job, None)
    await stores.bulk_jobs.stop(jobs[0].job_id, 5)
    await stores.bulk_jobs.stop(jobs[1].job_id, 10)
    assert await stores.retention.count_old(OldRows.BULK_JOBS, 10) == 1
    assert await stores.retention.remove_old(OldRows.BULK_JOBS, 10, 10) == 1
    assert [each.job_id for each in await stores.bulk_jobs.list_jobs(10)] == [jobs[2].job_id, jobs[1].job_id]


async def test_notes_go_by_age_once_nothing_is_left(stores: Stores) -> None:
    gone, noted = await add_run(stores), await add_run(stores)
    await stores.retention.remove_runs([gone, noted], EVER, 5)
    await stores.retention.all_gone([gone])
    assert await stores.retention.remove_old(OldRows.NOTES, 5, 10) == 0
    assert await stores.retention.count_old(OldRows.NOTES, 6) == 1
    assert await stores.retention.remove_old(OldRows.NOTES, 6, 10) == 1
    assert await stores.retention.removed_at(gone) is None
    assert await stores.retention.noted(FIRST, 10) == [noted]


async def create(stores: Stores, name: str, digest: str) -> None:
    assert isinstance(await stores.pipelines.create_version(name, digest, b"spec", 1, 1, None), tuple)


async def test_deleted_pipelines_go_by_age_if_no_run_is_of_them(stores: Stores) -> None:
    for name in ("kept", "used", "young", "gone"):
        await create(stores, name, f"digest of {name}")
    await create(stores, "gone", "another")
    await add_run(stores, pipeline="used")
    for name, at in (("used", 5), ("young", 10), ("gone", 5)):
        assert await stores.pipelines.delete_pipeline(name, at, None) is True
    assert await stores.retention.count_old(OldRows.PIPELINES, 10) == 1
    assert await stores.retention.remove_old(OldRows.PIPELINES, 10, 10) == 1
    left_over = [name for name, _, _ in await stores.retention.versions(("", 0), 10)]
    assert left_over == ["kept", "used", "young"]
    assert await stores.pipelines.version_by_digest("another") is None
    assert await stores.retention.versions(("kept", 1), 1) == [("used", 1, "digest of used")]
    assert await stores.retention.pipelines_of_runs("kept", 2) == ["used", "young"]
    await create(stores, "gone", "once more")
    found = await stores.pipelines.get_pipeline("gone")
    assert found is not None
    assert found.latest.number == 3, "no number is given twice"
    assert await stores.pipelines.get_version("gone", 1) is None


HOUR = 3_600_000_000


async def test_bundles_go_that_nobody_asked_for(stores: Stores) -> None:
    for digest in ("a", "b", "c"):
        await stores.bundles.put(digest, b"content", 1)
    assert await stores.bundles.present(["b", "d"], 2 * HOUR) == {"b"}
    assert await stores.bundles.present(["a"]) == {"a"}
    assert await stores.retention.old_bundles(HOUR, "", 10) == ["a", "c"]
    assert await stores.retention.old_bundles(HOUR, "a", 10) == ["c"]
    assert await stores.retention.count_old(OldRows.BUNDLES, HOUR, ["a", "b"]) == 1
    assert await stores.retention.remove_old(OldRows.BUNDLES, HOUR, 10, ["a", "b"]) == 1
    assert await stores.bundles.present(["a", "b", "c"]) == {"b", "c"}


# --- one at a time, and whose


async def test_one_of_all_coordinators_is_alone(backend: Backend) -> None:
    one, two = await open_speaking(backend, "c1"), await open_speaking(backend, "c2")
    async with one.retention.alone() as first, two.retention.alone() as second:
        assert (first, second) == (True, False)
    async with two.retention.alone() as later:
        assert later


async def test_live_runs_of_others_are_counted(backend: Backend) -> None:
    one = await open_speaking(backend, "c1")
    for owner, count in (("c1", 1), ("c2", 2), ("c3", 1)):
        for _ in range(count):
            await commit(one, start(new_run_id(), new=new_run(owner=owner)))
    await add_run(one)
    assert await one.retention.live_of_others("c1") == {"c2": 2, "c3": 1}
