"""What a journal promises of run keys, on PostgreSQL and in memory."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.contract.backends import Backend, open_speaking
from tests.contract.records import new_run, new_run_id, record, request, start

from penstock_coordinator.ports import (
    AppendOutcome,
    Committed,
    KeyClaim,
    KeyTaken,
    Origin,
    OutOfSequence,
    Record,
    Repeated,
    RequestRow,
    Reuse,
    RunChange,
    RunFilter,
    RunId,
    Stores,
    Unstorable,
)

PENDING, COMPLETED, FAILED = 1, 6, 7


def keyed(
    run_id: RunId, run_key: str = "k", *, reuse: Reuse = Reuse.ALLOW, asked: RequestRow | None = None, owner: str = "c1"
) -> Record:
    new = msgspec.structs.replace(new_run(owner=owner), origin=Origin(run_key=run_key))
    return msgspec.structs.replace(start(run_id, request=asked, new=new), claim=KeyClaim(new.pipeline, run_key, reuse))


def ended(run_id: RunId, state: int) -> Record:
    return msgspec.structs.replace(record(run_id, 3), change=RunChange(state, end_time=9))


async def commit(stores: Stores, *records: Record) -> list[AppendOutcome]:
    return await stores.journal.commit(0, records)


async def _keyed_runs(stores: Stores, run_key: str = "k") -> list[RunId]:
    return [row.run_id for row in await stores.runs.list_runs(RunFilter(run_key=run_key), 100)]


async def test_a_live_run_keeps_its_key(stores: Stores) -> None:
    first, second, other = new_run_id(), new_run_id(), new_run_id()
    assert await commit(stores, keyed(first)) == [Committed()]
    assert await commit(stores, keyed(second), keyed(other, "other")) == [KeyTaken(first, PENDING), Committed()]
    assert await stores.runs.get(second) is None
    assert await stores.journal.read(second) == []
    assert await _keyed_runs(stores) == [first]


async def test_two_starts_with_one_key_in_one_batch(stores: Stores) -> None:
    first, second, plain = new_run_id(), new_run_id(), new_run_id()
    outcomes = await commit(stores, keyed(first), start(plain), keyed(second), record(second, 3), record(first, 3))
    assert outcomes == [Committed(), Committed(), KeyTaken(first, PENDING), OutOfSequence(), Committed()]
    assert await _keyed_runs(stores) == [first]


async def test_two_starts_with_one_key_in_two_lanes_at_once(stores: Stores) -> None:
    for number in range(10):
        first, second, key = new_run_id(), new_run_id(), f"k{number}"
        outcomes = await asyncio.gather(
            stores.journal.commit(0, [keyed(first, key)]), stores.journal.commit(1, [keyed(second, key)])
        )
        (kept,) = await _keyed_runs(stores, key)
        lost = [outcome for each in outcomes for outcome in each if outcome != Committed()]
        assert lost == [KeyTaken(kept, PENDING)]


async def test_many_keys_in_two_lanes_in_other_orders(stores: Stores) -> None:
    keys = [f"k{number}" for number in range(20)]
    there, back = ([keyed(new_run_id(), key) for key in order] for order in (keys, keys[::-1]))
    outcomes = await asyncio.gather(stores.journal.commit(0, there), stores.journal.commit(1, back))
    assert sum(outcome == Committed() for each in outcomes for outcome in each) == 20
    for key in keys:
        assert len(await _keyed_runs(stores, key)) == 1


@pytest.mark.parametrize(
    ("state", "reuse", "free"),
    [
        (COMPLETED, Reuse.ALLOW, True),
        (FAILED, Reuse.ALLOW, True),
        (COMPLETED, Reuse.AFTER_FAILURE, False),
        (FAILED, Reuse.AFTER_FAILURE, True),
        (COMPLETED, Reuse.REJECT, False),
        (FAILED, Reuse.REJECT, False),
        (PENDING, Reuse.ALLOW, False),
    ],
)
async def test_a_run_at_rest_may_give_its_key_free(stores: Stores, state: int, reuse: Reuse, free: bool) -> None:
    first, second, third = new_run_id(), new_run_id(), new_run_id()
    await commit(stores, keyed(first), ended(first, state))
    assert await commit(stores, keyed(second, reuse=reuse)) == [Committed() if free else KeyTaken(first, state)]
    newest = KeyTaken(second, PENDING) if free else KeyTaken(first, state)
    assert await commit(stores, keyed(third, reuse=Reuse.REJECT)) == [newest]


async def test_a_run_that_has_the_key_claims_it_again(stores: Stores) -> None:
    first = new_run_id()
    await commit(stores, keyed(first), ended(first, FAILED))
    again = msgspec.structs.replace(record(first, 4), claim=KeyClaim("etl", "k", Reuse.REJECT))
    assert await commit(stores, again) == [Committed()]


async def test_a_repeated_request_comes_before_a_taken_key(stores: Stores) -> None:
    first, second = new_run_id(), new_run_id()
    await commit(stores, keyed(first, asked=request("r")))
    assert await commit(stores, keyed(second, asked=request("r"))) == [Repeated(True, b"answer")]
    await commit(stores, ended(first, COMPLETED))
    assert await commit(stores, keyed(second, asked=request("r"))) == [Repeated(True, b"answer")]
    assert await commit(stores, keyed(second, reuse=Reuse.REJECT)) == [KeyTaken(first, COMPLETED)]


async def test_what_is_not_stored_takes_no_key(stores: Stores) -> None:
    first, second, third = new_run_id(), new_run_id(), new_run_id()
    await commit(stores, start(first, request=request("r")))
    bad = keyed(third, "other", owner="nul\0nul")
    outcomes = await commit(stores, keyed(second, asked=request("r", digest=b"else")), bad)
    assert outcomes[0] == Repeated(False, b"answer")
    assert isinstance(outcomes[1], Unstorable)
    assert await commit(stores, keyed(second), keyed(third, "other")) == [Committed(), Committed()]


async def test_a_refused_key_is_not_remembered_as_a_request(stores: Stores) -> None:
    first, second = new_run_id(), new_run_id()
    await commit(stores, keyed(first))
    assert await commit(stores, keyed(second, asked=request("r"))) == [KeyTaken(first, PENDING)]
    assert await stores.runs.find_request("", "StartRun", "r") is None
    await commit(stores, ended(first, COMPLETED))
    assert await commit(stores, keyed(second, asked=request("r"))) == [Committed()]


@pytest.mark.parametrize("run_key", ["nul\0nul", "lone \ud800 surrogate"])
async def test_a_key_that_is_no_text_is_unstorable(stores: Stores, run_key: str) -> None:
    assert isinstance((await commit(stores, keyed(new_run_id(), run_key)))[0], Unstorable)


async def test_a_key_is_kept_after_a_crash(backend: Backend) -> None:
    first, second = new_run_id(), new_run_id()
    await commit(await open_speaking(backend), keyed(first))
    again = await open_speaking(backend)
    assert await commit(again, keyed(second)) == [KeyTaken(first, PENDING)]


async def test_who_has_the_keys(stores: Stores) -> None:
    first, second = new_run_id(), new_run_id()
    assert await stores.runs.key_holders([("etl", "k")]) == {}
    await commit(stores, keyed(first, "k"), keyed(second, "other"), ended(second, FAILED))
    names = [("etl", "k"), ("etl", "other"), ("etl", "none"), ("else", "k"), ("etl", "nul\0nul")]
    assert await stores.runs.key_holders(names) == {names[0]: (first, PENDING), names[1]: (second, FAILED)}


async def test_which_requests_were_answered(stores: Stores) -> None:
    known, changed, fresh = request("r").key, request("r", digest=b"else").key, request("other").key
    await commit(stores, start(new_run_id(), request=request("r")))
    found = await stores.runs.find_requests([fresh, changed, known])
    assert found == [None, Repeated(False, b"answer"), Repeated(True, b"answer")]
    assert await stores.runs.find_requests([]) == []
