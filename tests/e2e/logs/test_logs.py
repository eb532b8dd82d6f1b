"""What steps print, from their processes to whoever reads: every line, in order, whoever is killed or away."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.e2e.logs import log_flows as flows
from tests.e2e.protocol.conftest import Process, System
from tests.waiting import until

from penstock import Client
from penstock.client.handles import RunHandle
from penstock.v1 import run_service_pb2 as pb

PATIENCE = 120.0
QUOTA = "100000000"


@asynccontextmanager
async def running(cluster: System, slots: int) -> AsyncIterator[tuple[Client, Process]]:
    coordinator = await cluster.coordinator()
    await cluster.agent("agent-1", slots=slots, PENSTOCK_AGENT_LOG_LINES=QUOTA, PENSTOCK_AGENT_LOG_BYTES=QUOTA)
    async with asyncio.timeout(2 * PATIENCE), cluster.client() as client:
        yield client, coordinator


def ready_in(folder: Path) -> int:
    return len(list(folder.glob("ready-*")))


async def start(client: Client, folder: Path, speakers: int, lines: int, pause: float = 0.0) -> RunHandle:
    """All are about to speak."""
    folder.mkdir()  # noqa: ASYNC240  # a moment
    arguments = {"speakers": list(range(speakers)), "lines": lines, "folder": str(folder), "pause": pause}
    run = await client.start(flows.talkers, arguments)

    async def ready() -> bool:
        return ready_in(folder) == speakers

    await until(ready, PATIENCE)
    return run


async def all_lines(client: Client, run: RunHandle, **options: Any) -> list[pb.LogLine]:
    return [line async for line in client.logs(run.id, **options)]


def check(lines: Iterable[pb.LogLine], speakers: int, count: int) -> None:
    """Each speaker's every line, once, in order: within each of the two streams, as those are two."""
    numbers: dict[int, list[int]] = defaultdict(list)
    said: dict[tuple[int, int], list[int]] = defaultdict(list)
    for line in lines:
        (speaker,) = line.item
        numbers[speaker].append(line.number)
        begin, _, number = line.text.rpartition(" ")
        assert begin == f"speaker {speaker} line"
        said[speaker, line.stream].append(int(number))
    assert sorted(numbers) == list(range(speakers))
    for speaker, found in numbers.items():
        assert found == list(range(1, count + 1)), f"the lines of speaker {speaker}"
        assert said[speaker, pb.LOG_STREAM_STDERR] == list(range(5, count + 1, 5))
        assert said[speaker, pb.LOG_STREAM_STDOUT] == [number for number in range(1, count + 1) if number % 5]


def packed(store: Path, run: RunHandle) -> list[Path]:
    return sorted((store / "blobs" / "logs" / run.id.replace("-", "")).glob("*"))


async def until_packed(store: Path, run: RunHandle, count: int = 1) -> None:
    async def is_packed() -> bool:
        return len(packed(store, run)) >= count

    await until(is_packed, PATIENCE)


async def test_twenty_steps_at_once_and_one_who_follows(cluster: System, store: Path, tmp_path: Path) -> None:
    speakers, count = 20, 2_000
    async with running(cluster, speakers) as (client, _):
        run = await start(client, tmp_path / "gate", speakers, count)
        following = [asyncio.create_task(all_lines(client, run, follow=True)) for _ in range(2)]
        (tmp_path / "gate" / "go").touch()
        await run.wait(raise_on_failure=True)
        first, second = await asyncio.gather(*following)
        check(first, speakers, count)
        check(second, speakers, count)
        await until_packed(store, run)
        check(await all_lines(client, run), speakers, count)
        await look(client, run, count)
        await remove(client, run, store)


async def look(client: Client, run: RunHandle, count: int) -> None:
    of_one = await all_lines(client, run, step="talk", item=7)
    assert [line.number for line in of_one] == list(range(1, count + 1))
    assert [line.number for line in await all_lines(client, run, step="talk", item=7, tail=30)] == list(
        range(count - 29, count + 1)
    )
    found = await all_lines(client, run, contains="LINE 1234", ignore_case=True)
    assert sorted(line.text for line in found) == sorted(f"speaker {each} line 1234" for each in range(20))
    assert await all_lines(client, run, step="talk", item=3, contains="speaker 4 ") == []
    middle = of_one[count // 2].receive_time.ToDatetime()
    since = await all_lines(client, run, step="talk", item=7, since=middle)
    assert [line.number for line in since] == [
        line.number for line in of_one if line.receive_time.ToDatetime() >= middle
    ]


async def remove(client: Client, run: RunHandle, store: Path) -> None:
    removed = 0

    async def gone() -> bool:
        """Of the last pack as well: it may be made when the first ones are gone."""
        nonlocal removed
        removed += (await client.run_janitor()).log_blobs
        return removed > 0 and packed(store, run) == [] and await all_lines(client, run) == []

    await until(gone, PATIENCE)


async def test_no_line_is_lost_when_the_coordinator_is_killed(cluster: System, store: Path, tmp_path: Path) -> None:
    speakers, count = 4, 1_500
    async with running(cluster, speakers) as (client, coordinator):
        run = await start(client, tmp_path / "gate", speakers, count, 0.002)
        seen: list[pb.LogLine] = []
        following = asyncio.create_task(follow(client, run, seen))
        (tmp_path / "gate" / "go").touch()
        for some in (500, 3_000):

            async def told(some: int = some) -> bool:
                assert not following.done(), "it ends when all have spoken"
                return len(seen) >= some

            await until(told, PATIENCE)
            await coordinator.kill()
            coordinator = await cluster.coordinator()
        (tmp_path / "gate" / "end").touch()
        await run.wait(raise_on_failure=True)
        await following
        check(await all_lines(client, run), speakers, count)
        check(seen, speakers, count)


async def follow(client: Client, run: RunHandle, seen: list[pb.LogLine]) -> None:
    async for line in client.logs(run.id, follow=True):
        seen.append(line)


async def test_lines_wait_in_the_database_while_the_store_is_away(cluster: System, store: Path, tmp_path: Path) -> None:
    speakers, count = 3, 2_000
    async with running(cluster, speakers) as (client, coordinator):
        blobs, aside = store / "blobs", tmp_path / "aside"
        blobs.rename(aside)
        blobs.symlink_to(tmp_path / "nowhere" / "blobs")
        run = await start(client, tmp_path / "gate", speakers, count)
        (tmp_path / "gate" / "go").touch()
        await run.wait(raise_on_failure=True)
        await coordinator.says("log_packs_postponed")
        check(await all_lines(client, run, follow=True), speakers, count)
        # In one move: between two the coordinator could make a folder of its own.
        back = tmp_path / "back"
        back.symlink_to(aside)
        back.replace(blobs)
        await coordinator.says("log_packs_go_on")
        await until_packed(store, run)
        check(await all_lines(client, run), speakers, count)
