"""Dramatiq with Redis as broker and store of results. It keeps no state of graphs: a fan is driven by the client."""

from __future__ import annotations

import asyncio
import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.contestants import answer_lines
from benchmarks.peers.catalogue import SERVICE_VARIABLE
from benchmarks.peers.worker import running
from benchmarks.step_body import work
from benchmarks.workloads import CHAIN, FAN

PROCESSES = 2
PATIENCE_MS = 120_000
broker = RedisBroker(url=os.environ[SERVICE_VARIABLE])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ[SERVICE_VARIABLE])))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def first(position: int) -> list[int]:
    work(position)
    return [1, position + 1]


@dramatiq.actor(store_results=True)
def advance(before: list[int]) -> list[int]:
    """Value and position, as a pipeline passes one argument on."""
    value, position = before
    work(position)
    return [value + 1, position + 1]


class DramatiqSubject:
    async def chain(self) -> None:
        def run() -> list[int]:
            steps = dramatiq.pipeline([first.message(0), *(advance.message() for _ in range(CHAIN - 1))]).run()
            result: list[int] = steps.get_result(block=True, timeout=PATIENCE_MS)
            return result

        assert await asyncio.to_thread(run) == [CHAIN, CHAIN]

    async def fan(self) -> None:
        def run() -> int:
            value, _ = first.send(0).get_result(block=True, timeout=PATIENCE_MS)
            parts = dramatiq.group([advance.message([value, position + 1]) for position in range(FAN)]).run()
            total = sum(part for part, _ in parts.get_results(block=True, timeout=PATIENCE_MS))
            result: int = advance.send([total, FAN + 1]).get_result(block=True, timeout=PATIENCE_MS)[0]
            return result

        assert await asyncio.to_thread(run) == 2 * FAN + 1

    async def diamonds(self, count: int) -> None:
        raise NotImplementedError("Dramatiq has no state of graphs")

    async def singles(self, count: int) -> None:
        def run() -> None:
            for message in [first.send(0) for _ in range(count)]:
                message.get_result(block=True, timeout=PATIENCE_MS)

        await asyncio.to_thread(run)

    async def single(self) -> None:
        await self.singles(1)


async def main() -> None:
    options = ["--processes", str(PROCESSES), "--threads", "1"]
    async with running("dramatiq", "benchmarks.peers.dramatiq_peer", *options):
        await DramatiqSubject().singles(10)
        await answer_lines(DramatiqSubject())


if __name__ == "__main__":
    asyncio.run(main())
