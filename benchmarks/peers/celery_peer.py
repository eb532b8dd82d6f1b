"""Celery with Redis as broker and store of results: chains, groups and chords."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from celery import Celery, chain, group

from benchmarks.contestants import answer_lines
from benchmarks.peers.catalogue import SERVICE_VARIABLE
from benchmarks.peers.worker import running
from benchmarks.step_body import work
from benchmarks.workloads import CHAIN, FAN

PROCESSES = 2
app = Celery("peer", broker=os.environ[SERVICE_VARIABLE], backend=os.environ[SERVICE_VARIABLE])


@app.task(name="advance")
def advance(value: int, position: int) -> int:
    work(position)
    return value + 1


@app.task(name="total")
def total(values: list[int], position: int) -> int:
    work(position)
    return sum(values) + 1


class CelerySubject:
    async def chain(self) -> None:
        steps = chain(advance.s(0, 0), *(advance.s(position) for position in range(1, CHAIN)))
        assert await _result(steps) == CHAIN

    async def fan(self) -> None:
        parts = group(advance.s(position + 1) for position in range(FAN))
        assert await _result(chain(advance.s(0, 0), parts, total.s(FAN + 1))) == 2 * FAN + 1

    async def diamonds(self, count: int) -> None:
        def diamond() -> Any:
            return chain(advance.s(0, 0), group(advance.s(position) for position in (1, 2, 3)), total.s(4))

        assert await asyncio.to_thread(_all, [diamond() for _ in range(count)]) == [7] * count

    async def singles(self, count: int) -> None:
        assert await asyncio.to_thread(_all, [advance.s(0, 0) for _ in range(count)]) == [1] * count

    async def single(self) -> None:
        assert await _result(advance.s(0, 0)) == 1


async def _result(signature: Any) -> Any:
    return await asyncio.to_thread(lambda: signature.apply_async().get())


def _all(signatures: list[Any]) -> list[Any]:
    started = [signature.apply_async() for signature in signatures]
    return [each.get() for each in started]


async def main() -> None:
    options = ["--concurrency", str(PROCESSES), "--loglevel", "error", "--without-gossip", "--without-mingle"]
    async with running("celery", "-A", "benchmarks.peers.celery_peer", "worker", *options):
        await CelerySubject().singles(10)
        await answer_lines(CelerySubject())


if __name__ == "__main__":
    asyncio.run(main())
