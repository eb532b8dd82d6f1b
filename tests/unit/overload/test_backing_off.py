"""Clients and agents that are refused together do not come back together."""

from __future__ import annotations

import random

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped]  # no stubs
from grpc.aio import AioRpcError, Metadata

from penstock.client import calls
from penstock_agent.runtime import backoff

CROWD = 50


def refusal(seconds: float) -> AioRpcError:
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromNanoseconds(round(seconds * 1e9))
    packed = any_pb2.Any()
    packed.Pack(retry)
    code = code_pb2.Code.Value("RESOURCE_EXHAUSTED")
    status = status_pb2.Status(code=code, message="too much to do", details=[packed])
    trailing = Metadata(("grpc-status-details-bin", status.SerializeToString()))
    return AioRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, Metadata(), trailing, details="too much to do")


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    random.seed(20)


@pytest.mark.parametrize("seconds", [0.3, 1.0, 10.0])
@pytest.mark.parametrize("who", ["sdk", "agent"])
def test_a_crowd_is_spread_over_half_of_what_it_was_asked_to_wait_and_nobody_comes_sooner(
    seconds: float, who: str
) -> None:
    error = refusal(seconds)
    waits = sorted(
        calls.wait_before(2, error)
        if who == "sdk"
        else backoff.wait_before(1, random.random(), backoff.asked_to_wait(error))
        for _ in range(CROWD)
    )
    assert waits[0] >= seconds
    assert waits[-1] - waits[0] > 0.4 * seconds
    tenth = (waits[-1] - waits[0]) / 10
    busiest = max(sum(start <= wait < start + tenth for wait in waits) for start in waits)
    assert busiest <= CROWD // 4, "no tenth of the span has a quarter of them"


def test_without_a_delay_the_span_doubles_up_to_five_seconds() -> None:
    plain = AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata())
    assert backoff.asked_to_wait(plain) == 0.0
    for attempt, most in ((2, 0.2), (3, 0.4), (5, 1.6), (9, 5.0), (40, 5.0)):
        waits = [calls.wait_before(attempt, plain) for _ in range(500)]
        assert 0 <= min(waits) < most / 5
        assert most * 0.8 < max(waits) <= most
    assert [backoff.wait_before(failures, 1.0) for failures in (0, 1, 2, 3, 4, 5, 99)] == [0.5, 0.5, 1, 2, 4, 5, 5]
    assert backoff.wait_before(9, 0.0) == 0.0


def test_refusals_with_a_delay_are_tried_again_and_those_without_are_not() -> None:
    assert calls.may_retry(refusal(1.0))
    assert calls.may_retry(AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata()))
    assert not calls.may_retry(AioRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, Metadata(), Metadata()))
