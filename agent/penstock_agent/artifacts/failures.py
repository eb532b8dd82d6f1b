"""How bringing bytes can fail, and for how long it is tried."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import grpc
import grpc.aio
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from penstock_agent.runtime.calls import CallLost, lost_when_cancelled

T = TypeVar("T")

REASON = "ArtifactStore"
"""Of attempts that fail because of their artifacts."""
MOST_REFUSALS = 4
"""Answers in a row that would come again: then it is given up."""
MOST_WASTED = 3
"""Times that all of it was brought, and was not right."""
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 3.0
_LASTING = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.DATA_LOSS,
    }
)
_EXPIRED = frozenset({401, 403, 404})
"""Also what a URL answers that is too old."""
_BUSY = frozenset({408, 425, 429})


class StoreFailure(Exception):
    """The bytes cannot be brought, or not in time. Says what and why."""


class Again(Exception):
    """It may succeed the next time. `refused`: the store was there, and said no."""

    def __init__(self, problem: str, *, refused: bool = False) -> None:
        super().__init__(problem)
        self.refused = refused


class Patience:
    """For one artifact: ends when nothing has moved for `seconds`, or when the store says no again and again."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._moved_at = time.monotonic()
        self._refusals = 0
        self._wasted = 0

    def moved(self) -> None:
        self._moved_at = time.monotonic()
        self._refusals = 0

    def wasted(self, problem: str) -> Exception:
        """All that was brought was in vain: what to raise."""
        self._wasted += 1
        return StoreFailure(f"{problem}, again and again") if self._wasted >= MOST_WASTED else Again(problem)

    async def run(self, what: str, work: Callable[[], Awaitable[T]]) -> T:
        """`work` until it raises no `Again`. Raises `StoreFailure`."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Again),
            wait=wait_exponential_jitter(initial=_FIRST_WAIT, max=_LONGEST_WAIT, jitter=_FIRST_WAIT),
            stop=self._is_over,
            reraise=True,
        )

        async def attempt() -> T:
            return await work()

        try:
            return await retrying(attempt)
        except Again as error:
            raise StoreFailure(f"{what}: {error}; tried for {self._idle():.0f} s without progress") from error

    def _is_over(self, state: RetryCallState) -> bool:
        error = None if state.outcome is None else state.outcome.exception()
        self._refusals += isinstance(error, Again) and error.refused
        return self._refusals >= MOST_REFUSALS or self._idle() > self._seconds

    def _idle(self) -> float:
        return time.monotonic() - self._moved_at


@asynccontextmanager
async def asking_coordinator(what: str) -> AsyncIterator[None]:
    """Raises `Again` and `StoreFailure` in place of the library's errors."""
    try:
        with lost_when_cancelled():
            yield
    except CallLost:
        raise Again("the connection to the coordinator was lost") from None
    except grpc.aio.AioRpcError as error:
        said = error.details() or error.code().name
        if error.code() in _LASTING:
            raise StoreFailure(f"{what}: {said}") from error
        raise Again(f"the coordinator says: {said}") from error


@asynccontextmanager
async def asking_store() -> AsyncIterator[None]:
    """Raises `Again` in place of the library's errors."""
    try:
        yield
    except TimeoutError as error:
        raise Again("the artifact store does not answer in time") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Again(f"the artifact store cannot be reached: {type(error).__name__}: {error}") from error


async def check_answer(answer: aiohttp.ClientResponse, *good: int) -> None:
    """Raises `Again`."""
    if answer.status in good:
        return
    said = (await answer.content.read(500)).decode(errors="replace").strip()
    lasting = answer.status < 500 and answer.status not in _EXPIRED | _BUSY
    raise Again(
        f"the artifact store answers {answer.status}: {said[:300]}", refused=lasting or answer.status in _EXPIRED
    )


async def together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All of them; with the first failure the others are cancelled, and it is raised when they have ended."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
