"""Dask's distributed scheduler on this machine: futures of futures. Nothing is durable."""

from __future__ import annotations

import asyncio
from typing import Any

from distributed import Client, LocalCluster

from benchmarks.contestants import answer_lines
from benchmarks.step_body import work
from benchmarks.workloads import CHAIN, FAN

PROCESSES = 2


def advance(value: int, position: int) -> int:
    work(position)
    return value + 1


def total(values: list[int], position: int) -> int:
    work(position)
    return sum(values) + 1


class DaskSubject:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def chain(self) -> None:
        value: Any = 0
        for position in range(CHAIN):
            value = self._step(advance, value, position)
        assert await value == CHAIN

    async def fan(self) -> None:
        first = self._step(advance, 0, 0)
        parts = [self._step(advance, first, position + 1) for position in range(FAN)]
        assert await self._step(total, parts, FAN + 1) == 2 * FAN + 1

    async def diamonds(self, count: int) -> None:
        assert await self._client.gather([self._diamond() for _ in range(count)]) == [7] * count

    async def singles(self, count: int) -> None:
        steps = [self._step(advance, 0, 0) for _ in range(count)]
        assert await self._client.gather(steps) == [1] * count

    async def single(self) -> None:
        assert await self._step(advance, 0, 0) == 1

    def _diamond(self) -> Any:
        top = self._step(advance, 0, 0)
        return self._step(total, [self._step(advance, top, position) for position in (1, 2, 3)], 4)

    def _step(self, function: Any, *arguments: Any) -> Any:
        return self._client.submit(function, *arguments, pure=False)


async def main() -> None:
    cluster = LocalCluster(
        n_workers=PROCESSES, threads_per_worker=1, dashboard_address=None, asynchronous=True, silence_logs=50
    )
    async with cluster, Client(cluster, asynchronous=True) as client:
        subject = DaskSubject(client)
        await subject.singles(100)
        await answer_lines(subject)


if __name__ == "__main__":
    asyncio.run(main())
