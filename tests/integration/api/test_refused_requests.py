"""What is refused is let go of at once, not when garbage is next collected."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest

from penstock_coordinator.api.errors import invalid
from penstock_coordinator.api.guard import CallGuard


class Large:
    """Stands for a request of many megabytes."""


class _Context:
    """As gRPC's: it keeps what `abort` raises, for the rest of the call."""

    aborted: BaseException | None = None

    def done(self) -> bool:
        return False

    def abort(self, *_status: object) -> Awaitable[None]:
        self.aborted = grpc.aio.AbortError("Locally aborted.")
        return _raised(self.aborted)


async def _raised(error: BaseException) -> None:
    """gRPC's frames have no locals, so this one must not have the context."""
    raise error


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_refused_request_is_free_when_the_call_is_over(streaming: bool) -> None:
    made: list[weakref.ref[Large]] = []

    def decode(_data: bytes) -> Large:
        request = Large()
        made.append(weakref.ref(request))
        return request

    async def one(request: Large, _context: object) -> None:
        raise invalid("field", "is wrong")

    async def many(request: Any, _context: object) -> Any:
        if request is not None:
            raise invalid("field", "is wrong")
        yield None

    kind = grpc.unary_stream_rpc_method_handler if streaming else grpc.unary_unary_rpc_method_handler
    handler: Any = kind(many if streaming else one, decode, None)

    async def continuation(_details: object) -> Any:
        return handler

    class Details:
        method = "/test"
        invocation_metadata = ()

    guarded: Any = await CallGuard().intercept_service(continuation, Details())  # type: ignore[arg-type]  # what it reads
    context = _Context()
    gc.disable()
    try:
        with pytest.raises(grpc.aio.AbortError):
            await (guarded.unary_stream if streaming else guarded.unary_unary)(b"", context)
        assert [found() for found in made] == [None]
        call = weakref.ref(context)
        del context
        assert call() is None, "nor does the call live on"
    finally:
        gc.enable()
