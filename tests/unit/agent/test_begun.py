"""Coroutines that begin before they are awaited."""

from __future__ import annotations

import asyncio

import pytest

from penstock_agent.runtime.begun import Begun


class Steps:
    """A coroutine that tells how far it is, and waits twice."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.first, self.second = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        self.done.append("begun")
        try:
            await self.first.wait()
            self.done.append("half")
            await self.second.wait()
        except asyncio.CancelledError:
            self.done.append("cancelled")
            raise
        self.done.append("over")


async def test_it_runs_to_its_first_wait_at_once_and_to_its_end_when_it_is_awaited() -> None:
    steps = Steps()
    begun = Begun(steps.run())
    assert steps.done == ["begun"]

    steps.first.set()
    steps.second.set()
    await asyncio.wait_for(begun, 5)
    assert steps.done == ["begun", "half", "over"]


async def test_what_it_waits_for_may_come_later() -> None:
    steps = Steps()
    begun = Begun(steps.run())

    async def wait() -> None:
        await begun

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    for event in (steps.first, steps.second):
        assert not waiting.done()
        event.set()
        await asyncio.sleep(0)
    await asyncio.wait_for(waiting, 5)
    assert steps.done == ["begun", "half", "over"]


async def test_one_that_waits_for_nothing_is_over_at_once() -> None:
    done: list[str] = []

    async def at_once() -> None:
        done.append("over")

    begun = Begun(at_once())
    assert done == ["over"]
    await begun


async def test_what_it_raises_before_it_waits_is_raised_at_once() -> None:
    async def refuses() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Begun(refuses())


async def test_what_it_raises_later_is_raised_to_the_one_who_waits() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("late")

    with pytest.raises(ValueError, match="late"):
        await Begun(fails())


async def test_who_waits_is_cancelled_and_the_coroutine_with_it() -> None:
    steps = Steps()
    begun = Begun(steps.run())

    async def wait() -> None:
        await begun

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    assert steps.done == ["begun", "cancelled"]


async def test_one_that_is_closed_goes_no_further() -> None:
    ended: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("closed")

    Begun(waits()).close()
    assert ended == ["closed"]
