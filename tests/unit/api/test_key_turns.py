"""Claims of run keys, one at a time for each key."""

from __future__ import annotations

import asyncio

from penstock_coordinator.ports import KeyClaim
from penstock_coordinator.runtime.run_keys import KeyTurns


async def test_one_at_a_time_for_each_key() -> None:
    turns, order = KeyTurns(), []
    first_in, go_on = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with turns.hold([KeyClaim("p", "b"), KeyClaim("p", "a")]):
            first_in.set()
            await go_on.wait()
            order.append("first")

    async def second() -> None:
        await first_in.wait()
        async with turns.hold([KeyClaim("p", "b")]):
            order.append("second")

    async def other() -> None:
        await first_in.wait()
        async with turns.hold([KeyClaim("q", "b"), KeyClaim("q", "b")]):
            order.append("other")
            go_on.set()

    await asyncio.gather(first(), second(), other())
    assert order == ["other", "first", "second"]


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    turns = KeyTurns()
    async with turns.hold([KeyClaim("p", "a")]):
        waiting = asyncio.create_task(turns.hold([KeyClaim("p", "a")]).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with turns.hold([KeyClaim("p", "a")]):
        pass
    assert not turns._turnstiles
