"""The agent: python -m benchmarks.bare_loop.agent ADDRESS inline|processes"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import sys
from multiprocessing.connection import Connection
from typing import Any

import grpc.aio
import uvloop

from benchmarks.bare_loop.outbox import Outbox
from benchmarks.bare_loop.wire import Step, Steps, services
from benchmarks.step_body import work

PROCESSES = 2


def run_step(step: Any) -> Any:
    inputs = json.loads(step.value)
    work(step.position)
    return Step(lease=step.lease, value=json.dumps({"value": inputs["value"] + 1}).encode())


class Inline:
    def __init__(self, results: Outbox) -> None:
        self._results = results

    def take(self, step: Any) -> None:
        self._results.put(run_step(step))


class StepProcess:
    """A warm process. It has one step at a time, and is told each with a message of its own."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other_end = context.Pipe()
        context.Process(target=serve, args=(other_end,), daemon=True).start()
        self._readable = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._readable.set)

    async def run(self, step: Any) -> Any:
        self._readable.clear()
        self._pipe.send_bytes(step.SerializeToString())
        await self._readable.wait()
        return Step.FromString(self._pipe.recv_bytes())


class InProcesses:
    """A task per step, which waits until a process is idle."""

    def __init__(self, results: Outbox) -> None:
        self._results = results
        self._idle: asyncio.Queue[StepProcess] = asyncio.Queue()
        self._running: set[asyncio.Task[None]] = set()
        for _ in range(PROCESSES):
            self._idle.put_nowait(StepProcess())

    def take(self, step: Any) -> None:
        task = asyncio.create_task(self._run(step))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, step: Any) -> None:
        process = await self._idle.get()
        self._results.put(await process.run(step))
        self._idle.put_nowait(process)


def serve(pipe: Connection) -> None:
    """The whole life of a step process: until the agent ends."""
    with contextlib.suppress(EOFError):
        while True:
            pipe.send_bytes(run_step(Step.FromString(pipe.recv_bytes())).SerializeToString())


MODES: dict[str, type[Inline] | type[InProcesses]] = {"inline": Inline, "processes": InProcesses}


async def main(address: str, mode: str) -> None:
    results = Outbox()
    executor = MODES[mode](results)
    async with grpc.aio.insecure_channel(address) as channel:
        call = services.BareLoopStub(channel).Connect()
        await call.write(Steps())
        sending = asyncio.create_task(send(call, results))
        while (batch := await call.read()) is not grpc.aio.EOF:
            for step in batch.steps:
                executor.take(step)
        sending.cancel()


async def send(call: Any, results: Outbox) -> None:
    while True:
        await call.write(await results.next_batch())


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
