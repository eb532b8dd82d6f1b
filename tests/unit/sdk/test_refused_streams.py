"""What a call is told that a connection with too many calls did not take."""

from __future__ import annotations

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from penstock import errors
from penstock.client.status import typed_error


def unavailable(details: str) -> errors.ServiceError:
    error = AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), details=details)
    return typed_error(error, "127.0.0.1:7233")


def test_a_refused_stream_is_too_many_calls() -> None:
    found = unavailable("Stream removed (RST_STREAM (Received RST_STREAM with error code 7))")
    assert isinstance(found, errors.UnavailableError), "it is repeated as all that is"
    assert "more calls under way than it may, 1,000" in str(found)
    assert "repeat it" in str(found)
    assert "no coordinator" not in str(found)


@pytest.mark.parametrize(
    "details",
    ["failed to connect to all addresses", "Stream removed (RST_STREAM (Received RST_STREAM with error code 2))"],
)
def test_all_else_is_nobody_who_answers(details: str) -> None:
    assert "no coordinator answers at 127.0.0.1:7233" in str(unavailable(details))
