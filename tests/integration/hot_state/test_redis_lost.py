"""A Redis that is lost in every way, and comes back: where the hot state is meanwhile.

Probes are counted here, not timed: how long some of them take is said by `test_board_switch`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis
from tests.valkey import ValkeyServer, running_valkey
from tests.waiting import until

from penstock_coordinator.adapters.memory.hot_state import MemoryBoard, MemoryPost
from penstock_coordinator.adapters.redis import RedisHotState
from penstock_coordinator.adapters.redis.link import ANSWER_SECONDS
from penstock_coordinator.adapters.system import SystemClock
from penstock_coordinator.core.plan.model import Line
from penstock_coordinator.ports import DependencyState, Unavailable
from penstock_coordinator.ports.board import BoardEntry, LineDemand
from penstock_coordinator.ports.post import Letter
from penstock_coordinator.runtime.board_failover import FAILURES, SUCCESSES, HotState, Medium
from penstock_coordinator.runtime.board_publisher import BoardPublisher

TTL = 600.0
PATIENCE = 90.0
ENTRY = BoardEntry("a", 3, 7, (LineDemand(Line("default"), 12, 4),))
LETTER = Letter("kind", "b")


@dataclass
class World:
    """One coordinator. `other` stands for PostgreSQL, which has a suite of its own."""

    server: ValkeyServer
    redis: RedisHotState
    other: Medium
    hot: HotState

    async def works_on(self, medium: str) -> None:
        """Returns when it does: probes are made in between, and may find that a busy machine was slow."""

        async def works() -> bool:
            try:
                await self.hot.probe()
                await self.hot.publish(ENTRY, TTL)
                board = self.redis.board if medium == "redis" else self.other.board
                published = [each.entry for each in await board.read()]
                await self.hot.send({"a": [LETTER]})
                came = await self.hot.receive("a", 0.1)
            except Unavailable:
                return False
            return self.hot.medium.name == medium and published == [ENTRY] and LETTER in came

        await until(works, PATIENCE)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    with running_valkey(tmp_path / "valkey") as started:
        yield started


@asynccontextmanager
async def coordinator(server: ValkeyServer, name: str = "a", answer_seconds: float = PATIENCE) -> AsyncIterator[World]:
    """What waits for an answer for so long takes no slow machine for a loss."""
    clock = SystemClock()
    redis = RedisHotState(server.url, "test", name, answer_seconds)
    other = Medium("postgresql", MemoryBoard(clock), MemoryPost(clock))
    hot = HotState(other, other, Medium("redis", redis.board, redis.post, redis.probe), clock, lambda: False)
    yield World(server, redis, other, hot)
    await redis.aclose()


@pytest.fixture
async def world(server: ValkeyServer) -> AsyncIterator[World]:
    async with coordinator(server) as made:
        yield made


def sleep(server: ValkeyServer) -> None:
    """For as long as the test lasts: nobody waits for it."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"DEBUG SLEEP 600\r\n")


def cut_short(server: ValkeyServer) -> None:
    """Awake again, as if it had been started anew."""
    server.kill()
    server.start()


def follow_nobody(server: ValkeyServer) -> None:
    """A replica of a server that is not there, as after a failover."""
    server.ask("REPLICAOF", "127.0.0.1", 1)


def lead_again(server: ValkeyServer) -> None:
    server.ask("REPLICAOF", "NO", "ONE")


def fill(server: ValkeyServer) -> None:
    server.ask("CONFIG", "SET", "maxmemory", 1)


def empty(server: ValkeyServer) -> None:
    server.ask("CONFIG", "SET", "maxmemory", 0)


def refuse_writes(server: ValkeyServer) -> None:
    server.ask("CONFIG", "SET", "min-replicas-to-write", 1)


def take_writes(server: ValkeyServer) -> None:
    server.ask("CONFIG", "SET", "min-replicas-to-write", 0)


Act = Callable[[ValkeyServer], object]
WAYS: dict[str, tuple[Act, Act]] = {
    "killed": (ValkeyServer.kill, ValkeyServer.start),
    "frozen": (ValkeyServer.freeze, ValkeyServer.thaw),
    "asleep": (sleep, cut_short),
    "read-only": (follow_nobody, lead_again),
    "out of memory": (fill, empty),
    "without replicas": (refuse_writes, take_writes),
}
HANGING = "frozen", "asleep"


@pytest.mark.parametrize("way", WAYS)
async def test_a_redis_that_is_lost_is_left_and_come_back_to(server: ValkeyServer, way: str) -> None:
    lose, mend = WAYS[way]
    async with coordinator(server, answer_seconds=ANSWER_SECONDS if way in HANGING else PATIENCE) as world:
        await world.works_on("redis")
        changes = world.hot.view.changes
        lose(server)
        await world.works_on("postgresql")
        found = world.hot.dependency()
        assert found is not None
        assert found.state is DependencyState.OPEN
        assert found.reason
        assert (world.hot.view.medium, world.hot.view.preferred) == ("postgresql", "redis")
        assert world.hot.view.changes > changes

        mend(server)
        await world.works_on("redis")
        assert world.hot.view.medium == "redis"


