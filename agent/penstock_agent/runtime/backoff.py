"""How long the agent waits before it asks a coordinator again that had no room for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc.aio
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # the package has no stubs
from grpc_status import rpc_status

FIRST, LONGEST = 0.5, 5.0
"""Seconds: the span that a wait is drawn from doubles from the one to the other."""


def wait_before(failures: int, chance: float, asked: float = 0.0) -> float:
    """Seconds before the next try after so many failures in a row: full jitter on top of what was asked for, so that
    agents that were refused together do not come back together."""
    most = min(LONGEST, FIRST * 2.0 ** min(max(failures - 1, 0), 16))
    return asked + chance * max(most, asked / 2)


def asked_to_wait(error: grpc.aio.AioRpcError) -> float:
    """Seconds of google.rpc.RetryInfo; 0 without one."""
    retry = error_details_pb2.RetryInfo()
    for detail in details_of(error):
        if detail.Unpack(retry):
            return float(retry.retry_delay.ToTimedelta().total_seconds())
    return 0.0


def details_of(error: grpc.aio.AioRpcError) -> Sequence[Any]:
    """Of an error: packed messages."""
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it reads code, details and metadata only
    except ValueError:  # the details contradict the code
        return ()
    return status.details if status else ()
