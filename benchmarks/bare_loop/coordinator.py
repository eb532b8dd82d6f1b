"""The coordinator: leases steps, commits their results, and runs the measured graphs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from benchmarks.bare_loop.outbox import Outbox
from benchmarks.bare_loop.store import Store
from benchmarks.bare_loop.wire import Step, services
from benchmarks.workloads import CHAIN, FAN

BEGIN = -1
"""The position under which the submission of a run is committed."""
WARM_UP_RUNS = 500


class Sessions(services.BareLoopServicer):  # type: ignore[misc]  # the class is made when wire is imported
    """The agent's stream."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self._leases = Outbox()
        self._results: dict[int, asyncio.Future[bytes]] = {}
        self._last_lease = 0

    def lease(self, run: uuid.UUID, position: int, value: int) -> asyncio.Future[bytes]:
        """The future is the step's result."""
        self._last_lease += 1
        result = asyncio.get_running_loop().create_future()
        self._results[self._last_lease] = result
        inputs = json.dumps({"value": value}).encode()
        self._leases.put(Step(lease=self._last_lease, run=str(run), position=position, value=inputs))
        return result

    async def Connect(self, requests: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:
        receiving = asyncio.create_task(self._receive(requests))
        try:
            while True:
                yield await self._leases.next_batch()
        finally:
            receiving.cancel()

    async def _receive(self, requests: AsyncIterator[Any]) -> None:
        async for batch in requests:
            self.connected.set()
            for step in batch.steps:
                self._results.pop(step.lease).set_result(step.value)


class BareLoop:
    """A `Subject`."""

    def __init__(self, sessions: Sessions, store: Store) -> None:
        self._sessions = sessions
        self._store = store

    async def chain(self) -> None:
        run, value = await self._begin(), 0
        for position in range(CHAIN):
            value = await self._step(run, position, value)
        assert value == CHAIN

    async def fan(self) -> None:
        run = await self._begin()
        first = await self._step(run, 0, 0)
        parts = await asyncio.gather(*(self._step(run, position + 1, first) for position in range(FAN)))
        assert await self._step(run, FAN + 1, sum(parts)) == 2 * FAN + 1

    async def diamonds(self, count: int) -> None:
        assert await asyncio.gather(*(self._diamond() for _ in range(count))) == [7] * count

    async def singles(self, count: int) -> None:
        await asyncio.gather(*(self.single() for _ in range(count)))

    async def single(self) -> None:
        assert await self._step(await self._begin(), 0, 0) == 1

    async def _diamond(self) -> int:
        run = await self._begin()
        top = await self._step(run, 0, 0)
        sides = await asyncio.gather(*(self._step(run, position, top) for position in (1, 2, 3)))
        return await self._step(run, 4, sum(sides))

    async def _begin(self) -> uuid.UUID:
        run = uuid.uuid4()
        await self._store.add(run, BEGIN, "{}")
        return run

    async def _step(self, run: uuid.UUID, position: int, value: int) -> int:
        """The result, once it is on disk."""
        result = (await self._sessions.lease(run, position, value)).decode()
        await self._store.add(run, position, result)
        answer: int = json.loads(result)["value"]
        return answer


@contextlib.asynccontextmanager
async def running_bare_loop(dsn: str, mode: str) -> AsyncIterator[BareLoop]:
    store, sessions = Store(), Sessions()
    await store.open(dsn, f"bare_loop_{mode}")
    server = grpc.aio.server()
    services.add_BareLoopServicer_to_server(sessions, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    agent = await asyncio.create_subprocess_exec(sys.executable, "-m", "benchmarks.bare_loop.agent", address, mode)
    try:
        await sessions.connected.wait()
        loop = BareLoop(sessions, store)
        await loop.singles(WARM_UP_RUNS)
        yield loop
    finally:
        agent.terminate()
        await agent.wait()
        await server.stop(None)
