"""Taskiq with Redis as broker and store of results. It keeps no state of graphs: they are driven by the client."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from benchmarks.contestants import answer_lines
from benchmarks.peers.catalogue import SERVICE_VARIABLE
from benchmarks.peers.worker import running
from benchmarks.step_body import work
from benchmarks.workloads import CHAIN, FAN

PROCESSES = 2
AT_ONCE = 200
"""Results that are waited for at once: each takes a connection."""
POLL_SECONDS = 0.005
results: RedisAsyncResultBackend[int] = RedisAsyncResultBackend(os.environ[SERVICE_VARIABLE])
# A read that waits for work may take as long as it takes.
broker = ListQueueBroker(os.environ[SERVICE_VARIABLE], socket_timeout=None).with_result_backend(results)


@broker.task(task_name="advance")
async def advance(value: int, position: int) -> int:
    work(position)
    return value + 1


class TaskiqSubject:
    def __init__(self) -> None:
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def chain(self) -> None:
        value = 0
        for position in range(CHAIN):
            value = await self._step(value, position)
        assert value == CHAIN

    async def fan(self) -> None:
        first = await self._step(0, 0)
        parts = await self._steps((first, position + 1) for position in range(FAN))
        assert await self._step(sum(parts), FAN + 1) == 2 * FAN + 1

    async def diamonds(self, count: int) -> None:
        assert await asyncio.gather(*(self._diamond() for _ in range(count))) == [7] * count

    async def singles(self, count: int) -> None:
        assert await self._steps((0, 0) for _ in range(count)) == [1] * count

    async def single(self) -> None:
        assert await self._step(0, 0) == 1

    async def _diamond(self) -> int:
        top = await self._step(0, 0)
        sides = await asyncio.gather(*(self._step(top, position) for position in (1, 2, 3)))
        return await self._step(sum(sides), 4)

    async def _steps(self, arguments: Iterable[tuple[int, int]]) -> list[int]:
        return await asyncio.gather(*(self._step(value, position) for value, position in arguments))

    async def _step(self, value: int, position: int) -> int:
        async with self._gate:
            task = await advance.kiq(value, position)
            return (await task.wait_result(check_interval=POLL_SECONDS)).return_value


async def main() -> None:
    await broker.startup()
    options = ["--workers", str(PROCESSES), "--log-level", "ERROR"]
    async with running("taskiq", "worker", "benchmarks.peers.taskiq_peer:broker", *options):
        await TaskiqSubject().singles(10)
        await answer_lines(TaskiqSubject())
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
