"""What the board and the post promise: in memory, on PostgreSQL and on Redis."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple

import pytest
from tests.contract.records import new_run_id
from tests.valkey import ValkeyServer, new_namespace
from tests.waiting import until

from penstock_coordinator.adapters.memory import MemoryDatabase
from penstock_coordinator.adapters.memory import hot_state as memory_adapter
from penstock_coordinator.adapters.memory.coordinator_registry import MemoryCoordinatorRegistry
from penstock_coordinator.adapters.memory.hot_state import MemoryBoard, MemoryPost
from penstock_coordinator.adapters.postgres import hot_state as postgres_adapter
from penstock_coordinator.adapters.postgres.hot_state import PostgresHotState
from penstock_coordinator.adapters.redis import RedisHotState
from penstock_coordinator.adapters.redis import hot_state as redis_adapter
from penstock_coordinator.adapters.system import SystemClock
from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState
from penstock_coordinator.core.plan.model import Line
from penstock_coordinator.ports.board import MOST_LINES, MOST_RUNS, Board, BoardEntry, LineDemand, RunStatus
from penstock_coordinator.ports.post import Letter, Post
from penstock_coordinator.runtime.board_failover import HotState, Medium
from penstock_coordinator.runtime.hot_state import Company, HotStateService
from penstock_coordinator.runtime.ownership import OwnershipKeeper

TTL = 600.0
PATIENCE = 60.0
MAILBOX = 1_000
"""Letters, here."""
PLAIN = Line("default")
RICH = Line("gpu", (("zone", "eu {west}:1"), ("ä", '"')), (("cpu", 2.0), ("gpu", 0.5)), "container:python:3.12")


class Parts(NamedTuple):
    """Of one coordinator."""

    board: Board
    post: Post


class Shared:
    """The same board and post for several coordinators, each by connections of its own."""

    def __init__(self, kind: str, request: pytest.FixtureRequest) -> None:
        self.kind = kind
        self._clock = SystemClock()
        self._memory = Parts(MemoryBoard(self._clock), MemoryPost(self._clock))
        self._opened: list[PostgresHotState | RedisHotState] = []
        self._namespace = new_namespace()
        self._dsn: str = request.getfixturevalue("database_url") if kind == "postgres" else ""
        self._redis: ValkeyServer | None = request.getfixturevalue("valkey") if kind == "redis" else None

    async def open(self, name: str) -> Parts:
        if self.kind == "memory":
            return self._memory
        opened: PostgresHotState | RedisHotState
        if self._redis is None:
            opened = await PostgresHotState.open(self._dsn, name, answer_seconds=PATIENCE)
        else:
            opened = RedisHotState(self._redis.url, self._namespace, name, answer_seconds=PATIENCE)
        self._opened.append(opened)
        return Parts(opened.board, opened.post)

    async def aclose(self) -> None:
        for each in self._opened:
            await each.aclose()


@pytest.fixture(params=["memory", "postgres", "redis"])
async def shared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shared]:
    for adapter in (memory_adapter, postgres_adapter, redis_adapter):
        monkeypatch.setattr(adapter, "LETTER_SECONDS", TTL)  # a slow machine loses none
        monkeypatch.setattr(adapter, "MAILBOX_LETTERS", MAILBOX)
    made = Shared(request.param, request)
    yield made
    await made.aclose()


def status(pipeline: str = "etl") -> RunStatus:
    return RunStatus(new_run_id(), pipeline, "RUNNING", 1, 2, 3, 4, 5, 15)


async def read(board: Board) -> list[BoardEntry]:
    return [each.entry for each in await board.read()]


async def taken(post: Post, name: str, count: int) -> list[Letter]:
    """So many letters, however often the mailbox is looked into."""
    found: list[Letter] = []
    async with asyncio.timeout(PATIENCE):
        while len(found) < count:
            found += await post.receive(name, 1.0)
    return found


# --- the board


async def test_what_one_publishes_another_reads(shared: Shared) -> None:
    first, second = await shared.open("a"), await shared.open("b")
    lines = LineDemand(PLAIN, 1_000_000, 0, 7_000_000_000), LineDemand(RICH, 0, 3)
    entry = BoardEntry("a", 12, 345, lines, (status(), status("ml.train")), relayed=3)
    await first.board.publish(entry, TTL)
    (found,) = await second.board.read()
    assert set(found.entry.lines) == set(entry.lines)
    assert {each.run_id: each for each in found.entry.runs} == {each.run_id: each for each in entry.runs}
    assert (found.entry.coordinator_id, found.entry.epoch, found.entry.live_runs) == ("a", 12, 345)
    assert found.age >= 0


async def test_a_publication_takes_the_place_of_the_former_one(shared: Shared) -> None:
    parts = await shared.open("a")
    await parts.board.publish(
        BoardEntry("a", 1, 2, (LineDemand(PLAIN, 5, 5), LineDemand(RICH, 1, 0)), (status(),)), TTL
    )
    newer = BoardEntry("a", 1, 1, (LineDemand(PLAIN, 0, 1),))
    for _ in range(2):
        await parts.board.publish(newer, TTL)
        assert await read(parts.board) == [newer]


async def test_a_publication_is_gone_after_its_time(shared: Shared) -> None:
    first, second = await shared.open("a"), await shared.open("b")
    await second.board.publish(BoardEntry("b"), TTL)
    await first.board.publish(BoardEntry("a"), 0.01)

    async def gone() -> bool:
        return await read(second.board) == [BoardEntry("b")]

    await until(gone, PATIENCE)


async def test_what_is_withdrawn_is_gone_and_nothing_else(shared: Shared) -> None:
    first, second = await shared.open("a"), await shared.open("b")
    await first.board.publish(BoardEntry("a", 1, 1, (LineDemand(PLAIN, 1, 1),), (status(),)), TTL)
    await second.board.publish(BoardEntry("b"), TTL)
    for _ in range(2):
        await first.board.withdraw("a")
        assert await read(second.board) == [BoardEntry("b")]


async def test_coordinators_come_by_their_ids(shared: Shared) -> None:
    parts = await shared.open("b")
    for name in ("b", "c:1", "a"):
        await parts.board.publish(BoardEntry(name), TTL)
    assert [each.coordinator_id for each in await read(parts.board)] == ["a", "b", "c:1"]


async def test_the_most_that_is_published_is_read_whole(shared: Shared) -> None:
    parts = await shared.open("a")
    lines = tuple(
        LineDemand(Line(f"queue-{number:04}", (("n", str(number)),)), number, 1) for number in range(MOST_LINES)
    )
    runs = tuple(status() for _ in range(MOST_RUNS))
    await parts.board.publish(BoardEntry("a", 1, 9, lines, runs), TTL)
    (found,) = await read(parts.board)
    assert set(found.lines) == set(lines)
    assert set(found.runs) == set(runs)


# --- the post


async def test_letters_come_to_those_they_are_for(shared: Shared) -> None:
    first, second = await shared.open("a"), await shared.open("b")
    letters = [Letter("kind", "a", bytes(range(256))), Letter("other", "a")]
    await first.post.send({"b": letters, "c": [Letter("kind", "a")], "d": []})
    assert set(await taken(second.post, "b", 2)) == set(letters)
    assert await first.post.receive("a", 0.0) == []
    assert await taken(first.post, "c", 1) == [Letter("kind", "a")]


async def test_what_was_taken_is_not_taken_again(shared: Shared) -> None:
    parts = await shared.open("a")
    await parts.post.send({"a": [Letter("one", "b")]})
    assert await taken(parts.post, "a", 1) == [Letter("one", "b")]
    assert await parts.post.receive("a", 0.0) == []
    await parts.post.send({"a": [Letter("two", "b")]})
    assert await taken(parts.post, "a", 1) == [Letter("two", "b")]


async def test_who_waits_hears_of_a_letter_that_comes_meanwhile(shared: Shared) -> None:
    first, second = await shared.open("a"), await shared.open("b")
    waiting = asyncio.create_task(taken(second.post, "b", 1))
    await asyncio.sleep(0)
    await first.post.send({"b": [Letter("kind", "a")]})
    assert await waiting == [Letter("kind", "a")]


async def test_nobody_waits_for_longer_than_asked(shared: Shared) -> None:
    parts = await shared.open("a")
    async with asyncio.timeout(PATIENCE):
        assert await parts.post.receive("a", 0.01) == []


async def test_who_gave_up_waiting_spoils_nothing(shared: Shared) -> None:
    first, second = await shared.open("a"), await shared.open("b")
    for number in range(5):
        waiting = asyncio.create_task(second.post.receive("b", 1.0))
        for _ in range(number * 3):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        await second.board.publish(BoardEntry("b", number), TTL)
        assert await read(second.board) == [BoardEntry("b", number)]
    await first.post.send({"b": [Letter("kind", "a")]})
    assert await taken(second.post, "b", 1) == [Letter("kind", "a")]


async def test_a_letter_that_is_sent_twice_comes_at_most_twice(shared: Shared) -> None:
    parts = await shared.open("a")
    for _ in range(2):
        await parts.post.send({"a": [Letter("same", "b")]})
    await parts.post.send({"a": [Letter("last", "b")]})
    found: list[Letter] = []
    while Letter("last", "b") not in found:
        found += await taken(parts.post, "a", 1)
    assert found.count(Letter("same", "b")) <= 2


async def test_of_a_full_mailbox_the_newest_letters_are_kept(shared: Shared) -> None:
    parts = await shared.open("a")
    step = MAILBOX // 2
    for start in range(0, 4 * step, step):
        await parts.post.send({"a": [Letter("n", "b", str(start + number).encode()) for number in range(step)]})
    found: list[int] = []
    while batch := await parts.post.receive("a", 0.0):
        found += [int(letter.body) for letter in batch]
    assert MAILBOX <= len(found) <= MAILBOX + step // 2, "Redis cuts off whole blocks of a hundred"
    assert max(found) == 4 * step - 1
    assert min(found) >= step


# --- what is made of it


class UnreliablePost:
    """Loses letters, doubles them, and keeps some for later."""

    def __init__(self, post: Post, seed: int) -> None:
        self._post = post
        self._chance = random.Random(seed)
        self._late: list[tuple[str, Letter]] = []

    async def send(self, mail: Mapping[str, Sequence[Letter]]) -> None:
        out = self._late
        self._late = []
        for name, letters in mail.items():
            for letter in letters:
                where = self._chance.choice([[], [out], [out, out], [self._late], [out, self._late]])
                for each in where:
                    each.append((name, letter))
        self._chance.shuffle(out)
        for name, letter in out:
            await self._post.send({name: [letter]})

    async def receive(self, coordinator_id: str, wait: float) -> list[Letter]:
        found = await self._post.receive(coordinator_id, wait)
        self._chance.shuffle(found)
        return found


class SteadyClock(SystemClock):
    """Leases never run out: whoever takes over was told, or has looked."""

    def monotonic(self) -> int:
        return 1_000_000


@pytest.mark.parametrize("seed", range(4))
async def test_runs_have_one_owner_after_another_whatever_becomes_of_the_letters(shared: Shared, seed: int) -> None:
    database = MemoryDatabase()
    stop = asyncio.Event()
    keepers: dict[str, OwnershipKeeper] = {}
    services: dict[str, HotStateService] = {}
    for name in ("a", "b"):
        parts = await shared.open(name)
        row = CoordinatorRow(name, OwnershipState.FOLLOWER, 0, 0, 1_000_000, f"{name}:1", "", 1)
        keepers[name] = OwnershipKeeper(MemoryCoordinatorRegistry(database), SteadyClock(), row, 1)
        medium = Medium(shared.kind, parts.board, UnreliablePost(parts.post, seed))
        company = Company(keepers[name], SteadyClock())
        services[name] = HotStateService(
            HotState(medium, medium, None, SteadyClock(), company.alone), keepers[name], company
        )
        await keepers[name].introduce(f"{name}:1", "")
        services[name].start()
    owner, other = "a", "b"
    epochs: list[int] = []
    async with asyncio.timeout(PATIENCE):
        await keepers[owner].campaign(stop)
        epochs.append(keepers[owner].epoch)
        for _ in range(4):
            campaign = asyncio.create_task(keepers[other].campaign(stop))
            await keepers[owner].release()
            await services[owner].tell(epochs[-1], owns=False)
            await campaign
            epochs.append(keepers[other].epoch)
            await services[other].tell(epochs[-1], owns=True)
            await keepers[owner].introduce(f"{owner}:1", "")
            owner, other = other, owner
    assert all(epochs)
    assert epochs == sorted(set(epochs))
    for service in services.values():
        await service.aclose()
