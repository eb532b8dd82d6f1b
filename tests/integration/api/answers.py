"""Reading errors as a client does."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # the package has no stubs
from grpc_status import rpc_status

LONGEST_MESSAGE = 4_096


@dataclass
class Answer:
    code: grpc.StatusCode
    message: str
    reason: str = ""
    domain: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    violations: dict[str, str] = field(default_factory=dict)
    retry_seconds: float | None = None


def answer_of(error: grpc.aio.AioRpcError) -> Answer:
    answer = Answer(error.code(), error.details() or "")
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it reads code, details and metadata only
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            answer.reason, answer.domain, answer.metadata = info.reason, info.domain, dict(info.metadata)
        elif detail.Unpack(bad):
            answer.violations = {each.field: each.description for each in bad.field_violations}
        elif detail.Unpack(retry):
            answer.retry_seconds = retry.retry_delay.ToTimedelta().total_seconds()
    assert len(answer.message.encode()) < LONGEST_MESSAGE
    return answer


async def refused(call: Awaitable[Any]) -> Answer:
    """The call must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    answer = answer_of(caught.value)
    assert answer.code not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL), answer
    return answer
