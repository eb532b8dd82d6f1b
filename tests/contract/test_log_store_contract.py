"""What the store of logs promises, on PostgreSQL and in memory."""

from __future__ import annotations

import asyncio
import dataclasses

from tests.contract.records import new_run_id

from penstock_coordinator.ports import LogChunk, LogFilter, LogLine, RunId, Stores

EVERYTHING = LogFilter()


def _chunk(
    run: RunId, first: int, *texts: str, step: int = 1, item: int = -1, attempt: int = 1, at: int = 9
) -> LogChunk:
    lines = tuple(LogLine(1 + i % 2, first + i, 1_000 * i, text) for i, text in enumerate(texts))
    return LogChunk(run, step, item, attempt, at, lines)


def _unplaced(chunks: list[LogChunk]) -> list[LogChunk]:
    return [dataclasses.replace(chunk, position=0) for chunk in chunks]


async def test_chunks_come_back_in_the_order_in_which_they_were_appended(stores: Stores) -> None:
    run = new_run_id()
    chunks = [_chunk(run, 1, "one", "two"), _chunk(run, 1, "other step", step=2), _chunk(run, 3, "three")]
    await stores.logs.append_logs(chunks[:2])
    await stores.logs.append_logs(chunks[2:])

    found = await stores.logs.read_logs(run, EVERYTHING)

    assert _unplaced(found) == chunks
    positions = [chunk.position for chunk in found]
    assert positions == sorted(set(positions))
    assert positions[0] > 0


async def test_any_text_can_be_a_line(stores: Stores) -> None:
    run = new_run_id()
    chunk = _chunk(run, 1, "nul\0nul", "lone \ud800 surrogate", "\U0001f6b0", "", "x" * 300_000)

    await stores.logs.append_logs([chunk])

    assert _unplaced(await stores.logs.read_logs(run, EVERYTHING)) == [chunk]


async def test_reading_goes_on_above_a_position(stores: Stores) -> None:
    run = new_run_id()
    await stores.logs.append_logs([_chunk(run, n, f"line {n}") for n in range(1, 8)])
    pages, after = [], 0
    while page := await stores.logs.read_logs(run, EVERYTHING, after, 3):
        pages.append([chunk.lines[0].number for chunk in page])
        after = page[-1].position

    assert pages == [[1, 2, 3], [4, 5, 6], [7]]


async def test_a_chunk_that_is_there_already_changes_nothing(stores: Stores) -> None:
    run = new_run_id()
    await stores.logs.append_logs([_chunk(run, 1, "first")])

    await stores.logs.append_logs([_chunk(run, 1, "first", "and more"), _chunk(run, 2, "second")])

    assert [c.lines[0].text for c in await stores.logs.read_logs(run, EVERYTHING)] == ["first", "second"]
    assert len((await stores.logs.read_logs(run, EVERYTHING))[0].lines) == 1


async def test_the_same_chunk_twice_in_one_call(stores: Stores) -> None:
    run = new_run_id()

    await stores.logs.append_logs([_chunk(run, 1, "a"), _chunk(run, 1, "b"), _chunk(run, 1, "c", attempt=2)])

    assert [c.lines[0].text for c in await stores.logs.read_logs(run, EVERYTHING)] == ["a", "c"]


async def test_reading_is_filtered_by_step_item_and_attempt(stores: Stores) -> None:
    run = new_run_id()
    await stores.logs.append_logs(
        [
            _chunk(run, 1, "plain"),
            _chunk(run, 1, "item 0", step=2, item=0),
            _chunk(run, 1, "item 1", step=2, item=1),
            _chunk(run, 1, "item 1 again", step=2, item=1, attempt=2),
        ]
    )
    await stores.logs.append_logs([_chunk(new_run_id(), 1, "another run")])

    async def texts(where: LogFilter) -> list[str]:
        return [chunk.lines[0].text for chunk in await stores.logs.read_logs(run, where)]

    assert await texts(EVERYTHING) == ["plain", "item 0", "item 1", "item 1 again"]
    assert await texts(LogFilter(step=2)) == ["item 0", "item 1", "item 1 again"]
    assert await texts(LogFilter(step=2, item=1)) == ["item 1", "item 1 again"]
    assert await texts(LogFilter(step=2, item=1, attempt=2)) == ["item 1 again"]
    assert await texts(LogFilter(step=1, item=-1)) == ["plain"]
    assert await texts(LogFilter(step=3)) == []


async def test_the_last_chunks_come_oldest_first(stores: Stores) -> None:
    run = new_run_id()
    await stores.logs.append_logs([_chunk(run, n, f"line {n}", step=1 + n % 2) for n in range(1, 8)])

    async def numbers(where: LogFilter, limit: int) -> list[int]:
        return [chunk.lines[0].number for chunk in await stores.logs.last_logs(run, where, limit)]

    assert await numbers(EVERYTHING, 3) == [5, 6, 7]
    assert await numbers(LogFilter(step=1), 2) == [4, 6]
    assert await numbers(EVERYTHING, 100) == [1, 2, 3, 4, 5, 6, 7]
    assert await numbers(EVERYTHING, 0) == []


async def test_nothing_to_append(stores: Stores) -> None:
    run = new_run_id()

    await stores.logs.append_logs([])
    await stores.logs.append_logs([_chunk(run, 1)])

    assert await stores.logs.read_logs(run, EVERYTHING) == []


async def test_a_reader_that_follows_many_writers_misses_nothing(stores: Stores) -> None:
    run, writers, chunks = new_run_id(), 6, 15
    writing = asyncio.gather(*(_write(stores, run, attempt, chunks) for attempt in range(1, writers + 1)))
    seen: list[int] = []
    while True:
        done = writing.done()
        page = await stores.logs.read_logs(run, EVERYTHING, seen[-1] if seen else 0, 10)
        seen.extend(chunk.position for chunk in page)
        if done and not page:
            break
    await writing

    assert len(seen) == writers * chunks


async def _write(stores: Stores, run: RunId, attempt: int, chunks: int) -> None:
    for number in range(1, chunks + 1):
        await stores.logs.append_logs([_chunk(run, number, "line", attempt=attempt)])
