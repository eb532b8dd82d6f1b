"""Log lines on their way into the store: durable before shown, bounded, each once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from tests.waiting import until

from penstock_coordinator.adapters.memory import MemoryDatabase, memory_stores
from penstock_coordinator.ports import LogChunk, LogFilter, LogLine, LogStore, Unavailable
from penstock_coordinator.runtime import log_hub
from penstock_coordinator.runtime.log_hub import LogHub
from penstock_coordinator.runtime.views import Stopping

RUN = bytes(16)
PATIENCE = 60.0


def chunk(*numbers: int, attempt: int = 1, text: str = "x", run_id: bytes = RUN) -> LogChunk:
    return LogChunk(run_id, 0, -1, attempt, 1, tuple(LogLine(1, number, 0, f"{text}{number}") for number in numbers))


class Gate:
    """The store, with a door before it."""

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self.open = asyncio.Event()
        self.open.set()
        self.failures: list[Exception] = []
        self.refused = ""
        """Lines that begin so cannot be stored."""
        self.groups: list[int] = []
        self.knocked = asyncio.Event()

    async def append_logs(self, chunks: Sequence[LogChunk]) -> None:
        self.knocked.set()
        await self.open.wait()
        if self.failures:
            raise self.failures.pop(0)
        if self.refused and any(line.text.startswith(self.refused) for each in chunks for line in each.lines):
            raise RuntimeError("a fault")
        self.groups.append(len(chunks))
        await self._store.append_logs(chunks)

    async def read_logs(self, run_id: bytes, where: LogFilter, after: int = 0, limit: int = 100) -> list[LogChunk]:
        return await self._store.read_logs(run_id, where, after, limit)

    async def last_logs(self, run_id: bytes, where: LogFilter, limit: int) -> list[LogChunk]:
        return await self._store.last_logs(run_id, where, limit)

    async def numbers(self) -> list[int]:
        return [line.number for each in await self.read_logs(RUN, LogFilter()) for line in each.lines]


@asynccontextmanager
async def hub_on(gate: Gate, buffer_bytes: int = 1 << 20, attempt_bytes: int = 1 << 20) -> AsyncIterator[LogHub]:
    hub = LogHub(gate, buffer_bytes, attempt_bytes)
    hub.start()
    yield hub
    await hub.close(1.0)


@pytest.fixture
def gate() -> Gate:
    return Gate(memory_stores(MemoryDatabase(), coordinator_id="c1", lanes=1).logs)


async def test_flush_returns_when_all_is_durable(gate: Gate) -> None:
    async with hub_on(gate) as hub:
        gate.open.clear()
        assert await hub.put(chunk(1, 2)) == 2
        flushing = asyncio.create_task(hub.flush())
        await gate.knocked.wait()
        assert not flushing.done()
        assert await gate.numbers() == []
        gate.open.set()
        await asyncio.wait_for(flushing, PATIENCE)
        assert await gate.numbers() == [1, 2]


async def test_followers_are_told_after_the_lines_are_durable(gate: Gate) -> None:
    async with hub_on(gate) as hub:
        with hub.follow(RUN) as fresh, hub.follow(bytes(15) + b"x") as other:
            gate.open.clear()
            await hub.put(chunk(1))
            await gate.knocked.wait()
            assert not fresh.is_set()
            gate.open.set()
            await asyncio.wait_for(fresh.wait(), PATIENCE)
            assert await gate.numbers() == [1]
            assert not other.is_set()
        assert not hub._followers


async def test_what_gathers_during_a_write_goes_together(gate: Gate) -> None:
    async with hub_on(gate) as hub:
        gate.open.clear()
        await hub.put(chunk(1))
        await gate.knocked.wait()
        for number in range(2, 7):
            await hub.put(chunk(number))
        gate.open.set()
        await hub.flush()
        assert gate.groups == [1, 5]


async def test_a_full_buffer_holds_the_stream_up(gate: Gate) -> None:
    async with hub_on(gate, buffer_bytes=200) as hub:
        gate.open.clear()
        await hub.put(chunk(1, text="x" * 100))
        waiting = asyncio.create_task(hub.put(chunk(2, text="x" * 100)))
        await gate.knocked.wait()
        await asyncio.sleep(0)
        assert not waiting.done()
        gate.open.set()
        assert await asyncio.wait_for(waiting, PATIENCE) == 1
        await hub.flush()
        assert await gate.numbers() == [1, 2]


async def test_a_stream_that_goes_while_it_waits_may_send_its_lines_again(gate: Gate) -> None:
    async with hub_on(gate, buffer_bytes=200) as hub:
        gate.open.clear()
        await hub.put(chunk(1, text="x" * 100))
        waiting = asyncio.create_task(hub.put(chunk(2, text="x" * 100)))
        await gate.knocked.wait()
        waiting.cancel()
        await asyncio.wait({waiting})
        gate.open.set()
        assert await hub.put(chunk(2)) == 1
        await hub.flush()
        assert await gate.numbers() == [1, 2]


async def test_a_chunk_larger_than_the_buffer_goes_alone(gate: Gate) -> None:
    async with hub_on(gate, buffer_bytes=10) as hub:
        assert await asyncio.wait_for(hub.put(chunk(1, text="x" * 1_000)), PATIENCE) == 1
        await hub.flush()


async def test_an_absent_database_is_waited_for(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_hub, "FIRST_RETRY", 0.001)
    gate.failures = [Unavailable(), Unavailable()]
    async with hub_on(gate) as hub:
        await hub.put(chunk(1))
        await asyncio.wait_for(hub.flush(), PATIENCE)
        assert await gate.numbers() == [1]


async def test_a_fault_of_the_store_that_passes_costs_nothing(gate: Gate) -> None:
    gate.failures = [RuntimeError("a fault")]
    async with hub_on(gate) as hub:
        await hub.put(chunk(1))
        await hub.flush()
        await hub.put(chunk(2))
        await hub.flush()
        assert await gate.numbers() == [1, 2]


async def test_lines_that_cannot_be_stored_cost_no_others_and_are_told_of(gate: Gate) -> None:
    gate.refused = "bad"
    gate.open.clear()
    async with hub_on(gate) as hub:
        await hub.put(chunk(1))
        for each in (chunk(2), chunk(3, 4, text="bad"), chunk(5), chunk(1, attempt=2), chunk(6)):
            await hub.put(each)
        gate.open.set()
        await hub.flush()
        kept = [line for each in await gate.read_logs(RUN, LogFilter(attempt=1)) for line in each.lines]
        assert [line.number for line in kept] == [1, 2, 4, 5, 6]
        assert (kept[2].source, kept[2].text) == (log_hub.SYSTEM, "2 lines are missing here: they could not be stored")
        assert len(await gate.read_logs(RUN, LogFilter(attempt=2))) == 1


async def test_each_line_is_taken_once(gate: Gate) -> None:
    async with hub_on(gate) as hub:
        assert await hub.put(chunk(1, 2, 3)) == 3
        assert await hub.put(chunk(2, 3, 5)) == 1
        assert await hub.put(chunk(1, 2, attempt=2)) == 2
        assert await hub.put(chunk(4)) == 0
        await hub.flush()
        assert await gate.numbers() == [1, 2, 3, 5, 1, 2]


async def test_past_its_bound_an_attempts_log_is_cut_and_says_so(gate: Gate) -> None:
    async with hub_on(gate, attempt_bytes=300) as hub:
        for number in range(1, 11):
            await hub.put(chunk(number, text="x" * 50))
        assert await hub.put(chunk(1, attempt=2)) == 1
        await hub.flush()
        lines = [line for each in await gate.read_logs(RUN, LogFilter(attempt=1)) for line in each.lines]
        assert [line.number for line in lines] == [1, 2, 3, 4]
        assert lines[-1].source == log_hub.SYSTEM
        assert "cut off" in lines[-1].text


async def test_a_long_line_is_shortened(gate: Gate) -> None:
    async with hub_on(gate) as hub:
        await hub.put(chunk(1, text="x" * (log_hub.LINE_CHARACTERS + 1)))
        await hub.flush()
        ((line,),) = [each.lines for each in await gate.read_logs(RUN, LogFilter())]
        assert len(line.text) == log_hub.LINE_CHARACTERS


async def test_attempts_that_are_long_gone_are_forgotten(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_hub, "KNOWN_ATTEMPTS", 10)
    async with hub_on(gate) as hub:
        for attempt in range(1, 50):
            await hub.put(chunk(1, attempt=attempt))
        assert len(hub._attempts) == 10


async def test_a_close_writes_what_is_there_and_takes_no_more(gate: Gate) -> None:
    hub = LogHub(gate, 1 << 20, 1 << 20)
    hub.start()
    await hub.put(chunk(1))
    await hub.close(PATIENCE)
    assert await gate.numbers() == [1]
    with pytest.raises(Stopping):
        await hub.put(chunk(2))


async def test_a_close_does_not_wait_for_ever(gate: Gate) -> None:
    hub = LogHub(gate, 200, 1 << 20)
    hub.start()
    gate.open.clear()
    await hub.put(chunk(1, text="x" * 100))
    held_up = asyncio.create_task(hub.put(chunk(2, text="x" * 100)))
    flushing = asyncio.create_task(hub.flush())

    async def both_wait() -> bool:
        return len(hub._progress._waiters) == 2

    await until(both_wait)
    await asyncio.wait_for(hub.close(0.01), PATIENCE)
    for waiting in (held_up, flushing):
        with pytest.raises(Stopping):
            await waiting


async def test_the_last_lines_of_an_attempt_are_expected_until_they_are_durable(gate: Gate) -> None:
    everything, other = LogFilter(), LogFilter(step=3)
    async with hub_on(gate) as hub:
        await hub.put(chunk(1, 2))
        await hub.flush()
        key = (RUN, 0, -1, 1)
        hub.expect(key, 2)
        assert not hub.expects(RUN, everything), "they are there"
        hub.expect(key, 4)
        assert hub.expects(RUN, everything)
        assert hub.expects(RUN, LogFilter(step=0, item=-1, attempt=1))
        assert not hub.expects(RUN, other)
        assert not hub.expects(bytes(15) + b"x", everything)
        await hub.put(chunk(3))
        await hub.flush()
        assert hub.expects(RUN, everything)
        gate.open.clear()
        gate.knocked.clear()
        await hub.put(chunk(4))
        await gate.knocked.wait()
        assert hub.expects(RUN, everything), "it has come, and is not durable"
        gate.open.set()
        await hub.flush()
        assert not hub.expects(RUN, everything)


async def test_of_a_log_that_was_cut_no_last_line_is_expected(gate: Gate) -> None:
    async with hub_on(gate, attempt_bytes=100) as hub:
        await hub.put(chunk(*range(1, 20)))
        hub.expect((RUN, 0, -1, 1), 19)
        await hub.flush()
        assert not hub.expects(RUN, LogFilter())


async def test_what_is_expected_is_bounded(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_hub, "MOST_EXPECTED", 3)
    async with hub_on(gate) as hub:
        for attempt in range(1, 9):
            hub.expect((RUN, 0, -1, attempt), 1)
        assert [key[3] for key in hub._expected] == [6, 7, 8]


async def test_a_hub_that_is_held_takes_nothing_until_it_is_let_go(gate: Gate) -> None:
    async with hub_on(gate) as hub:
        hub.hold(True)
        waiting = asyncio.create_task(hub.put(chunk(1)))
        await asyncio.sleep(0)
        assert not waiting.done()
        hub.hold(False)
        assert await asyncio.wait_for(waiting, PATIENCE) == 1
        await hub.flush()
        assert await gate.numbers() == [1]
