"""When what a coordinator has to say to an agent is begun, and in which order it is written."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import pytest

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.api.agent_pen import Pen
from penstock_coordinator.core.counts.grants import GrantCounts
from penstock_coordinator.core.fleet.leases import Holder
from penstock_coordinator.runtime.hello import agent_row, capacity_of
from penstock_coordinator.runtime.session import AgentSession, enclosed

if TYPE_CHECKING:
    from typing import Any

    import grpc

PATIENCE = 60.0


class Paper:
    """What gRPC gives a handler to write to: takes messages when it is told to."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.taken = asyncio.Semaphore(0)
        self.over = False

    async def write(self, message: wire.CoordinatorMessage) -> None:
        if self.over:
            raise asyncio.InvalidStateError("the call is over")
        grants = [grant.attempt for grant in message.lease_grants.grants]
        self.notes.append(f"{message.seq} {message.WhichOneof('body')}{grants or ''}")
        await self.taken.acquire()


def grant(session: AgentSession, *attempts: int) -> None:
    for attempt in attempts:
        made = enclosed()
        made.grant.attempt = attempt
        session.grant(made)
    session.on_urgent()


@asynccontextmanager
async def writing() -> AsyncIterator[tuple[Paper, AgentSession, asyncio.Task[None]]]:
    """At rest, when the welcome is written."""
    hello = wire.Hello(agent_id="agent-1", boot_id="boot-1", slots=1)
    holder = Holder("agent-1", 1, "boot-1", 0)
    session = AgentSession(
        holder, capacity_of(hello, 1), agent_row(hello, 0), wire.Welcome(), lambda: True, GrantCounts()
    )
    paper = Paper()
    run = asyncio.create_task(Pen(cast("grpc.aio.ServicerContext[Any, Any]", paper), session).run())
    paper.taken.release()
    await asyncio.sleep(0)
    assert paper.notes == ["1 welcome"]
    paper.notes.clear()
    try:
        async with asyncio.timeout(PATIENCE):
            yield paper, session, run
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


async def finish(paper: Paper, session: AgentSession, run: asyncio.Task[None]) -> list[str]:
    session.close("superseded")
    for _ in range(9):
        paper.taken.release()
    await run
    return paper.notes


async def test_what_is_urgent_is_begun_at_once() -> None:
    async with writing() as (paper, session, run):
        grant(session, 1)
        assert paper.notes == ["2 lease_grants[1]"]
        assert await finish(paper, session, run) == ["2 lease_grants[1]", "3 goaway"]


async def test_grants_of_a_moment_go_together() -> None:
    async with writing() as (paper, session, _run):
        grant(session, 1, 2, 3)
        assert paper.notes == ["2 lease_grants[1, 2, 3]"]


async def test_one_message_is_written_at_a_time_and_nothing_is_left() -> None:
    async with writing() as (paper, session, run):
        grant(session, 1)
        grant(session, 2)
        session.resume()
        assert paper.notes == ["2 lease_grants[1]"]
        assert await finish(paper, session, run) == [
            *("2 lease_grants[1]", "3 lease_grants[2]", "4 resume", "5 goaway")
        ]


async def test_what_is_not_urgent_is_written_too() -> None:
    async with writing() as (paper, session, run):
        session.resume()
        assert paper.notes == []
        assert await finish(paper, session, run) == ["2 resume", "3 goaway"]


async def test_a_call_that_is_over_ends_the_writer_and_nobody_else() -> None:
    async with writing() as (paper, session, run):
        paper.over = True
        grant(session, 1)
        with pytest.raises(asyncio.InvalidStateError):
            await run
        grant(session, 2)
        assert paper.notes == []


async def test_one_that_had_nothing_to_write_rests_again() -> None:
    async with writing() as (paper, session, _run):
        session.on_urgent()
        grant(session, 1)
        assert paper.notes == ["2 lease_grants[1]"]


async def test_the_session_does_not_keep_the_pen_of_a_call_that_is_over() -> None:
    async with writing() as (paper, session, run):
        pen = weakref.ref(cast("Any", session.on_urgent).__self__)
        gc.disable()
        try:
            await finish(paper, session, run)
            assert pen() is None
        finally:
            gc.enable()
