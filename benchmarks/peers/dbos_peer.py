"""DBOS on PostgreSQL: durable workflows and steps, in this process."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from dbos import DBOS

from benchmarks.contestants import answer_lines
from benchmarks.peers.catalogue import SERVICE_VARIABLE
from benchmarks.step_body import work
from benchmarks.workloads import CHAIN, FAN

AT_ONCE = 200
"""Runs that are under way at once."""


@DBOS.step()
async def advance(value: int, position: int) -> int:
    work(position)
    return value + 1


@DBOS.workflow()
async def chain() -> int:
    value = 0
    for position in range(CHAIN):
        value = await advance(value, position)
    return value


@DBOS.workflow()
async def fan() -> int:
    first = await advance(0, 0)
    parts = await asyncio.gather(*(advance(first, position + 1) for position in range(FAN)))
    return await advance(sum(parts), FAN + 1)


@DBOS.workflow()
async def diamond() -> int:
    top = await advance(0, 0)
    sides = await asyncio.gather(*(advance(top, position) for position in (1, 2, 3)))
    return await advance(sum(sides), 4)


@DBOS.workflow()
async def single() -> int:
    return await advance(0, 0)


class DbosSubject:
    def __init__(self) -> None:
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def chain(self) -> None:
        assert await self._run(chain) == CHAIN

    async def fan(self) -> None:
        assert await self._run(fan) == 2 * FAN + 1

    async def diamonds(self, count: int) -> None:
        assert await asyncio.gather(*(self._run(diamond) for _ in range(count))) == [7] * count

    async def singles(self, count: int) -> None:
        assert await asyncio.gather(*(self._run(single) for _ in range(count))) == [1] * count

    async def single(self) -> None:
        assert await self._run(single) == 1

    async def _run(self, workflow: Any) -> Any:
        async with self._gate:
            handle = await DBOS.start_workflow_async(workflow)
            return await handle.get_result()


async def main() -> None:
    DBOS(config={"name": "peer", "system_database_url": os.environ[SERVICE_VARIABLE], "log_level": "ERROR"})
    DBOS.launch()
    try:
        await DbosSubject().singles(10)
        await answer_lines(DbosSubject())
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main())
