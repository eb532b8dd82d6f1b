"""A kind of calls takes its share of the connections and no more."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from penstock_coordinator.adapters.postgres.bulkhead import Bulkhead
from penstock_coordinator.ports import Crowded


async def test_so_many_go_at_once_and_the_rest_wait_for_their_turn() -> None:
    bulkhead = Bulkhead("lists", 2, patience=10)
    go = asyncio.Event()
    done: list[int] = []

    async def call(number: int) -> None:
        async with bulkhead.place():
            assert bulkhead.use.in_use <= 2
            await go.wait()
            done.append(number)

    calls = [asyncio.create_task(call(number)) for number in range(5)]
    await asyncio.sleep(0)
    assert (bulkhead.use.in_use, bulkhead.use.waiting) == (2, 3)
    go.set()
    await asyncio.gather(*calls)
    assert done == [0, 1, 2, 3, 4]
    assert (bulkhead.use.in_use, bulkhead.use.waiting) == (0, 0)


async def test_whoever_waits_too_long_or_is_one_too_many_is_told_to_come_back() -> None:
    bulkhead = Bulkhead("lists", 1, patience=0.05, most_waiting=1)
    async with bulkhead.place():
        waiting = asyncio.create_task(_use(bulkhead))
        await asyncio.sleep(0)
        with pytest.raises(Crowded, match="1 calls wait for them already"):
            await _use(bulkhead)
        with pytest.raises(Crowded, match=r"none was free for 0\.05 s") as late:
            await waiting
    assert late.value.retry_after == 10_000
    await _use(bulkhead)


async def test_a_call_that_is_cancelled_while_it_waits_leaves_no_place_taken() -> None:
    bulkhead = Bulkhead("lists", 1, patience=10)
    async with bulkhead.place():
        waiting = asyncio.create_task(_use(bulkhead))
        await asyncio.sleep(0)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
    assert (bulkhead.use.in_use, bulkhead.use.waiting) == (0, 0)
    await _use(bulkhead)


async def _use(bulkhead: Bulkhead) -> None:
    async with bulkhead.place():
        pass
