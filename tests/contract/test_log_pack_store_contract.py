"""What the index of packed lines promises, on PostgreSQL and in memory."""

from __future__ import annotations

import dataclasses

from tests.contract.records import new_run_id
from tests.contract.test_log_store_contract import _chunk

from penstock_coordinator.ports import LogFilter, LogPack, RunId, RunRows, Stores
from penstock_coordinator.runtime.log_packing import MadePack, make_pack

EVERYTHING = LogFilter()
NOW = 1_000


async def packed(stores: Stores, run: RunId, rows: int, name: str = "logs/a") -> MadePack:
    """The run's oldest rows."""
    made = make_pack(run, name, await stores.log_packs.oldest_rows(run, rows, 1 << 20), 1 << 20)
    await stores.log_packs.claim_name(name, run, NOW)
    assert await stores.log_packs.add_pack(made.pack, made.parts)
    return made


async def row_texts(stores: Stores, run: RunId) -> list[str]:
    return [chunk.lines[0].text for chunk in await stores.logs.read_logs(run, EVERYTHING)]


async def test_the_oldest_rows_are_as_many_as_fit_and_one_at_least(stores: Stores) -> None:
    run = new_run_id()
    chunks = [_chunk(run, n, f"line {n}") for n in range(1, 6)]
    await stores.logs.append_logs(chunks)

    rows = await stores.log_packs.oldest_rows(run, 3, 1 << 20)

    kept = await stores.logs.read_logs(run, EVERYTHING)
    assert [row.position for row in rows] == [chunk.position for chunk in kept[:3]]
    assert [row.position for row in await stores.log_packs.oldest_rows(run, 3, 1)] == [kept[0].position]
    two = len(rows[0].lines) + len(rows[1].lines)
    assert len(await stores.log_packs.oldest_rows(run, 5, two)) == 2
    assert await stores.log_packs.oldest_rows(new_run_id(), 3, 10) == []


async def test_rows_go_when_the_pack_is_there(stores: Stores) -> None:
    run, other = new_run_id(), new_run_id()
    await stores.logs.append_logs([_chunk(run, n, f"line {n}") for n in range(1, 5)] + [_chunk(other, 1, "other")])

    made = await packed(stores, run, 3)

    assert await row_texts(stores, run) == ["line 4"]
    assert await row_texts(stores, other) == ["other"]
    assert await stores.log_packs.packs(run, EVERYTHING, 0, None, 10) == [made.pack]
    assert await stores.log_packs.parts(made.pack, EVERYTHING) == list(made.parts)
    assert await stores.log_packs.unused_names(NOW + 1, 10) == []


async def test_no_pack_without_its_rows_or_its_name(stores: Stores) -> None:
    run = new_run_id()
    await stores.logs.append_logs([_chunk(run, n, f"line {n}") for n in (1, 2)])
    made = make_pack(run, "logs/a", await stores.log_packs.oldest_rows(run, 9, 1 << 20), 1 << 20)

    assert not await stores.log_packs.add_pack(made.pack, made.parts), "the name is not claimed"
    await stores.log_packs.claim_name("logs/a", run, NOW)
    more = dataclasses.replace(made.pack, rows=3)
    assert not await stores.log_packs.add_pack(more, made.parts), "somebody else has taken a row"
    assert await row_texts(stores, run) == ["line 1", "line 2"]
    assert await stores.log_packs.unused_names(NOW + 1, 10) == ["logs/a"], "and it is claimed still"
    assert not await stores.log_packs.add_pack(made.pack, made.parts), "it took too long"
    assert await stores.log_packs.packs(run, EVERYTHING, 0, None, 10) == []


async def test_names_are_found_until_they_are_forgotten(stores: Stores) -> None:
    run = new_run_id()
    for name, at in (("logs/b", 5), ("logs/a", 5), ("logs/new", 50)):
        await stores.log_packs.claim_name(name, run, at)

    assert await stores.log_packs.unused_names(10, 10) == ["logs/a", "logs/b"]
    await stores.log_packs.forget_names(["logs/a"])
    assert await stores.log_packs.unused_names(10, 10) == ["logs/b"]
    assert await stores.log_packs.unused_names(51, 10) == ["logs/b", "logs/new"]


async def test_lines_that_are_packed_are_not_taken_again(stores: Stores) -> None:
    run = new_run_id()
    await stores.logs.append_logs([_chunk(run, 1, "1", "2"), _chunk(run, 3, "3")])
    await packed(stores, run, 9)

    again = [_chunk(run, 1, "1", "2"), _chunk(run, 3, "3"), _chunk(run, 4, "4"), _chunk(run, 1, "x", attempt=2)]
    await stores.logs.append_logs(again)

    assert await row_texts(stores, run) == ["4", "x"]


