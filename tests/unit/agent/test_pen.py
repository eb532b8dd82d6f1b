"""When what an agent has to say is begun, and in which order it is written."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_agent.core.leases import Handle, Lease
from penstock_agent.runtime.outbox import Outbox
from penstock_agent.runtime.pen import Pen

if TYPE_CHECKING:
    from penstock_agent.runtime.pen import Call

PATIENCE = 60.0


class Paper:
    """A call that takes messages when it is told to, and an author: both note what happens."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.taken = asyncio.Semaphore(0)
        self.over = False
        self._seq = 0

    async def write(self, message: wire.AgentMessage) -> None:
        if self.over:
            raise asyncio.InvalidStateError("the call is over")
        self.notes.append(f"{message.seq} {message.WhichOneof('body')}")
        await self.taken.acquire()

    async def done_writing(self) -> None:
        self.notes.append("done")

    def stamp(self) -> int:
        self._seq += 1
        return self._seq

    def written(self, accepted: list[Handle], seq: int) -> None:
        self.notes.append(f"{seq} accepts {accepted}")


def a_lease(handle: Handle) -> Lease:
    return Lease(handle, (bytes(16), handle, -1), token=7, attempt=1, deadline=0, timeout=None, stop_grace=0, work=None)


@asynccontextmanager
async def writing() -> AsyncIterator[tuple[Paper, Outbox, asyncio.Task[None]]]:
    """At rest."""
    paper, outbox = Paper(), Outbox(lambda lease: True)
    run = asyncio.create_task(Pen(cast("Call", paper), outbox, paper).run())
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(PATIENCE):
            yield paper, outbox, run
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


async def finish(paper: Paper, outbox: Outbox, run: asyncio.Task[None]) -> list[str]:
    outbox.close()
    for _ in range(9):
        paper.taken.release()
    await run
    return paper.notes


async def test_what_is_urgent_is_begun_at_once_and_then_begins_what_it_accepts() -> None:
    async with writing() as (paper, outbox, run):
        outbox.accept([a_lease(1)])
        assert paper.notes == ["1 leases_accepted", "1 accepts [1]"]
        assert await finish(paper, outbox, run) == ["1 leases_accepted", "1 accepts [1]", "done"]


async def test_one_message_is_written_at_a_time_and_nothing_is_left() -> None:
    async with writing() as (paper, outbox, run):
        outbox.accept([a_lease(1)])
        outbox.accept([a_lease(2)])
        outbox.raise_credits(3)
        assert paper.notes == ["1 leases_accepted", "1 accepts [1]"]
        assert await finish(paper, outbox, run) == [
            *("1 leases_accepted", "1 accepts [1]", "2 credits", "3 leases_accepted", "3 accepts [2]", "done")
        ]


async def test_what_is_not_urgent_is_written_too() -> None:
    async with writing() as (paper, outbox, run):
        outbox.raise_credits(3)
        assert paper.notes == []
        assert await finish(paper, outbox, run) == ["1 credits", "done"]


async def test_a_call_that_is_over_ends_the_writer_and_nobody_else() -> None:
    async with writing() as (paper, outbox, run):
        paper.over = True
        outbox.accept([a_lease(1)])
        with pytest.raises(asyncio.InvalidStateError):
            await run
        assert paper.notes == []


async def test_a_writer_that_is_cancelled_leaves_nothing_that_was_begun() -> None:
    async with writing() as (paper, outbox, run):
        outbox.accept([a_lease(1)])
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        assert run.cancelled()
        outbox.accept([a_lease(2)])
        assert paper.notes == ["1 leases_accepted", "1 accepts [1]"]


async def test_one_that_had_nothing_to_write_rests_again() -> None:
    async with writing() as (paper, outbox, _run):
        outbox.on_urgent()
        outbox.accept([a_lease(1)])
        assert paper.notes == ["1 leases_accepted", "1 accepts [1]"]


async def test_the_outbox_does_not_keep_the_pen_of_a_call_that_is_over() -> None:
    async with writing() as (paper, outbox, run):
        pen = weakref.ref(cast("Any", outbox.on_urgent).__self__)
        gc.disable()
        try:
            await finish(paper, outbox, run)
            assert pen() is None
        finally:
            gc.enable()