async def test_it_comes_back_with_the_probes_that_succeed_in_a_row(world: World) -> None:
    world.server.kill()
    for _ in range(FAILURES):
        assert world.hot.medium.name == "redis"
        await world.hot.probe()
    assert world.hot.medium.name == "postgresql"
    world.server.start()
    for _ in range(SUCCESSES):
        assert world.hot.medium.name == "postgresql"
        await world.hot.probe()
    assert (world.hot.view.medium, world.hot.view.reason, world.hot.view.changes) == ("redis", "", 2)


async def test_what_is_asked_counts_like_a_probe(world: World) -> None:
    """Whoever asks when Redis fails for the last time is answered by PostgreSQL."""
    world.server.kill()
    with pytest.raises(Unavailable):
        await world.hot.publish(ENTRY, TTL)
    await world.hot.publish(ENTRY, TTL)
    assert [each.entry for each in await world.other.board.read()] == [ENTRY]


@pytest.mark.parametrize("how", ["flushed", "restarted"])
async def test_a_redis_that_was_emptied_is_published_to_again_at_once(world: World, how: str) -> None:
    publisher = BoardPublisher(world.hot, SystemClock(), lambda: BoardEntry("a", 3, 7, ENTRY.lines), tuple)
    await world.hot.probe()
    await publisher.run_once()
    if how == "flushed":
        world.server.ask("FLUSHALL")
    else:
        world.server.kill()
        world.server.start()
    assert await world_reads(world) == []
    for _ in range(FAILURES + SUCCESSES):
        await world.hot.probe()
    assert world.hot.emptied.is_set()
    assert await publisher.run_once()
    assert await world_reads(world) == [ENTRY]


async def world_reads(world: World) -> list[BoardEntry]:
    """By other connections than the coordinator's, which may have to be made anew."""
    async with coordinator(world.server, "reader", PATIENCE) as reader:
        return [each.entry for each in await reader.redis.board.read()]


async def test_two_that_decided_otherwise_still_hear_of_each_other(world: World) -> None:
    async with coordinator(world.server, "b", PATIENCE) as apart:
        apart.hot = HotState(world.other, world.other, None, SystemClock(), lambda: False)
        here = BoardEntry("a", 1)
        await world.hot.publish(here, TTL)
        await apart.hot.publish(BoardEntry("b"), TTL)
        await world.hot.look_elsewhere()
        assert [each.entry for each in await world.hot.read()] == [here, BoardEntry("b")]
        await world.hot.send({"b": [LETTER]})
        assert await apart.hot.receive("b", 0.0) == [LETTER]
        await apart.hot.send({"a": [LETTER]})
        assert await world.hot.receive_elsewhere("a") == [LETTER]


async def test_a_call_that_is_given_up_leaves_no_answer_to_the_next_one(world: World) -> None:
    """Of two that share a connection, the second must not read what the first one asked for."""
    async with coordinator(world.server, "patient", PATIENCE) as patient:
        link = patient.redis._link
        for number in range(100):
            asking = asyncio.create_task(link.ask("ECHO", f"given up {number}"))
            for _ in range(number % 10):
                await asyncio.sleep(0)
            asking.cancel()
            assert await link.ask("ECHO", f"asked {number}") == f"asked {number}".encode()
            await asyncio.wait({asking})


async def test_a_command_is_never_sent_twice(world: World) -> None:
    """The answer is lost, and what was asked was done: it is not repeated behind the caller's back."""
    proxy_closed = asyncio.Event()
    seen: list[bytes] = []

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            seen.append(data)
            if b"INCR" in data:
                writer.transport.abort()
                proxy_closed.set()
                return
            writer.write(b"+OK\r\n" * data.count(b"*"))

    listening = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    redis = RedisHotState(f"redis://127.0.0.1:{port}/0", "test", "a", PATIENCE)
    with pytest.raises(Unavailable):
        await redis._link.ask("INCR", "count")
    await proxy_closed.wait()
    assert sum(data.count(b"INCR") for data in seen) == 1
    await redis.aclose()
    listening.close()
    await listening.wait_closed()


@pytest.mark.parametrize(
    "error",
    [
        AttributeError("'NoneType' object has no attribute 'writelines'"),
        RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_the_client_stumbles_over_is_a_loss_like_any_other(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """As over a connection that the failure of another call closes while it is being made: it comes about on machines
    that are busy, and has no error of its own."""

    async def stumble(*_arguments: object, **_options: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Redis, "execute_command", stumble)
        for _ in range(FAILURES):
            await world.hot.probe()
        assert world.hot.medium.name == "postgresql"
    await world.works_on("redis")


async def test_nothing_of_the_address_is_in_what_is_said_of_a_failure(tmp_path: Path) -> None:
    with running_valkey(tmp_path / "valkey", "--requirepass", "right") as server:
        for password in ("", "wrong-sesame@", ":wrong-sesame@", "nobody:wrong-sesame@"):
            redis = RedisHotState(f"redis://{password}127.0.0.1:{server.port}/0", "test", "a", PATIENCE)
            with pytest.raises(Unavailable) as refused:
                await redis.probe()
            assert "sesame" not in str(refused.value)
            await redis.aclose()


async def test_it_is_watched_without_being_asked(world: World) -> None:
    """On its own, without anything that is counted here."""
    watching = asyncio.create_task(world.hot.watch())

    async def is_on(medium: str) -> bool:
        return world.hot.medium.name == medium

    world.server.kill()
    await until(lambda: is_on("postgresql"), PATIENCE)
    world.server.start()
    await until(lambda: is_on("redis"), PATIENCE)
    watching.cancel()
    await asyncio.wait({watching})
