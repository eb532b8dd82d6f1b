"""Making a call until it is answered: which failures are tried again, how long, and what is raised at last."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import grpc
import tenacity
from grpc.aio import AioRpcError

from penstock.client.status import retry_after, typed_error

if TYPE_CHECKING:
    from grpc.aio import UnaryStreamCall
    from tenacity import RetryCallState

    from penstock.client.coordinators import Coordinators

T = TypeVar("T")

INITIAL_WAIT = 0.1
MAX_WAIT = 5.0


def may_retry(error: BaseException) -> bool:
    """Calls carry a request id or change nothing, so what may not have arrived is sent again."""
    if not isinstance(error, AioRpcError):
        return False
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return True
    return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and retry_after(error) is not None


def wait_before(attempt: int, error: BaseException | None) -> float:
    """Seconds before try `attempt` (2 is the first repetition): full jitter, and never less than asked for. Those who
    were all asked for the same are spread over half as much again."""
    asked = (retry_after(error) if isinstance(error, AioRpcError) else None) or 0.0
    most = min(MAX_WAIT, INITIAL_WAIT * 2.0 ** min(attempt - 1, 16))
    return asked + random.uniform(0, max(most, asked / 2))  # noqa: S311


class Caller:
    """Makes calls to one of the coordinators: each within `deadline` seconds, and tried again for at most
    `retry_for`. When one of several does not answer the next is tried at once; after a whole round there is a pause."""

    def __init__(self, coordinators: Coordinators, deadline: float, retry_for: float) -> None:
        self._coordinators = coordinators
        self.address = ",".join(coordinators.addresses)
        self.deadline = deadline
        self.retry_for = min(retry_for, deadline)

    async def call(self, attempt: Callable[[float], Awaitable[T]], extra: float = 0) -> T:
        """`attempt` gets the seconds that are left, `extra` ones included. Raises a typed error."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.deadline + extra
        first: AioRpcError | None = None
        tries, elsewhere = 0, False

        async def once() -> T:
            nonlocal first, tries, elsewhere
            if first is not None:
                error, first = first, None
                raise error
            address = self._coordinators.current
            tries += 1
            try:
                made = attempt(max(end - loop.time(), 0.001))
                answer = await made
                await self._learn(made)
                return answer
            except AioRpcError as error:
                elsewhere = self._coordinators.failed(address, error)
                raise

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            return self._wait(tries, error, elsewhere=elsewhere)

        try:
            return await once()
        except AioRpcError as error:
            # Nearly all calls are answered at once, and need no machinery.
            first = error
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(may_retry),
            wait=wait,
            stop=tenacity.stop_before_delay(self.retry_for + extra),
            reraise=True,
        )
        try:
            return await retrying(once)
        except AioRpcError as error:
            raise typed_error(error, self.address) from error

    async def _learn(self, call: object) -> None:
        """Where it was answered, of several."""
        if self._coordinators.several and isinstance(call, grpc.aio.Call):
            self._coordinators.answered(await call.initial_metadata())

    def _wait(self, tries: int, error: BaseException | None, *, elsewhere: bool) -> float:
        """Before the next try, of which there were so many."""
        round_of = len(self._coordinators.addresses) + 1 if elsewhere else 1
        return 0.0 if tries % round_of else wait_before(tries // round_of + 1, error)

    async def stream(self, open_call: Callable[[], UnaryStreamCall[object, T]], patience: float) -> AsyncIterator[T]:
        """Messages of the stream that `open_call` opens and, after a break, opens again where it broke off.

        Ends when a stream ends without an error. Breaks of up to `patience` seconds are bridged.
        """
        loop = asyncio.get_running_loop()
        failures, failing_since = 0, 0.0
        while True:
            address = self._coordinators.current
            call = open_call()
            try:
                begun = False
                async for message in call:
                    failures = 0
                    if not begun:
                        begun = True
                        await self._learn(call)
                    yield message
                return
            except AioRpcError as error:
                failures += 1
                failing_since = loop.time() if failures == 1 else failing_since
                elsewhere = self._coordinators.failed(address, error)
                wait = self._wait(failures, error, elsewhere=elsewhere)
                if not may_retry(error) or loop.time() + wait - failing_since > patience:
                    raise typed_error(error, self.address) from error
                await asyncio.sleep(wait)
            finally:
                call.cancel()
