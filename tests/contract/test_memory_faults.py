"""The faults that the memory stores make to order, seen through the contract: outcomes stay right."""

from __future__ import annotations

import asyncio

import pytest
from tests.contract.records import new_run_id, record, request, start

from penstock_coordinator.adapters.memory import (
    CommitUnknown,
    FailBefore,
    Faults,
    MemoryDatabase,
    MemoryStores,
    memory_stores,
)
from penstock_coordinator.ports import Committed, Fenced, Record, RunFilter, Unavailable, Unstorable


async def _speaking(database: MemoryDatabase, faults: Faults | None = None) -> MemoryStores:
    stores = memory_stores(database, coordinator_id="c1", lanes=1, faults=faults)
    await stores.incarnations.incarnate("c1", 1)
    return stores


async def test_commits_that_fail_are_tried_again() -> None:
    attempts: list[int] = []
    faults = Faults(on_attempt=lambda records: attempts.append(len(records)))
    stores, run = await _speaking(MemoryDatabase(), faults), new_run_id()
    faults.failures.extend([FailBefore(), FailBefore()])

    assert await stores.journal.commit(0, [record(run, 1)]) == [Committed()]
    assert attempts == [1, 1, 1]
    assert stores.available


async def test_an_unknown_commit_is_stored_once_and_its_outcomes_are_found_out() -> None:
    faults = Faults()
    stores, run = await _speaking(MemoryDatabase(), faults), new_run_id()
    faults.failures.append(CommitUnknown())

    assert await stores.journal.commit(0, [start(run, request=request()), record(run, 3)]) == [Committed()] * 2
    assert len(await stores.journal.read(run)) == 2


async def test_a_commit_can_be_held_up() -> None:
    faults = Faults(hold=asyncio.Event())
    stores, run = await _speaking(MemoryDatabase(), faults), new_run_id()
    committing = asyncio.create_task(stores.journal.commit(0, [record(run, 1)]))
    await faults.entered.wait()

    assert await stores.journal.read(run) == []
    assert faults.hold is not None
    faults.hold.set()

    assert await committing == [Committed()]


async def test_a_take_over_while_a_commit_is_held_up_fences_it() -> None:
    database, faults = MemoryDatabase(), Faults(hold=asyncio.Event())
    former, run = await _speaking(database, faults), new_run_id()
    committing = asyncio.create_task(former.journal.commit(0, [record(run, 1)]))
    await faults.entered.wait()
    newer = await _speaking(database)
    assert faults.hold is not None
    faults.hold.set()

    with pytest.raises(Fenced):
        await committing
    assert await newer.journal.read(run) == []


async def test_while_the_database_is_away_commits_wait_and_questions_fail() -> None:
    database = MemoryDatabase()
    stores, run = await _speaking(database), new_run_id()
    waiting = asyncio.Event()
    stores.faults.on_attempt = lambda _: waiting.set()
    database.there.clear()
    committing = asyncio.create_task(stores.journal.commit(0, [record(run, 1)]))
    await waiting.wait()

    with pytest.raises(Unavailable):
        await stores.runs.list_runs(RunFilter(), 1)
    assert not stores.available
    assert not committing.done()
    database.there.set()

    assert await committing == [Committed()]
    assert stores.available


async def test_records_can_be_refused_to_order() -> None:
    refused, fine = new_run_id(), new_run_id()

    def refuse(asked: Record) -> str | None:
        return "to order" if asked.run_id == refused else None

    stores = await _speaking(MemoryDatabase(), Faults(refuse=refuse))

    assert await stores.journal.commit(0, [record(refused, 1), record(fine, 1)]) == [
        Unstorable("to order"),
        Committed(),
    ]
