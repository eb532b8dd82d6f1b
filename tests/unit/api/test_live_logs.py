"""One reading for all who follow, and nobody misses a line."""

from __future__ import annotations

import asyncio

import pytest

from penstock_coordinator.ports import LogChunk, LogFilter, LogLine, Unavailable
from penstock_coordinator.runtime import live_logs
from penstock_coordinator.runtime.live_logs import LiveLogs

RUN = bytes(16)
PATIENCE = 60.0


class History:
    """Answers when it is let; what it answers is what was there when it was asked."""

    def __init__(self) -> None:
        self.kept: list[LogChunk] = []
        self.asked = 0
        self.knocked = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.away = False

    def write(self, text: str = "x") -> None:
        position = len(self.kept) + 1
        self.kept.append(LogChunk(RUN, 0, -1, 1, 1, (LogLine(1, position, 0, text),), position))

    async def read_logs(self, run_id: bytes, where: LogFilter, after: int = 0, limit: int = 100) -> list[LogChunk]:
        self.asked += 1
        found = [chunk for chunk in self.kept if chunk.position > after][:limit]
        self.knocked.set()
        await self.open.wait()
        if self.away:
            raise Unavailable
        return found


@pytest.fixture
def history() -> History:
    return History()


@pytest.fixture
def live(history: History) -> LiveLogs:
    return LiveLogs(history)  # type: ignore[arg-type]  # all it needs


async def positions(live: LiveLogs, after: int) -> list[int]:
    return [chunk.position for chunk in (await live.read(RUN, after)).chunks]


async def test_what_many_ask_for_is_read_once(history: History, live: LiveLogs) -> None:
    history.write()
    history.open.clear()
    asking = [asyncio.create_task(positions(live, 0)) for _ in range(10)]
    await history.knocked.wait()
    history.open.set()
    assert await asyncio.gather(*asking) == [[1]] * 10
    assert await positions(live, 0) == [1]
    assert history.asked == 1


async def test_nothing_new_is_asked_for_again(history: History, live: LiveLogs) -> None:
    assert await positions(live, 0) == []
    history.write()
    assert await positions(live, 0) == [1]
    history.write()
    assert await positions(live, 0) == [1], "and on from there"
    assert await positions(live, 1) == [2]


async def test_a_look_that_was_too_early_is_not_enough(history: History, live: LiveLogs) -> None:
    history.open.clear()
    early = asyncio.create_task(positions(live, 0))
    await history.knocked.wait()
    history.write()
    late = [asyncio.create_task(positions(live, 0)) for _ in range(3)]
    await asyncio.sleep(0)
    history.open.set()
    assert await asyncio.wait_for(early, PATIENCE) == []
    assert await asyncio.wait_for(asyncio.gather(*late), PATIENCE) == [[1]] * 3
    assert history.asked == 2


async def test_one_who_goes_does_not_take_it_from_the_others(history: History, live: LiveLogs) -> None:
    history.write()
    history.open.clear()
    going, staying = (asyncio.create_task(positions(live, 0)) for _ in range(2))
    await history.knocked.wait()
    going.cancel()
    await asyncio.wait({going})
    history.open.set()
    assert await asyncio.wait_for(staying, PATIENCE) == [1]


async def test_all_are_told_of_a_fault_and_may_ask_again(history: History, live: LiveLogs) -> None:
    history.away = True
    for _ in range(2):
        with pytest.raises(Unavailable):
            await live.read(RUN, 0)
    history.away = False
    history.write()
    assert await positions(live, 0) == [1]


async def test_what_is_kept_is_bounded(history: History, live: LiveLogs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_logs, "KEPT_CHARACTERS", 5_000)
    monkeypatch.setattr(live_logs, "READ_CHUNKS", 1)
    for _ in range(30):
        history.write("x" * 1_000)
    for after in range(30):
        assert await positions(live, after) == [after + 1]
    assert len(live._pages) == 4
    assert live._size <= 5_000
