"""Lines on their way from rows into packs: none lost, in order, whoever is away or overtakes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from penstock_coordinator.adapters.memory import MemoryDatabase, memory_stores
from penstock_coordinator.adapters.memory.artifact_store import MemoryArtifactStore
from penstock_coordinator.ports import LogChunk, LogFilter, LogLine, Stores, Unavailable
from penstock_coordinator.runtime import log_history, log_packer, log_packing
from penstock_coordinator.runtime.log_history import LogHistory
from penstock_coordinator.runtime.log_packer import LogPacker, PackPace

RUN = bytes(15) + b"r"
OTHER = bytes(15) + b"s"
SECOND = 1_000_000
AFTER = 60 * SECOND
EVERYTHING = LogFilter()


class Clock:
    def __init__(self) -> None:
        self.time = 1_000 * SECOND

    def now(self) -> int:
        return self.time

    def monotonic(self) -> int:
        return self.time


class Ids:
    """Keys in order."""

    def __init__(self) -> None:
        self._next = 0

    def run_id(self) -> bytes:
        return RUN

    def key(self) -> bytes:
        self._next += 1
        return self._next.to_bytes(8, "big") * 4

    def jitter(self) -> float:
        return 0.5


class Store(MemoryArtifactStore):
    """May be away."""

    away = False

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    async def write_blob(self, name: str, content: bytes) -> None:
        if self.away:
            raise Unavailable("the artifact store is away")
        await super().write_blob(name, content)

    async def read_blob(self, name: str, limit: int) -> bytes | None:
        if self.away:
            raise Unavailable("the artifact store is away")
        self.reads += 1
        return await super().read_blob(name, limit)


class World:
    def __init__(self, backlog_bytes: int = 1 << 30) -> None:
        self.objects = Store()
        self.stores: Stores = memory_stores(MemoryDatabase(), coordinator_id="c1", lanes=1, objects=self.objects)
        self.clock = Clock()
        self.held: list[bool] = []
        self.pace = PackPace(AFTER, backlog_bytes)
        self.packer = self.another_packer()
        self.history = LogHistory(self.stores.logs, self.stores.log_packs, self.objects)
        self._number = 0

    def another_packer(self) -> LogPacker:
        return LogPacker(self.stores.log_packs, self.objects, self.clock, Ids(), self.pace, self.held.append)

    async def write(self, *texts: str, run_id: bytes = RUN, step: int = 0, attempt: int = 1) -> None:
        """One row each, as the hub does it."""
        for text in texts:
            self._number += 1
            line = LogLine(1, self._number, 0, text)
            await self.stores.logs.append_logs([LogChunk(run_id, step, -1, attempt, self.clock.time, (line,))])
            self.packer.wrote(run_id, len(text))

    async def texts(self, where: LogFilter = EVERYTHING, run_id: bytes = RUN, limit: int = 3) -> list[str]:
        found: list[str] = []
        after = 0
        while chunks := await self.history.read_logs(run_id, where, after, limit):
            found += [line.text for chunk in chunks for line in chunk.lines]
            assert [chunk.position for chunk in chunks] == sorted(chunk.position for chunk in chunks)
            assert chunks[0].position > after
            after = chunks[-1].position
        return found

    async def row_count(self, run_id: bytes = RUN) -> int:
        return len(await self.stores.logs.read_logs(run_id, EVERYTHING, 0, 100_000))

    def grow_old(self) -> None:
        self.clock.time += AFTER


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """With packs of some lines."""
    monkeypatch.setattr(log_packer, "SMALLEST", 1)
    monkeypatch.setattr(log_packer, "PACK_BYTES", 200)
    monkeypatch.setattr(log_packer, "ROW_BYTES", 100_000)
    return World()


def numbered(first: int, last: int) -> list[str]:
    return [f"line {number:03}" for number in range(first, last + 1)]


async def test_lines_stay_rows_until_they_are_enough_or_old(world: World) -> None:
    await world.write(*numbered(1, 3))
    assert await world.packer.run_once() == 0
    assert await world.row_count() == 3
    world.grow_old()
    assert await world.packer.run_once() == 1
    assert await world.row_count() == 0
    assert await world.texts() == numbered(1, 3)
    assert await world.packer.run_once() == 0


async def test_what_fills_a_pack_is_packed_at_once_and_the_rest_later(world: World) -> None:
    await world.write(*numbered(1, 60))
    made = await world.packer.run_once()
    assert made > 2
    rest = await world.row_count()
    assert 0 < rest < 60 // made + 1
    assert await world.texts() == numbered(1, 60)
    world.grow_old()
    assert await world.packer.run_once() == 1
    assert await world.row_count() == 0
    assert await world.texts() == numbered(1, 60)
    assert await world.texts(limit=1_000) == numbered(1, 60)


async def test_less_than_an_object_is_worth_stays_in_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_packer, "SMALLEST", 10_000)
    await world.write("line")
    world.grow_old()
    assert await world.packer.run_once(thorough=True) == 0
    assert await world.texts() == ["line"]
    assert not world.objects.blobs


async def test_lines_that_come_meanwhile_follow(world: World) -> None:
    await world.write(*numbered(1, 3))
    world.grow_old()
    await world.packer.run_once()
    await world.write(*numbered(4, 5))
    assert await world.texts() == numbered(1, 5)
    world.grow_old()
    await world.packer.run_once()
    assert await world.texts() == numbered(1, 5)
    assert len(world.objects.blobs) == 2


async def test_steps_and_attempts_are_found_in_packs(world: World) -> None:
    for number in range(1, 9):
        await world.write(f"a{number}", step=0)
        await world.write(f"b{number}", step=1, attempt=1 + number % 2)
    await world.write("other", run_id=OTHER)
    world.grow_old()
    await world.packer.run_once()
    await world.write("a9", step=0)
    assert await world.texts(LogFilter(step=0)) == [f"a{number}" for number in range(1, 10)]
    assert await world.texts(LogFilter(step=1, attempt=2)) == ["b1", "b3", "b5", "b7"]
    assert await world.texts(LogFilter(step=7)) == []
    assert await world.texts(run_id=OTHER) == ["other"]


async def test_the_last_chunks_reach_back_into_packs(world: World) -> None:
    await world.write(*numbered(1, 40))
    world.grow_old()
    await world.packer.run_once()
    await world.write(*numbered(41, 43))

    async def last(limit: int, where: LogFilter = EVERYTHING) -> list[str]:
        chunks = await world.history.last_logs(RUN, where, limit)
        return [line.text for chunk in chunks for line in chunk.lines]

    assert await last(2) == numbered(42, 43)
    assert await last(5) == numbered(39, 43)
    assert await last(30) == numbered(14, 43)
    assert await last(100) == numbered(1, 43)
    assert await last(0) == []
    assert await last(3, LogFilter(step=5)) == []


async def test_a_row_that_is_packed_between_two_looks_is_told_once(world: World) -> None:
    await world.write(*numbered(1, 10))

    class Late:
        """The rows, and the packer is quick."""

        async def read_logs(self, run_id: bytes, where: LogFilter, after: int, limit: int) -> Sequence[LogChunk]:
            rows = await world.stores.logs.read_logs(run_id, where, after, limit)
            world.grow_old()
            await world.packer.run_once()
            return rows

        last_logs = world.stores.logs.last_logs

    world.history = LogHistory(Late(), world.stores.log_packs, world.objects)  # type: ignore[arg-type]  # all it needs
    assert await world.texts() == numbered(1, 10)


async def test_while_the_store_is_away_lines_wait_in_rows(world: World) -> None:
    world.objects.away = True
    await world.write(*numbered(1, 30))
    for _ in range(3):
        world.grow_old()
        assert await world.packer.run_once() == 0
    assert await world.row_count() == 30
    assert await world.texts() == numbered(1, 30), "nothing is packed, so nothing is asked of the store"
    world.objects.away = False
    assert await world.packer.run_once() > 1
    assert await world.row_count() == 0
    assert await world.texts() == numbered(1, 30)
    assert world.held == []
    names = await world.stores.log_packs.unused_names(world.clock.time + 1, 100)
    assert len(names) == 3
    assert not set(names) & set(world.objects.blobs), "of the tries that failed the names alone are left"


async def test_too_much_that_waits_for_the_store_holds_writers_up(world: World) -> None:
    world.pace = PackPace(AFTER, 100)
    world.packer = world.another_packer()
    world.objects.away = True
    await world.write(*numbered(1, 20))
    world.grow_old()
    await world.packer.run_once()
    assert world.held == [True]
    await world.packer.run_once()
    world.objects.away = False
    await world.packer.run_once()
    assert world.held == [True, False]


async def test_a_survey_finds_what_another_process_left(world: World) -> None:
    await world.write(*numbered(1, 5))
    await world.write("other", run_id=OTHER)
    world.packer = world.another_packer()
    assert await world.packer.run_once() == 0, "they are young"
    world.grow_old()
    assert await world.packer.run_once(thorough=True) == 2
    assert await world.texts() == numbered(1, 5)


async def test_of_two_packers_one_packs(world: World) -> None:
    await world.write(*numbered(1, 5))
    world.grow_old()
    other = world.another_packer()
    write = world.objects.write_blob

    async def overtaken(name: str, content: bytes) -> None:
        world.objects.write_blob = write  # type: ignore[method-assign]  # once
        assert await other.run_once(thorough=True) == 1
        await write(name, content)

    world.objects.write_blob = overtaken  # type: ignore[method-assign]  # once
    other._ids = Ids()
    other._ids.key()
    assert await world.packer.run_once() == 0
    assert await world.texts() == numbered(1, 5)
    assert len(await world.stores.log_packs.unused_names(world.clock.time + 1, 10)) == 1


@pytest.mark.parametrize("content", [None, b"other bytes"])
async def test_a_pack_that_the_store_has_lost_is_told_of(world: World, content: bytes | None) -> None:
    await world.write(*numbered(1, 4))
    await world.write("b", step=1)
    world.grow_old()
    await world.packer.run_once()
    await world.write("after")
    for name in list(world.objects.blobs):
        if content is None:
            del world.objects.blobs[name]
        else:
            world.objects.blobs[name] = content
    chunks = await world.history.read_logs(RUN, LogFilter(step=0), 0, 10)
    (line,) = chunks[0].lines
    assert (line.source, line.number) == (log_history.SYSTEM, 4)
    assert "4 lines are lost" in line.text
    assert (await world.texts())[-1] == "after"


async def test_many_readers_fetch_a_pack_once(world: World) -> None:
    await world.write(*numbered(1, 4))
    world.grow_old()
    await world.packer.run_once()
    for _ in range(5):
        assert await world.texts() == numbered(1, 4)
    assert world.objects.reads == 1


async def test_a_reader_is_told_when_the_store_is_away(world: World) -> None:
    await world.write(*numbered(1, 4))
    world.grow_old()
    await world.packer.run_once()
    world.objects.away = True
    with pytest.raises(Unavailable, match="away"):
        await world.texts()


async def test_a_pack_is_bounded_by_what_its_lines_unpack_to() -> None:
    world = World()
    zeros = LogChunk(RUN, 0, -1, 1, 5, tuple(LogLine(1, n, 0, "\0" * 60_000) for n in range(1, 21)))
    for number in range(5):
        moved = dataclasses.replace(zeros, attempt=number + 1)
        await world.stores.logs.append_logs([moved])
    rows = await world.stores.log_packs.oldest_rows(RUN, 100, 1 << 20)
    assert len(rows) == 5, "they are small as they are stored"
    made = log_packing.make_pack(RUN, "logs/a", rows, log_packer.PACK_BYTES)
    assert made.pack.rows == 1
