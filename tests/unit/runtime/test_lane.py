"""When a lane runs the turns of its runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from penstock_coordinator.adapters.postgres.journal import _Lane as PostgresLane
from penstock_coordinator.ports import AppendOutcome, Committed, Fenced, Record
from penstock_coordinator.runtime.begun import Begun
from penstock_coordinator.runtime.lane import Lane

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Sequence

    from penstock_coordinator.ports import Fenced, Journal
    from penstock_coordinator.runtime.actor import Actor


class SlowJournal:
    """Commits what it was given when it is told to."""

    def __init__(self) -> None:
        self.commits: list[int] = []
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()

    async def commit(self, _lane: int, records: Sequence[Record]) -> list[AppendOutcome]:
        self.commits.append(len(records))
        self.begun.set()
        await self.may_end.wait()
        return [Committed()] * len(records)


class Participant:
    """Decides something in each of its turns."""

    def __init__(self) -> None:
        self.scheduled = self.has_mail = self.discarded = False
        self.turns = self.settled = self.prepared = 0

    def turn(self) -> Any:
        self.turns += 1
        return Decided(self)

    def prepare(self, _turn: object) -> None:
        self.prepared += 1

    def settle(self, _turn: object, _outcome: AppendOutcome) -> None:
        self.settled += 1


class Decided:
    def __init__(self, actor: Participant) -> None:
        self.actor = actor
        self.size = 1
        self.record = Record(run_id=bytes(16), first_seq=1, last_seq=1, payload=b"", at=0)


def as_actor(participant: Participant) -> Actor:
    return cast("Actor", participant)


@pytest.fixture
def journal() -> SlowJournal:
    return SlowJournal()


@pytest.fixture
async def lane(journal: SlowJournal) -> AsyncIterator[Lane]:
    lane = Lane(0, cast("Journal", journal), lambda error: None)
    yield lane
    journal.may_end.set()
    await lane.close()


async def test_with_no_commit_under_way_turns_that_are_hurried_run_at_once_and_once(lane: Lane) -> None:
    run = Participant()
    lane.schedule(as_actor(run))
    assert run.turns == 0
    lane.hurry()
    assert run.turns == 1
    await asyncio.sleep(0)
    assert run.turns == 1


async def test_what_is_hurried_is_on_its_way_at_once_and_once(lane: Lane, journal: SlowJournal) -> None:
    await asyncio.sleep(0)
    run = Participant()
    lane.schedule(as_actor(run))
    lane.hurry()
    assert journal.commits == [1]

    journal.may_end.set()
    await lane.drain()
    assert (journal.commits, run.settled) == ([1], 1)


class ForeignJournal:
    """Somebody else owns the runs."""

    async def commit(self, _lane: int, _records: Sequence[Record]) -> list[AppendOutcome]:
        raise Fenced("this epoch is over")


async def test_a_commit_that_fails_at_once_ends_the_lane_and_not_who_hurried() -> None:
    fenced: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    lane = Lane(0, cast("Journal", ForeignJournal()), fenced.set_result)
    await asyncio.sleep(0)
    lane.schedule(as_actor(Participant()))
    lane.hurry()
    assert isinstance(await fenced, Fenced)
    await lane.close()


async def test_a_lane_may_be_closed_when_a_commit_has_just_begun(journal: SlowJournal) -> None:
    lane = Lane(0, cast("Journal", journal), lambda error: None)
    await asyncio.sleep(0)
    run = Participant()
    lane.schedule(as_actor(run))
    lane.hurry()
    await lane.close()
    assert (journal.commits, run.settled) == ([1], 0)


async def test_while_a_commit_is_under_way_turns_wait_for_the_loop_and_are_committed_together(
    lane: Lane, journal: SlowJournal
) -> None:
    first, second, third = Participant(), Participant(), Participant()
    lane.schedule(as_actor(first))
    lane.hurry()
    await journal.begun.wait()

    for late in (second, third):
        lane.schedule(as_actor(late))
        lane.hurry()
        assert late.turns == 0
    await asyncio.sleep(0)
    assert (second.turns, third.turns) == (1, 1)

    journal.may_end.set()
    await lane.drain()
    assert journal.commits == [1, 2]
    assert [run.settled for run in (first, second, third)] == [1, 1, 1]


async def test_there_may_be_nothing_to_hurry_for(lane: Lane, journal: SlowJournal) -> None:
    lane.hurry()
    await asyncio.sleep(0)
    assert journal.commits == []


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "closing"])
async def test_a_lane_that_is_closed_or_just_closing_begins_no_commit(journal: SlowJournal, *, closed: bool) -> None:
    lane = Lane(0, cast("Journal", journal), lambda error: None)
    await asyncio.sleep(0)
    closing = asyncio.create_task(lane.close())
    await asyncio.sleep(0)
    assert not closing.done()
    if closed:
        await closing
    lane.schedule(as_actor(Participant()))
    lane.hurry()
    await closing
    assert journal.commits == []


async def of_python_3_12(waiting: Awaitable[object], seconds: float) -> object:
    """`asyncio.wait_for`."""
    async with asyncio.timeout(seconds):
        return await waiting


async def test_who_hurried_is_not_cancelled_when_the_pause_before_the_next_try_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asyncio, "wait_for", of_python_3_12)
    way = PostgresLane("", "one", 0, 1.0, lambda _lane, _trouble: None)
    begun: asyncio.Future[Begun] = asyncio.get_running_loop().create_future()
    may_end = asyncio.Event()

    async def hurry() -> None:
        begun.set_result(Begun(way._pause(0.05)))
        await may_end.wait()

    foreign = asyncio.create_task(hurry())
    async with asyncio.timeout(5):
        await (await begun)
    may_end.set()
    await foreign
