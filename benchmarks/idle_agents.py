"""Agents that have nothing to do: python -m benchmarks.idle_agents ADDRESS FIRST COUNT

Sends heartbeats for each as often as the coordinator asks for them. Says "ready" when all are welcome, and stays until
its standard input ends.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from benchmarks.contestants import READY
from benchmarks.sessions import Session

AT_ONCE = 20


async def main(address: str, first: int, count: int) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def opened(session: Session) -> float:
        async with gate:
            return await session.open()

    sessions = [Session(address, f"idle-{number}") for number in range(first, first + count)]
    intervals = await asyncio.gather(*map(opened, sessions))
    staying = [asyncio.ensure_future(one.stay(interval)) for one, interval in zip(sessions, intervals, strict=True)]
    sys.stdout.write(READY + "\n")
    sys.stdout.flush()
    leaving = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    done, _ = await asyncio.wait([leaving, *staying], return_when=asyncio.FIRST_COMPLETED)
    for task in staying:
        if task in done:
            task.result()
        task.cancel()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
