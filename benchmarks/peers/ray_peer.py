"""Ray on this machine: remote functions of each other's results. Nothing is durable."""

from __future__ import annotations

import asyncio
from typing import Any

import ray

from benchmarks.contestants import answer_lines
from benchmarks.step_body import work
from benchmarks.workloads import CHAIN, FAN

PROCESSES = 2


@ray.remote
def advance(value: int, position: int) -> int:
    work(position)
    return value + 1


@ray.remote
def total(position: int, *values: int) -> int:
    work(position)
    return sum(values) + 1


class RaySubject:
    async def chain(self) -> None:
        value: Any = 0
        for position in range(CHAIN):
            value = advance.remote(value, position)
        assert await _get(value) == CHAIN

    async def fan(self) -> None:
        first = advance.remote(0, 0)
        parts = [advance.remote(first, position + 1) for position in range(FAN)]
        assert await _get(total.remote(FAN + 1, *parts)) == 2 * FAN + 1

    async def diamonds(self, count: int) -> None:
        assert await _get([_diamond() for _ in range(count)]) == [7] * count

    async def singles(self, count: int) -> None:
        assert await _get([advance.remote(0, 0) for _ in range(count)]) == [1] * count

    async def single(self) -> None:
        assert await _get(advance.remote(0, 0)) == 1


def _diamond() -> Any:
    top = advance.remote(0, 0)
    return total.remote(4, *(advance.remote(top, position) for position in (1, 2, 3)))


async def _get(references: Any) -> Any:
    return await asyncio.to_thread(ray.get, references)


async def main() -> None:
    ray.init(num_cpus=PROCESSES, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        await RaySubject().singles(100)
        await answer_lines(RaySubject())
    finally:
        ray.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