async def test_lines_of_one_writing_are_kept_in_their_order_with_packs_of_the_run_and_without(stores: Stores) -> None:
    """However the database looks for what is packed already: readers know the lines that they have by the newest."""
    run = new_run_id()
    steps = range(20)
    for first in (1, 501, 1_001):
        numbers = range(first, first + 500, 20)
        await stores.logs.append_logs([_chunk(run, n, f"{n}", step=step) for n in numbers for step in steps])
        rows = await stores.logs.read_logs(run, EVERYTHING, 0, 1_000)
        assert [(row.lines[0].number, row.step) for row in rows] == [(n, step) for n in numbers for step in steps]
        await packed(stores, run, 500, f"logs/{first}")


async def test_packs_are_found_by_position_step_item_attempt_and_time(stores: Stores) -> None:
    run = new_run_id()
    rows = (
        _chunk(run, 1, "a", at=10),
        _chunk(run, 1, "b", step=2, item=0, at=20),
        _chunk(run, 1, "c", step=2, item=1, attempt=2, at=30),
    )
    made = []
    for number, row in enumerate(rows):
        await stores.logs.append_logs([row])
        made.append((await packed(stores, run, 1, f"logs/{number}")).pack)
    first, second, third = made

    async def found(where: LogFilter, after: int = 0, before: int | None = None, limit: int = 9) -> list[LogPack]:
        packs = await stores.log_packs.packs(run, where, after, before, limit)
        if not after:
            assert (await stores.log_packs.last_packs(run, where, before, 9))[::-1][:limit] == packs
        return packs

    assert await found(EVERYTHING) == made
    assert await found(EVERYTHING, limit=2) == made[:2]
    assert await found(EVERYTHING, after=first.last_position) == [second, third]
    assert await found(EVERYTHING, before=third.first_position) == [first, second]
    assert await found(LogFilter(step=2)) == [second, third]
    assert await found(LogFilter(step=2, item=1)) == [third]
    assert await found(LogFilter(attempt=1)) == [first, second]
    assert await found(LogFilter(step=7)) == []
    assert await found(LogFilter(since=20)) == [second, third]
    assert await found(LogFilter(step=2, since=21)) == [third]
    assert await stores.log_packs.last_packs(run, EVERYTHING, None, 1) == [third]


async def test_rows_are_found_by_time(stores: Stores) -> None:
    run = new_run_id()
    await stores.logs.append_logs([_chunk(run, 1, "old", at=10), _chunk(run, 2, "new", at=20)])

    assert [c.at for c in await stores.logs.read_logs(run, LogFilter(since=11))] == [20]
    assert [c.at for c in await stores.logs.last_logs(run, LogFilter(since=10), 9)] == [10, 20]


async def test_what_is_not_packed_is_measured(stores: Stores) -> None:
    first, second = sorted((new_run_id(), new_run_id()))
    await stores.logs.append_logs([_chunk(first, 1, "a", at=7), _chunk(first, 2, "b", at=8), _chunk(second, 1, "c")])

    (one,), after = await stores.log_packs.unpacked(bytes(16), 1)
    assert after is not None
    (two,), end = await stores.log_packs.unpacked(after, 5)

    rows = await stores.log_packs.oldest_rows(first, 9, 1 << 20)
    assert (one.run_id, one.size, one.since) == (first, sum(len(row.lines) for row in rows), 7)
    assert (two.run_id, end) == (second, None)
    assert await stores.log_packs.unpacked_of(first) == one
    assert await stores.log_packs.unpacked_of(new_run_id()) is None


async def test_the_packs_of_a_run_go_with_it_and_their_names_are_left(stores: Stores) -> None:
    run = new_run_id()
    await stores.logs.append_logs([_chunk(run, n, f"line {n}") for n in (1, 2)])
    made = await packed(stores, run, 1)
    retention = stores.retention

    assert await retention.count_rows(RunRows.LOG_PACKS, [run]) == 1
    assert await retention.strays(RunRows.LOG_PACKS, 2_000_000_000_000_000, bytes(16), 10) == ([run], None)
    assert await retention.remove_rows(RunRows.LOG_PACKS, [run], 10) == 1
    assert await stores.log_packs.packs(run, EVERYTHING, 0, None, 10) == []
    assert await stores.log_packs.parts(made.pack, EVERYTHING) == []
    assert await stores.log_packs.unused_names(1, 10) == ["logs/a"], "at once: nobody is about to make a pack of it"
    assert await retention.count_rows(RunRows.LOGS, [run]) == 1
