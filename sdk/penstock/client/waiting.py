"""Waiting for runs to come to rest: those that are waited for at the same time share a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from penstock.client.calls import INITIAL_WAIT
from penstock.errors import InvalidArgumentError, NotFoundError
from penstock.v1 import run_pb2, run_service_pb2

if TYPE_CHECKING:
    from penstock.client.calls import Caller

MAX_RUNS = 1_000
"""Of one call."""

Waits: TypeAlias = "dict[str, list[asyncio.Future[run_pb2.Run]]]"


class RestWaits:
    """Waits that begin in one turn of the event loop go out together."""

    def __init__(
        self, caller: Caller, open_wait: Callable[[run_service_pb2.WaitManyRunsRequest], Any], patience: float
    ) -> None:
        self._caller = caller
        self._open_wait = open_wait
        self._patience = patience
        self._next: Waits = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def wait(self, run_id: str) -> run_pb2.Run:
        """The run at rest. Raises typed errors."""
        loop = asyncio.get_running_loop()
        if not self._next:
            loop.call_soon(self._leave)
        future: asyncio.Future[run_pb2.Run] = loop.create_future()
        self._next.setdefault(run_id.lower(), []).append(future)
        return await future

    def close(self) -> None:
        """Whoever still waits is cancelled."""
        for task in self._tasks:
            task.cancel()

    def _leave(self) -> None:
        waits, self._next = self._next, {}
        run_ids = list(waits)
        for start in range(0, len(run_ids), MAX_RUNS):
            self._begin({run_id: waits[run_id] for run_id in run_ids[start : start + MAX_RUNS]})

    def _begin(self, waits: Waits) -> None:
        task = asyncio.get_running_loop().create_task(self._follow(waits))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        open_waits = {future for each in waits.values() for future in each}

        def note(future: asyncio.Future[run_pb2.Run]) -> None:
            open_waits.discard(future)
            if not open_waits and waits:
                # What is left is waited for by nobody any more.
                task.cancel()

        for future in list(open_waits):
            future.add_done_callback(note)

    async def _follow(self, waits: Waits) -> None:
        """Until all of them are told."""

        def open_call() -> Any:
            return self._open_wait(run_service_pb2.WaitManyRunsRequest(run_ids=list(waits)))

        try:
            while waits:
                async for response in self._caller.stream(open_call, self._patience):
                    for run in response.runs:
                        _tell(waits.pop(run.id, []), run)
                if waits:
                    await asyncio.sleep(INITIAL_WAIT)
        except (NotFoundError, InvalidArgumentError) as error:
            self._part(waits, error)
        except Exception as error:
            for futures in waits.values():
                _fail(futures, error)
        finally:
            for futures in waits.values():
                for future in futures:
                    future.cancel()

    def _part(self, waits: Waits, error: Exception) -> None:
        """One of them cannot be waited for, which is no matter of the others: each goes alone."""
        alone = list(waits.items())
        waits.clear()
        if len(alone) == 1:
            _fail(alone[0][1], error)
            return
        for run_id, futures in alone:
            self._begin({run_id: [future for future in futures if not future.done()]})


def _tell(futures: list[asyncio.Future[run_pb2.Run]], run: run_pb2.Run) -> None:
    for future in futures:
        if not future.done():
            future.set_result(run)


def _fail(futures: list[asyncio.Future[run_pb2.Run]], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
